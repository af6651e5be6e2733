"""Every failure mode is told from what was measured, on attempts that were made to fail in just that way."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from deploy.bench.arena import Flown, Inputs
from deploy.bench.failure_modes import MODES, Evidence, examine, shares
from robot_wm.planning.controllable import Controllable
from robot_wm.planning.planner import Planner, PlannerConfig
from robot_wm.planning.samplers import CEM
from tests.point_body import SPACE, STEP, point_body

GOAL = (0.1, 0.0, 0.0)


def evidence(**places: tuple[float, float, float]) -> Evidence:
    return Evidence(3, 0.05, **{"goal": GOAL, "read": GOAL, "predicted": GOAL, "better": GOAL, "hand": GOAL} | places)


WRONG = {
    "perception": evidence(read=(0.2, 0, 0), better=(0.2, 0, 0), predicted=(0.2, 0, 0), hand=(0.19, 0, 0)),
    "dynamics": evidence(hand=(0.1, 0.09, 0.0), predicted=(0.11, 0.01, 0.0)),
    "search": evidence(predicted=(0.0, 0, 0), hand=(0.01, 0, 0)),
}


@pytest.mark.parametrize("mode", WRONG)
def test_the_cause_that_adds_most_to_the_miss_names_it(mode: str) -> None:
    assert WRONG[mode].mode(oracle_reached=True) == mode
    assert WRONG[mode].mode(oracle_reached=False) == "reach", "nobody gets there"


def test_a_way_that_the_model_does_not_know_is_the_dynamics_fault() -> None:
    far = (-0.2, 0.0, 0.0)
    assert evidence(hand=far, predicted=far, better=far).mode(oracle_reached=True) == "dynamics"


def test_a_hand_where_it_should_be_beside_an_object_that_is_not() -> None:
    assert evidence(hand=(0.12, 0.02, 0.0)).mode(oracle_reached=True) == "objective"


def test_parts_add_up_to_the_miss() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        found = Evidence(0, 0.05, *(tuple(rng.normal(size=3).tolist()) for _ in range(5)))  # type: ignore[arg-type]
        miss_m = float(np.linalg.norm(np.subtract(found.hand, found.goal)))
        assert sum(found.parts_m().values()) == pytest.approx(miss_m)


def test_shares_count_every_failure_once() -> None:
    failures = [(WRONG["perception"], True)] * 3 + [(WRONG["search"], True), (WRONG["search"], False)]
    assert shares(failures) == {"perception": 0.6, "search": 0.2, "reach": 0.2}
    assert shares([]) == {}
    assert {*WRONG, "reach", "objective"} == set(MODES), "each has its sentence"


def examined(read: tuple[float, float], chunk: tuple[float, float], came: tuple[float, float]) -> Evidence:
    """One attempt of the point body from the origin whose last chunk had this mean command, and where that brought it.

    The goal's picture shows the point at GOAL, but is read as `read`.
    """
    planner = Planner(PlannerConfig(1, 64, 3, CEM(elites=4), propose=0.0), point_body()).eval()
    parts = Controllable(torch.nn.Identity(), planner, None, None, SPACE, ("a", "b"), {})  # type: ignore[arg-type]
    zeros = torch.zeros(2, 2)
    inputs = Inputs(zeros[:, None].expand(-1, 2, -1), torch.tensor([read] * 2), zeros, zeros)
    chunk_BKU = torch.tensor([[chunk] * 2] * 2)
    hand_B3 = np.array([[*came, 0.0]] * 2)
    reached = np.array([True, False])  # only the second one has failed
    flown = Flown(reached, reached, np.ones((2, 2)), hand_B3, ((), ()), inputs, chunk_BKU)
    plane: Any = SimpleNamespace(hand_at=lambda joints: np.array([*joints, 0.0]))
    task = SimpleNamespace(simulation=plane, start=lambda pair: None, threshold_m=0.05, name="push")
    pairs = [SimpleNamespace(seed=seed, goal_hand_m=np.array(GOAL)) for seed in (8, 9)]
    (found,) = examine(SimpleNamespace(task=task, pairs=pairs), flown, parts, seed=0)  # type: ignore[arg-type]
    assert found.pair_seed == 9
    return found


def test_an_attempt_whose_goal_is_misread_fails_by_perception() -> None:
    found = examined(read=(0.1, 0.15), chunk=(0.5, 0.75), came=(0.1, 0.14))
    assert found.read == pytest.approx((0.1, 0.15, 0.0), abs=1e-4)
    assert found.mode(oracle_reached=True) == "perception"


def test_an_attempt_that_comes_elsewhere_than_foretold_fails_by_the_dynamics() -> None:
    found = examined(read=(0.1, 0.0), chunk=(0.5, 0.0), came=(0.0, 0.0))
    assert found.predicted == pytest.approx((0.5 * STEP, 0.0, 0.0), abs=1e-4)
    assert found.mode(oracle_reached=True) == "dynamics"


def test_an_attempt_with_a_better_plan_at_hand_fails_by_the_search() -> None:
    found = examined(read=(0.1, 0.0), chunk=(-0.5, 0.0), came=(-0.1, 0.0))
    assert found.better == pytest.approx(GOAL, abs=0.02), "the model knows how to get there"
    assert found.mode(oracle_reached=True) == "search"


def test_nothing_is_examined_where_nothing_failed() -> None:
    reached = np.ones(1, bool)
    flown = Flown(
        reached, reached, np.ones((1, 2)), np.zeros((1, 3)), ((),), Inputs(*[torch.zeros(1)] * 4), torch.zeros(1)
    )
    assert examine(None, flown, None, 0) == []  # type: ignore[arg-type]


def test_evidence_survives_its_file(tmp_path: Path) -> None:
    from dataclasses import asdict

    from robot_wm.contracts import files
    from robot_wm.contracts.config import from_mapping

    files.write_json(tmp_path / "e.json", asdict(WRONG["search"]))
    assert from_mapping(Evidence, files.read_json(tmp_path / "e.json")) == WRONG["search"]
