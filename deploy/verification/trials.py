"""Attempts at scenarios, each made once: what a run has tried is kept line by line and found again."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from deploy.evaluation.episodes import Attempt, Stage, attempt
from deploy.evaluation.references import Decider
from deploy.verification.results import Tried
from deploy.verification.scenario import Occluded, Scenario
from robot_wm import console
from robot_wm.contracts.config import to_mapping
from robot_wm.contracts.safety import ANSWERS
from robot_wm.data import journal
from sims.pairs import Pair, Task
from sims.twin import Twin


class Trials:
    """A controller's attempts on a twin that is disturbed as each scenario says.

    Attributes:
        pairs: of start and goal, by index.
        made: how many attempts are known, those of an interrupted run included.
    """

    def __init__(self, task: Task, pairs: Sequence[Pair], decider: Decider, file: Path):
        self.task, self.pairs, self._decider, self._file = task, pairs, decider, file
        self._known: dict[str, dict[str, Any]] = {line["key"]: line for line in journal.read(file)}
        self.bar: console.Bar | None = None

    @property
    def made(self) -> int:
        """How many attempts are known."""
        return len(self._known)

    def outcome(self, scenario: Scenario) -> tuple[bool, float]:
        """Whether the scenario failed, and the distance left at the end over the threshold of success."""
        key = _key(scenario)
        if key not in self._known:
            episode = self.attempt(scenario).episode
            line = {"key": key, "failed": not episode.success_last, "held": _held(episode.guards)}
            line["cost"] = round(episode.distances_m[-1] / self.task.threshold_m, 6)
            journal.append(self._file, line)
            self._known[key] = line
        found = self._known[key]
        if self.bar is not None:
            self.bar.advance(note=f"{sum(line['failed'] for line in self._known.values())} failures")
        return bool(found["failed"]), float(found["cost"])

    def tried(self, scenario: Scenario) -> Tried:
        """The outcome, with the guard that held the robot for most of the time, if one did so at all."""
        failed, cost = self.outcome(scenario)
        return Tried(scenario, failed, cost, held=self._known[_key(scenario)].get("held"))

    def attempt(self, scenario: Scenario) -> Attempt:
        """Try it, whether or not it was tried before."""
        with self.stage(scenario) as stage:
            return attempt(stage, self._decider, self.pairs[scenario.pair], sees=True)

    @contextmanager
    def stage(self, scenario: Scenario) -> Iterator[Stage]:
        """The twin under a scenario's disturbance; the simulation is itself again afterwards."""
        simulation = self.task.simulation
        truth = scenario.truth(simulation.model.nbody, simulation.command.dim)
        twin = Twin(simulation, seed=scenario.seed, truth=truth)
        hidden = scenario.disturbance.get("occlusion", 0.0)
        robot = Occluded(twin, hidden, scenario.seed) if hidden else twin
        try:
            yield Stage(simulation, cast(Any, robot), self.task)
        finally:
            twin.close()


def _key(scenario: Scenario) -> str:
    return json.dumps(to_mapping(scenario), sort_keys=True)


def _held(guards: dict[str, int]) -> str | None:
    """Of the guards that take the robot out of the planner's hands, the one that did so on most ticks."""
    return max((name for name in guards if name in ANSWERS), key=lambda name: guards[name], default=None)
