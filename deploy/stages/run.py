"""run: a controller in closed loop with a robot; its flight log is a dataset."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deploy.drivers.replay import Replay
from deploy.drivers.twin import check_embodiment, open_twin
from deploy.flights import write_dataset
from deploy.runtime.controller import Controller
from deploy.runtime.loop import LoopResult, latency_percentiles_ms, run_loop
from deploy.runtime.recorder import FlightEpisode, FlightLog, keep_goal, read_episode, read_episodes
from deploy.runtime.safety import Safety
from robot_wm import console
from robot_wm.contracts.bundle import Bundle, ControllerSpec, read_bundle
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import Run, dataset_folder, open_run
from robot_wm.data.lerobot import LeRobotDataset
from sims import tasks
from sims.robots import model_inputs
from sims.twin import Twin

# Flight logs go back into training, so their goals lie far from those that an evaluation keeps to itself.
_FIRST_SEED, _SEED_STRIDE = 1_000_000_000, 10_000


@dataclass(frozen=True)
class RunConfig:
    """Configuration of `robot-wm run`.

    Attributes:
        bundle: export run or bundle folder.
        embodiment: the body; the bundle must have been made for it.
        robot: "twin" drives a simulation of the body to goal images; "replay" shows the controller a log, whose own
            commands stay in force, and tells how far the controller's were from them.
        log: replay: a dataset at the control rate, or the run that recorded it.
        episodes: how many.
        severity: of the twin's hidden faults, 0 to 1.
        preset: which faults the severity turns up.
        threads: of ONNX Runtime; 0 is one per core.
    """

    bundle: str
    embodiment: Embodiment
    robot: Literal["twin", "replay"] = "twin"
    log: str | None = None
    episodes: int = 5
    severity: float = 0.0
    preset: str = "all"
    threads: int = 0
    name: str = "run"
    out: str = "runs"
    seed: int = 0


def run(config: RunConfig) -> Path:
    """Fly; returns the run folder, which holds the flight log as a LeRobot dataset under `dataset/`.

    An interrupted run goes on with the next episode.

    Raises:
        UserError: a bundle of another body, a replay without a log, or a log of another body.
    """
    bundle = read_bundle(Path(config.bundle))
    check_embodiment(config.embodiment, bundle.spec)
    _check(config)
    inputs = {"bundle": Path(config.bundle)} | ({"log": Path(config.log)} if config.log else {})
    inputs |= model_inputs(config.embodiment) if config.robot == "twin" else {}
    with open_run(Path(config.out), "run", config.name, config, inputs) as opened:
        if opened.complete:
            console.say(f"run: already done with the same inputs: {opened.path}")
            return opened.path
        flight = _Flight(config, bundle, opened)
        fly = flight.with_twin if config.robot == "twin" else flight.with_replay
        with console.progress("run", config.episodes, len(flight.done)) as bar:
            for outcome in fly():
                bar.advance(note=_note(outcome))
        _finish(opened, config, bundle, read_episodes(flight.log_folder))
        return opened.path


def _check(config: RunConfig) -> None:
    if not 1 <= config.episodes < _SEED_STRIDE:
        raise UserError(f"episodes is {config.episodes}", f"Give 1 to {_SEED_STRIDE - 1}")
    if config.threads < 0 or config.seed < 0:
        raise UserError(f"threads is {config.threads}, seed {config.seed}", "Neither may be negative")
    if config.robot == "replay" and config.log is None:
        raise UserError("robot=replay has no log", "Give log=PATH of a dataset at the control rate")
    if config.robot == "twin" and config.log is not None:
        raise UserError(f"log is {config.log}, but robot=twin reads none", "Leave it out, or give robot=replay")


class _Flight:
    """Episodes of one run: the controller, the guards, the flight log, and which episodes are already done."""

    def __init__(self, config: RunConfig, bundle: Bundle, opened: Run):
        self.config = config
        self.spec = bundle.spec
        self.controller = Controller(bundle, num_threads=config.threads or None)
        self.safety = Safety(bundle.spec)
        self.log_folder = opened.path / "flight"
        self.log = FlightLog(self.log_folder, bundle.spec)
        self.done = {e.outcome["episode"] for e in read_episodes(self.log_folder) if e.outcome is not None}

    def with_twin(self) -> Iterator[dict[str, Any]]:
        """Drive the twin to one goal image per episode."""
        with _twin(self.config, self.spec) as twin:
            twin.truth.save(self.log_folder.parent)  # for judges; the flight log knows nothing of it
            task = tasks.make(twin.simulation)
            for number, pair in enumerate(task.pairs(self.config.episodes, self._seed(0))):
                if number in self.done:
                    continue
                task.start(pair)
                twin.reset()
                self.controller.reset(seed=pair.seed)
                self.controller.set_goal(pair.goal_frame)
                keep_goal(self.log.begin(), pair.goal_frame)
                result = run_loop(
                    self.controller,
                    twin,
                    task.max_steps,
                    self.safety,
                    self.log,
                    reference_U=twin.simulation.reference(),
                )
                yield self._end(
                    number, result, success=task.success(pair), distance_m=task.distance_m(pair), pair_seed=pair.seed
                )

    def with_replay(self) -> Iterator[dict[str, Any]]:
        """Show the controller one logged episode after the other; its goal is how each ended."""
        dataset = LeRobotDataset(dataset_folder(Path(self.config.log or "")))
        if dataset.num_episodes < self.config.episodes:
            raise UserError(
                f"episodes is {self.config.episodes}", f"{dataset.path} has {dataset.num_episodes}; give at most that"
            )
        for number in range(self.config.episodes):
            if number in self.done:
                continue
            robot = Replay(dataset, number, self.spec)
            self.controller.reset(seed=self._seed(number))
            self.controller.set_goal(robot.goal_frame)
            path = self.log.begin()
            keep_goal(path, robot.goal_frame)
            result = run_loop(
                self.controller, robot, robot.length, self.safety, self.log, reference_U=robot.first_command_U
            )
            yield self._end(number, result, **_difference(path))

    def _seed(self, number: int) -> int:
        return _FIRST_SEED + _SEED_STRIDE * self.config.seed + number

    def _end(self, number: int, result: LoopResult, **outcome: Any) -> dict[str, Any]:
        outcome = {"episode": number, **outcome, "guards": result.interventions, "late_plans": result.late_plans}
        self.log.end(outcome)
        return outcome


@contextmanager
def _twin(config: RunConfig, spec: ControllerSpec) -> Iterator[Twin]:
    twin = open_twin(config.embodiment, spec, config.severity, config.seed, config.preset)
    try:
        yield twin
    finally:
        twin.close()
        twin.simulation.close()


def _difference(path: Path) -> dict[str, float]:
    """How far the controller's commands were from those of the log [the command's unit]."""
    rows = read_episode(path).rows_L
    return {"difference_from_log": float(np.abs(rows["command"] - rows["action"]).mean())}


def _note(outcome: dict[str, Any]) -> str:
    if "distance_m" in outcome:
        return f"{100 * outcome['distance_m']:.1f} cm left" + (", reached" if outcome["success"] else "")
    return f"commands differ by {outcome['difference_from_log']:.3g}"


def _finish(opened: Run, config: RunConfig, bundle: Bundle, episodes: list[FlightEpisode]) -> None:
    """Turn the flight log into a dataset, sum up, and print."""
    task = "reach the goal image" if config.robot == "twin" else "replay"
    write_dataset(opened.path / "dataset", episodes, bundle.spec, task)
    outcomes = [e.outcome for e in episodes if e.outcome is not None]
    latencies_s = np.concatenate([e.rows_L["latency_s"] for e in episodes])
    latencies = latency_percentiles_ms(latencies_s[np.isfinite(latencies_s)])
    metrics: dict[str, Any] = {"episodes": len(outcomes), **latencies}
    rows = [(name, f"{value:.1f}") for name, value in latencies.items()]
    if config.robot == "twin":
        metrics["successes"] = sum(o["success"] for o in outcomes)
        metrics["distances_m"] = [o["distance_m"] for o in outcomes]
        rows.insert(0, ("reached at the end", f"{metrics['successes']} of {len(outcomes)}"))
    else:
        metrics["difference_from_log"] = float(np.mean([o["difference_from_log"] for o in outcomes]))
        unit = bundle.spec.command.unit
        rows.insert(0, (f"mean difference of commands [{unit}]", f"{metrics['difference_from_log']:.3g}"))
    metrics["guards"] = {
        name: sum(o["guards"].get(name, 0) for o in outcomes)
        for name in sorted({n for o in outcomes for n in o["guards"]})
    }
    rows += [(f"guard {name} [ticks]", str(count)) for name, count in metrics["guards"].items()]
    console.table(f"{config.robot}: {len(outcomes)} episodes", ("", ""), rows)
    opened.finish(["dataset", "flight"], metrics=metrics, embodiment_sha256=bundle.spec.embodiment_sha256)
