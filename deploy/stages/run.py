"""run: a controller in closed loop with a robot; its flight log is a dataset."""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy import robots
from deploy.drivers.twin import check_embodiment
from deploy.flights import write_dataset
from deploy.goals import Goal, GoalConfig, read_goals
from deploy.panel import watched
from deploy.robots import REAL_TIME, SEED_STRIDE, Arm, Choice, Flight, RobotName
from deploy.runtime.controller import Controller
from deploy.runtime.loop import LoopResult, latency_percentiles_ms, run_loop
from deploy.runtime.recorder import FlightEpisode, FlightLog, keep_goal, read_episodes
from deploy.runtime.safety import PLANNER_STALL, Safety
from deploy.view.follow import page_beside
from robot_wm import console
from robot_wm.contracts.bundle import Bundle, read_bundle
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import Run, open_run
from sims.robots import model_inputs

ROBOTS: dict[RobotName, Callable[[Choice], Generator[Flight, None, None]]] = {
    "twin": robots.twin,
    "twin_process": robots.twin_process,
    "remote": robots.remote,
    "replay": robots.replay,
    "feetech": robots.feetech,
}


@dataclass(frozen=True)
class RunConfig:
    """Configuration of `robot-wm run`.

    Attributes:
        bundle: export run or bundle folder.
        embodiment: the body; the bundle must have been made for it.
        robot: "twin" drives a simulation of the body to goal images, in simulated time; "twin_process" the same in a
            process of its own and in real time; "remote" a robot that somebody serves at `address`; "replay" shows the
            controller a log, whose own commands stay in force, and tells how far the controller's were from them;
            "feetech" is a real arm on a serial bus.
        log: replay: a dataset at the control rate, or the run that recorded it.
        address: remote: HOST:PORT on this computer.
        arm: feetech: bus, camera, goal image and length of a flight.
        execute: feetech: move it; without this everything is read and nothing is sent.
        goals: what to reach, one after the other within each episode; empty: what the robot has in store (the twin
            its tasks' goal images, a log how its episodes ended).
        episodes: how many.
        at_end: in real time, after the last command of an episode: brake to rest (slow_stop), or go back slowly to
            where it began (park).
        severity: of the twin's hidden faults, 0 to 1.
        preset: which faults the severity turns up.
        threads: of ONNX Runtime; 0 is one per core.
        view: keep a page of the flight under way for a browser, `view.html` in the run folder.
    """

    bundle: str
    embodiment: Embodiment
    robot: RobotName = "twin"
    log: str | None = None
    address: str | None = None
    arm: Arm = field(default_factory=Arm)
    execute: bool = False
    goals: tuple[GoalConfig, ...] = ()
    episodes: int = 5
    at_end: robots.AtEnd = "slow_stop"
    severity: float = 0.0
    preset: str = "all"
    threads: int = 0
    view: bool = False
    name: str = "run"
    out: str = "runs"
    seed: int = 0


def run(config: RunConfig) -> Path:
    """Fly; returns the run folder, which holds the flight log as a LeRobot dataset under `dataset/`.

    An interrupted run leaves the dataset of what was flown, and goes on with the next episode.

    Raises:
        UserError: a bundle of another body, a robot without what it needs, a log of another body, nobody at the
            address, or a robot that failed on its way.
    """
    bundle = read_bundle(Path(config.bundle))
    check_embodiment(config.embodiment, bundle.spec)
    _check(config)
    inputs = {"bundle": Path(config.bundle)} | ({"log": Path(config.log)} if config.log else {})
    inputs |= model_inputs(config.embodiment) if config.robot in ("twin", "twin_process") else {}
    with open_run(Path(config.out), "run", config.name, config, inputs) as opened:
        if opened.complete:
            console.say(f"run: already done with the same inputs: {opened.path}")
            return opened.path
        folder = opened.path / "flight"
        try:
            with page_beside(opened.path) if config.view else contextlib.nullcontext():
                _fly(config, bundle, opened, folder)
        except BaseException as error:
            with contextlib.suppress(UserError):  # nothing was flown yet
                dataset = _save(opened, config, bundle, read_episodes(folder))
                console.say(f"run: what was flown until now is a dataset: {dataset}")
            if config.robot in REAL_TIME and isinstance(error, OSError):
                raise UserError(f"the robot failed ({error})", "See to it, then run again: it goes on") from error
            raise
        _finish(opened, config, bundle, read_episodes(folder))
        return opened.path


def _check(config: RunConfig) -> None:
    if not 1 <= config.episodes < SEED_STRIDE:
        raise UserError(f"episodes is {config.episodes}", f"Give 1 to {SEED_STRIDE - 1}")
    if config.threads < 0 or config.seed < 0:
        raise UserError(f"threads is {config.threads}, seed {config.seed}", "Neither may be negative")
    needs = {"replay": ("log", config.log, "PATH of a dataset at the control rate"),
             "remote": ("address", config.address, "HOST:PORT of a robot served on this computer")}  # fmt: skip
    if config.robot == "feetech":
        for key, value in (("calibration", config.arm.calibration), ("goal", config.arm.goal)):
            if value is None:
                raise UserError(f"robot=feetech has no arm.{key}", f"Give arm.{key}=PATH (robot-wm run --help)")
        if not config.execute:
            console.say("run: a dry run; nothing is sent to the arm until execute=true")
    for robot, (key, value, wanted) in needs.items():
        if config.robot == robot and value is None:
            raise UserError(f"robot={robot} has no {key}", f"Give {key}={wanted}")
        if config.robot != robot and value is not None:
            raise UserError(
                f"{key} is {value}, but robot={config.robot} reads none", f"Leave it out, or give robot={robot}"
            )


def _fly(config: RunConfig, bundle: Bundle, opened: Run, folder: Path) -> None:
    """All episodes that are not in the flight log yet."""
    controller = Controller(bundle, num_threads=config.threads or None)
    safety, log = Safety(bundle.spec), FlightLog(folder, bundle.spec)
    given = read_goals(config.goals, bundle.spec, config.embodiment)
    done = {e.outcome["episode"] for e in read_episodes(folder) if e.outcome is not None}
    todo = tuple(number for number in range(config.episodes) if number not in done)
    choice = Choice(
        config.embodiment, bundle.spec, todo, opened.path, config.log, config.address, config.arm, config.execute,
        config.severity, config.preset, config.seed,
    )  # fmt: skip
    real_time = config.robot in REAL_TIME
    moves = real_time and (config.execute or config.robot != "feetech")
    with (
        contextlib.closing(ROBOTS[config.robot](choice)) as flights,
        watched(bundle.spec, safety, config.episodes, len(done), real_time) as panel,
    ):
        for flight in flights:
            controller.reset(seed=flight.seed)
            path, reference_U = log.begin(), flight.reference_U
            goals = given or [Goal(flight.goal_frame, None)]
            for number, goal in enumerate(goals, 1):
                controller.set_goal(goal.frame_YXC, goal.proprio_P)
                keep_goal(path, goal.frame_YXC)
                at_end = config.at_end if number == len(goals) else "slow_stop"
                result = run_loop(
                    controller, flight.robot, flight.num_ticks, safety, log, panel.tick, reference_U,
                    in_worker=real_time, at_end=at_end if moves else "leave", park_U=flight.reference_U,
                )  # fmt: skip
                reference_U = safety.limits.in_force_U
                if result.ended_by:
                    break
            judged = {} if given else flight.judge(path)  # who judges knows the goals in store only
            outcome = {"episode": flight.number, **judged, **_told(result)}
            log.end(outcome)
            panel.landed(_note(outcome))
            # Nobody has put an arm where the next flight begins, and a planner that hangs cannot be asked again.
            if result.ended_by == PLANNER_STALL or (config.robot == "feetech" and result.ended_by):
                raise UserError(
                    f"{result.ended_by} ended flight {flight.number}" + (f": {result.error}" if result.error else ""),
                    f"See why (robot-wm view {folder}), then run again: it goes on",
                )


def _told(result: LoopResult) -> dict[str, Any]:
    """What the loop says of a flight, as JSON values; what ended it early only where something did."""
    told = {"guards": result.interventions, "late_plans": result.late_plans, "buffered_ticks": result.buffered_ticks}
    return told | {k: v for k, v in (("ended_by", result.ended_by), ("error", result.error)) if v}


def _note(outcome: dict[str, Any]) -> str:
    ended = f", ended by {outcome['ended_by']}" if "ended_by" in outcome else ""
    if "distance_m" in outcome:
        return f"{100 * outcome['distance_m']:.1f} cm left" + (", reached" if outcome["success"] else "") + ended
    if "difference_from_log" in outcome:
        return f"commands differ by {outcome['difference_from_log']:.3g}"
    return f"flown{ended}"


def _save(opened: Run, config: RunConfig, bundle: Bundle, episodes: list[FlightEpisode]) -> Path:
    path = opened.path / "dataset"
    write_dataset(path, episodes, bundle.spec, "replay" if config.robot == "replay" else "reach the goal image")
    return path


def _finish(opened: Run, config: RunConfig, bundle: Bundle, episodes: list[FlightEpisode]) -> None:
    """Turn the flight log into a dataset, sum up, and print."""
    _save(opened, config, bundle, episodes)
    outcomes = [e.outcome for e in episodes if e.outcome is not None]
    latencies_s = np.concatenate([e.rows_L["latency_s"] for e in episodes])
    latencies = latency_percentiles_ms(latencies_s[np.isfinite(latencies_s)])
    metrics: dict[str, Any] = {"episodes": len(outcomes), **latencies}
    rows = [(f"decision, {name.removesuffix('_ms')} [ms]", f"{value:.1f}") for name, value in latencies.items()]
    if all("success" in o for o in outcomes):
        metrics["successes"] = sum(o["success"] for o in outcomes)
        metrics["distances_m"] = [o["distance_m"] for o in outcomes]
        rows.insert(0, ("reached at the end", f"{metrics['successes']} of {len(outcomes)}"))
    if all("difference_from_log" in o for o in outcomes):
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
