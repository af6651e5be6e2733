"""What calibration never saw is noticed in flight: another picture, and a body that does not do what it did."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.runtime.controller import Controller, Plan
from deploy.runtime.familiar import Expectations
from deploy.runtime.loop import run_loop
from deploy.runtime.recorder import FlightLog, read_episodes
from deploy.runtime.safety import UNEXPECTED_OUTCOME, UNFAMILIAR_IMAGE, Safety
from robot_wm.contracts import config
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.familiar import Familiar
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import IMAGINING_PLAN, colour, make_spec, write_bundle
from tests.unit.test_runtime_loop import ListRobot

# Two commands, four ticks per step, four entries of proprio: positions move with the commands of the step itself.
_MOVES = np.zeros((4, 2 * 8 + 4 + 1))
_MOVES[0, 8:16:2] = _MOVES[1, 9:16:2] = 0.05
FAMILIAR = Familiar(
    mean=(0.5, 0.0, 0.0),
    directions=((10.0, 0.0, 0.0),),
    rest=0.1,
    farthest=2.0,
    step=tuple(tuple(row) for row in _MOVES.tolist()),
    worst=(0.02, 0.02, 1.0, 1.0),
)


def test_distance_counts_in_the_spread_of_the_log() -> None:
    found = Expectations(FAMILIAR, 4)
    assert found.look(np.array([0.5, 0, 0], np.float32)) == 0
    assert found.look(np.array([0.9, 0, 0], np.float32)) == pytest.approx(4 / np.sqrt(2) / 2)
    assert found.look(np.array([0.5, 0.4, 0], np.float32)) == pytest.approx(4 / np.sqrt(2) / np.sqrt(2) / 2)


def test_a_step_that_does_what_the_log_did_misses_nothing_and_a_blocked_one_does() -> None:
    found, place = Expectations(FAMILIAR, 4), 0.0
    misses = []
    for tick in range(24):
        misses.append(found.reach(np.array([place, 0, 0, 0], np.float32)))
        found.sent(np.array([1.0, 0.0]))
        place += 0.05 if tick < 16 else 0.0  # then it is blocked
    assert misses[:8] == [0.0] * 8, "two steps have to go by first"
    assert max(misses[8:17]) < 1e-4
    assert misses[20] == pytest.approx(0.2 / 0.02, rel=1e-4), "4 ticks of 0.05"


def known(**limits: Any) -> ControllerSpec:
    spec = make_spec(familiar=FAMILIAR)
    return replace(spec, safety=replace(spec.safety, **limits))


def test_guards_answer_and_go_on() -> None:
    safety = Safety(known(max_unexpected=5.0))
    found, place = [], 0.0
    for tick in range(24):
        seen = Observation(colour(0, tick / 24, 0), np.array([place, 0, 0, 0], np.float32), tick / 20)
        found.append(safety.check_observation(seen, tick / 20, False))
        safety.sent(np.array([1.0, 0.0]))
        place += 0.05 if tick < 16 else 0.0
    assert found.count(UNEXPECTED_OUTCOME) == 1, "then it stands still, and is judged anew"
    assert found[19] == UNEXPECTED_OUTCOME
    plan = Plan(np.zeros((4, 2)), 0.0, 0.0, 0.0, 0.0, np.array([0.7, 0, 0], np.float32))
    assert safety.check_plan(plan, 0.0) is None
    assert safety.check_plan(replace(plan, latent_D=np.array([1.5, 0, 0], np.float32)), 0.0) == UNFAMILIAR_IMAGE


def test_fits_of_a_log_expect_what_it_did_and_no_more() -> None:
    from deploy.export.familiarity import fit_steps  # needs torch; what runs on a robot does not

    rng = np.random.default_rng(0)
    inputs = np.hstack([rng.normal(size=(400, 6)), np.ones((400, 1))])
    truth = rng.normal(size=(2, 7))
    seen = np.arange(400) < 300
    step, worst = fit_steps(inputs, inputs @ truth.T + 0.01 * rng.uniform(-1, 1, (400, 2)), seen)
    assert step == pytest.approx(truth, abs=0.02)
    assert worst == pytest.approx([0.01, 0.01], abs=0.02)


def _known(images: Any) -> Expectations:
    rows = tuple(tuple(row) for row in images.directions.tolist())
    return Expectations(
        replace(FAMILIAR, mean=tuple(images.mean), rest=images.rest, farthest=images.farthest, directions=rows), 4
    )


def test_false_alarms_are_as_rare_as_stated() -> None:
    from deploy.export import familiarity

    rng = np.random.default_rng(0)
    deviations = np.array([1.0, 0.7, 0.5, 0.2, 0.05, 0.02])
    drawn = rng.normal(size=(1000, 6)) * deviations
    images = familiarity.fit_images(drawn, np.repeat(np.arange(10), 100))
    known, others = _known(images), rng.normal(size=(20_000, 6)) * deviations
    surprise = np.array([known.look(z) for z in others])
    assert surprise == pytest.approx(images.distances(others) / images.farthest, rel=1e-4), "export counts as flights"
    alarms = (surprise > Safety(make_spec())._settings.max_surprise).mean()
    assert 0.0002 < alarms < 0.006, "one in 500, known from two images of a thousand"


def test_episodes_that_differ_widen_what_is_familiar() -> None:
    from deploy.export.familiarity import fit_images

    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(10), 60)
    alike = rng.normal(size=(600, 4))
    differ = alike + 3 * rng.normal(size=(10, 4))[episode]
    told, blurred = (fit_images(differ, which).farthest for which in (episode, np.zeros(600, int)))
    assert told > 1.1 * fit_images(differ[rng.permutation(600)], episode).farthest, "whole episodes are held out"
    assert blurred == pytest.approx(told), "of one long episode, stretches of time"


def test_a_picture_unlike_all_that_was_seen_trips_the_guard() -> None:
    from deploy.export.familiarity import fit_images

    rng = np.random.default_rng(0)
    latents = rng.normal(size=(400, 3)) @ np.diag([1.0, 0.3, 0.0]) + 5
    images = fit_images(latents, np.repeat(np.arange(8), 50))
    spec = make_spec(familiar=replace(FAMILIAR, mean=tuple(images.mean), rest=images.rest, farthest=images.farthest,
                                      directions=tuple(map(tuple, images.directions.tolist()))))  # fmt: skip
    safety, plan = Safety(spec), Plan(np.zeros((4, 2)), 0.0, 0.0, 0.0, 0.0, np.zeros(3, np.float32))
    trips = [safety.check_plan(replace(plan, latent_D=z.astype(np.float32)), 0.0) for z in latents]
    assert trips.count(UNFAMILIAR_IMAGE) <= 1
    for away in ([0, 0, 1.0], [8.0, 0, 0], [-5.0, -5.0, -5.0]):
        strange = (images.mean + np.array(away)).astype(np.float32)
        assert safety.check_plan(replace(plan, latent_D=strange), 0.0) == UNFAMILIAR_IMAGE


def test_who_does_not_look_is_not_judged_and_old_bundles_fly() -> None:
    assert Safety(known(), sees=False).expectations is None
    assert Safety(make_spec()).expectations is None


def test_the_flight_log_keeps_what_was_known(tmp_path: Path) -> None:
    spec = replace(known(max_surprise=100.0, max_unexpected=1e6), schema=3)
    controller = Controller(write_bundle(tmp_path / "bundle", spec, plan=IMAGINING_PLAN), num_threads=1)
    controller.set_goal(colour(1, 0, 0))
    log = FlightLog(tmp_path / "flight", spec)
    log.begin()
    run_loop(controller, ListRobot(), 10, Safety(spec), log)
    log.close()
    rows = read_episodes(tmp_path / "flight")[0].rows_L
    plans = np.isin(np.arange(10), (0, 4, 8))
    assert np.array_equal(np.isfinite(rows["surprise"]), plans)
    assert rows["surprise"][0] == pytest.approx(Expectations(FAMILIAR, 4).look(np.zeros(3, np.float32)))
    assert rows["imagination_error"][[4, 8]].tolist() == [0, 0], "black stays black, as imagined"
    assert np.isnan(rows["imagination_error"][~plans]).all() and np.isnan(rows["imagination_error"][0])
    assert (rows["miss"][:8] == 0).all() and rows["miss"][9] > 0, "the robot does not move, against all that was logged"


def test_the_bundle_carries_it() -> None:
    values = config.to_mapping(known())
    assert config.from_mapping(ControllerSpec, values, "controller.json") == known()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean": (0.5, 0.0)}, "familiar.mean has rows of [2] values. It takes 3"),
        ({"directions": ((1.0, 0.0, 0.0), (1.0,))}, "familiar.directions has rows of [1, 3] values"),
        ({"directions": ((0.0, 0.0, 0.0),)}, "a row of familiar.directions is zero"),
        ({"step": FAMILIAR.step[:3]}, "familiar.step has 3 rows. It takes 4"),
        ({"worst": (0.1, 0.1, 0.0, 0.1)}, "familiar.worst is (0.1, 0.1, 0.0, 0.1)"),
        ({"rest": -1.0}, "familiar.rest is (-1.0,). It must be positive"),
        ({"farthest": float("nan")}, "familiar.farthest is (nan,)"),
    ],
)
def test_statistics_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        make_spec(familiar=replace(FAMILIAR, **changes))
    assert words in str(caught.value)
