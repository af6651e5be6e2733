"""Labelled transitions: which episodes of a log tell nothing of what the robot did."""

import numpy as np

from calibration.transitions import Transitions, blind_episodes


def test_an_episode_is_blind_where_the_robot_moves_and_the_picture_does_not() -> None:
    rng, rows = np.random.default_rng(0), 20
    frames = rng.integers(0, 250, (1, 8, 8, 3)) + rng.integers(0, 5, (4 * rows, 8, 8, 3))  # a still picture flickers
    frames[rows + 7, 3, 4] += 90 - 180 * (frames[rows + 7, 3, 4] > 120)  # something small passes in episode 1
    proprio = rng.uniform(-1, 1, (4 * rows, 2))
    proprio[3 * rows :] = 0.02 * proprio[3 * rows :]  # a robot that rests explains a still picture
    transitions = Transitions(
        frames.astype(np.uint8),
        proprio.astype(np.float32),
        np.zeros((4 * rows, 1, 2), np.float32),
        np.repeat(np.arange(4, dtype=np.int32), rows),
        1,
        np.zeros((4 * rows, 2), np.float32),
    )
    assert blind_episodes(transitions) == [0, 2]


def test_only_episodes_that_hold_a_window_are_counted() -> None:
    episode = np.repeat(np.arange(3, dtype=np.int32), [11, 1, 7])
    rows = len(episode)
    nothing = np.zeros((rows, 1), np.float32)
    frames, chunks = np.zeros((rows, 2, 2, 3), np.uint8), np.zeros((rows, 2, 1), np.float32)
    log = Transitions(frames, nothing, chunks, episode, 2, nothing)
    assert log.episodes(4).tolist() == [0, 2] and log.episodes(6).tolist() == [0]
    for length in (4, 6):
        found = log.windows(length, np.arange(3))
        assert set(episode[found[:, 0]]) == set(log.episodes(length))
