"""What a controller says of itself while it fails: do its cost and its uncertainty tell failures from successes?"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bench.result import Row
from deploy.runtime.controller import Controller, Plan
from deploy.verification.results import SCENARIOS_FILE, read_scenarios
from deploy.verification.scenario import Scenario
from deploy.verification.trials import Trials
from robot_wm import console
from robot_wm.contracts.bundle import read_bundle
from robot_wm.evaluation import reliability
from sims import catalog, tasks
from sims.robots import load

_FALSE_ALARMS = 0.1


class Listening:
    """A controller that notes what it said of every plan since the last reset."""

    def __init__(self, controller: Controller):
        self._controller, self.plans = controller, list[Plan]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)

    def reset(self, reference_U: NDArray[np.float64] | None = None, seed: int | None = None) -> None:
        """As the controller, and the plans are forgotten."""
        self.plans = []
        self._controller.reset(reference_U, seed)

    def step(self, frame_YXC: NDArray[np.uint8], proprio_P: NDArray[np.float32]) -> Plan:
        """As the controller."""
        self.plans.append(self._controller.step(frame_YXC, proprio_P))
        return self.plans[-1]


def signs(bundle: Path, verified: Path, seed: int) -> list[Row]:
    """AUROC of failure from cost, uncertainty and what changed in the latent, over the failures that verify found.

    They are tried again beside as many undisturbed and half-disturbed pairs. Signs are read at half of an episode, when
    something can still be done.
    """
    known = read_scenarios(verified / SCENARIOS_FILE)
    listening = Listening(Controller(read_bundle(bundle), num_threads=1))
    half = [Scenario(s.pair, {a: v / 2 for a, v in s.disturbance.items()}, s.seed) for s in known.scenarios]
    calm = [Scenario(pair, {}, seed) for pair in range(known.pairs)]
    told: dict[str, list[float]] = {"cost": [], "uncertainty": [], "change of the latent": []}
    failed = []
    with load(catalog.find(known.embodiment)) as simulation:
        task = tasks.make(simulation, known.task)
        trials = Trials(task, task.pairs(known.pairs, known.goal_seed), listening, verified / "signs.jsonl")
        for scenario in console.track([*known.scenarios, *half, *calm], "signs of failure"):
            failed.append(not trials.attempt(scenario).episode.success_last)
            plans = listening.plans[: max(2, len(listening.plans) // 2)]
            told["cost"].append(plans[-1].cost)
            told["uncertainty"].append(float(np.mean([plan.uncertainty for plan in plans])))
            steps = np.diff([plan.latent_D for plan in plans], axis=0)
            told["change of the latent"].append(float(np.square(steps).mean(-1).max()))
    return _rows(told, np.array(failed))


def _rows(told: dict[str, list[float]], failed_N: NDArray[np.bool_]) -> list[Row]:
    if failed_N.all() or not failed_N.any():
        return [Row("AUROC of failure (all or none failed)", None, n=len(failed_N))]
    rows = []
    for name, values in told.items():
        score_N = np.asarray(values)
        found = reliability.auroc(score_N, failed_N)
        rows.append(Row(f"AUROC of failure from {name}", found.value, n=len(failed_N), low=found.low, high=found.high))
        caught = reliability.detected(score_N, failed_N, _FALSE_ALARMS)
        rows.append(Row(f"failures told by {name} at 10 % false alarms", caught, n=int(failed_N.sum())))
    return rows
