"""Unseen conditions change what is seen, never what happens, and leave no trace."""

from collections.abc import Iterator

import numpy as np
import pytest

from robot_wm.contracts.errors import UserError
from sims.robots import load
from sims.simulation import Simulation
from sims.unseen import CONDITIONS, SHIFT_M, unseen
from tests.small_bodies import planar_arm


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulation]:
    with load(planar_arm(tmp_path_factory.mktemp("arm"))) as simulation:
        yield simulation


def look(simulation: Simulation) -> np.ndarray:
    simulation.reset(0)
    return simulation.frame().astype(int)


def motion(simulation: Simulation) -> np.ndarray:
    simulation.reset(0)
    for _ in range(10):
        simulation.step(np.array([0.4, -0.3]))
    return simulation.state()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_pictures_change_and_motion_does_not(arm: Simulation, condition: str) -> None:
    plain, moved = look(arm), motion(arm)
    seen = []
    for seed in (0, 1):
        with unseen(arm, condition, seed):
            seen.append(look(arm))
            assert np.array_equal(motion(arm), moved)
        assert np.array_equal(look(arm), plain), "as before"
    assert all((np.abs(each - plain).max(axis=-1) > 8).mean() > 0.005 for each in seen), "it can be seen"
    assert not np.array_equal(*seen), "another seed, another draw"


def test_a_camera_is_moved_by_what_it_says(arm: Simulation) -> None:
    camera = arm.model.camera("above")
    before, facing = camera.pos.copy(), camera.quat.copy()
    with unseen(arm, "camera", 3):
        assert np.linalg.norm(camera.pos - before) == pytest.approx(SHIFT_M)
        assert 2 * np.arccos(abs(camera.quat @ facing)) == pytest.approx(np.radians(5))
    assert np.array_equal(camera.pos, before)


def test_an_error_meanwhile_leaves_no_trace(arm: Simulation) -> None:
    plain = look(arm)
    for condition in CONDITIONS:
        with pytest.raises(ZeroDivisionError), unseen(arm, condition, 0):
            raise ZeroDivisionError
    assert np.array_equal(look(arm), plain)


def test_an_unknown_condition_is_refused_with_those_there_are(arm: Simulation) -> None:
    with pytest.raises(UserError, match="Choose among: light"), unseen(arm, "fog", 0):
        pass
