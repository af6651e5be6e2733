"""What a verification found: the schema of `verification.json`, and of the scenarios that later runs replay."""

from dataclasses import dataclass
from pathlib import Path

from deploy.verification.scenario import Ranges, Scenario
from robot_wm.contracts import config, files
from robot_wm.contracts.errors import UserError
from robot_wm.evaluation.statistics import Interval

SCHEMA = 1
VERIFICATION_FILE = "verification.json"
SCENARIOS_FILE = "scenarios.json"


@dataclass(frozen=True)
class Tried:
    """A scenario, whether it failed, and the distance left at the end over the threshold of success.

    `held` is the guard that took the robot out of the planner's hands, if one did: it failed standing still.
    """

    scenario: Scenario
    failed: bool
    cost: float
    video: str | None = None
    held: str | None = None


@dataclass(frozen=True)
class Breaking:
    """The smallest disturbance along one axis, to one side, that most pairs fail under; None: none in the range."""

    axis: str
    value: float | None
    limit: float


@dataclass(frozen=True)
class Verification:
    """The whole of `verification.json`.

    Attributes:
        undisturbed: share of failures on all pairs without a disturbance, Wilson 95 %.
        uniform: share of failures of the first round, drawn uniformly within the ranges, Wilson 95 %.
        rate: the same share estimated from all rounds by importance weights, 95 %; None for a replay.
        draws, failures: scenarios of the search, and how many of them failed.
        held: failures of the search in which a guard held the robot: it did no wrong, and nothing else either.
        breaking: by axis and side.
        worst: the largest costs first.
        replayed: scenarios of an earlier run, and how they went now.
    """

    schema: int
    embodiment: str
    task: str
    threshold_m: float
    goal_seed: int
    pairs: int
    ranges: Ranges
    undisturbed: Interval
    uniform: Interval | None
    rate: Interval | None
    draws: int
    failures: int
    breaking: tuple[Breaking, ...]
    worst: tuple[Tried, ...]
    replayed: tuple[Tried, ...]
    machine: str
    held: int = 0


@dataclass(frozen=True)
class ScenarioSet:
    """Scenarios worth trying again, with the seed that their pairs were drawn from."""

    schema: int
    embodiment: str
    task: str
    goal_seed: int
    pairs: int
    scenarios: tuple[Scenario, ...]


def read_scenarios(path: Path) -> ScenarioSet:
    """Read what a verification left; raises UserError when it is none."""
    found = config.from_mapping(ScenarioSet, files.read_json(path), str(path))
    if found.schema != SCHEMA:
        raise UserError(f"{path}: schema is {found.schema}", f"This version reads {SCHEMA}")
    for scenario in found.scenarios:
        unknown = set(scenario.disturbance) - set(Ranges.__dataclass_fields__)
        if unknown or not 0 <= scenario.pair < found.pairs:
            raise UserError(f"{path}: {scenario} is no scenario", "Restore the file")
    return found
