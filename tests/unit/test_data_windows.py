"""Windows stay inside an episode; the split is by episode."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.data.pack import Pack
from robot_wm.data.windows import split, windows


def pack(lengths: list[int]) -> Pack:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    episode = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    empty = np.empty(0)
    return Pack(empty, empty, empty, {}, episode, empty, starts, 0.2, 1)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 6), st.integers(1, 4))
def test_windows_never_cross_an_episode_and_none_is_missing(lengths: list[int], length: int, stride: int) -> None:
    packed = pack(lengths)
    found = windows(packed, length, stride)
    for start in found:
        assert len(set(packed.episode_F[start : start + length])) == 1
        assert start + length <= len(packed.episode_F)
    assert len(found) == sum(max(0, (n - length) // stride + 1) for n in lengths)
    assert len(set(found.tolist())) == len(found)


@given(st.integers(1, 200), st.floats(0, 0.99), st.integers(0, 99))
def test_split_is_a_partition_and_repeats(num: int, fraction: float, seed: int) -> None:
    training, validation = split(num, fraction, seed)
    assert sorted([*training, *validation]) == list(range(num))
    assert len(training) >= 1
    assert bool(len(validation)) == (fraction > 0 and num > 1)
    again = split(num, fraction, seed)
    assert np.array_equal(training, again[0])
    assert np.array_equal(validation, again[1])


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="fraction"):
        split(3, 1.0, 0)
    with pytest.raises(ValueError, match="positive"):
        windows(pack([3]), 0)
