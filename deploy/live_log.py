"""A calibration log of a real robot: babbled under all guards of the runtime, kept row by row, a dataset at its end."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.live import TwinConfig
from deploy.babbler import Babbler
from deploy.drivers.remote import Remote
from deploy.drivers.twin_process import TwinSettings, spawned
from deploy.flights import write_dataset
from deploy.robots import REAL_TIME, Arm, RobotName, on_bus
from deploy.runtime.flight import Tick
from deploy.runtime.loop import LoopResult, run_loop
from deploy.runtime.recorder import FlightEpisode, FlightLog, read_episodes
from deploy.runtime.safety import Safety
from robot_wm import console
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation, Robot
from robot_wm.contracts.run import Run, open_run
from sims.robots import model_inputs

_EPISODE = 25  # transitions of one
_DRY_S = 2.0  # of a dry run
_HELD = 0.5  # share of an episode that guards may hold the robot, before something must be wrong
_REMEDIES = {
    "stale_frame": "the camera gives no new pictures: see to its cable, or raise safety.max_frame_age_s",
    "unchanged_frame": "the camera is slower than the model steps: raise its rate, or frame_skip",
    "frozen_image": "the picture stands still while the robot moves: is it the right camera, and uncovered?",
    "stale_proprio": "joint readings come late: see to the bus, or raise safety.max_proprio_age_s",
    "bad_proprio": "the driver reports what is no number",
    "out_of_bounds": "it came to the edge of safety.bounds or workspace_m: move it back inside by hand, and put `home` "
    "or the bounds so that the motion around home (shown by the dry run) has room",
    "self_collision": "parts of the body came close: move it apart by hand, or choose another `home`",
    "contact": "something is in its way: clear it, or raise safety.max_strain",
}


@dataclass(frozen=True)
class LiveConfig:
    """Which robot a log is recorded from.

    Attributes:
        robot: "feetech" is a real arm on a serial bus; "remote" a robot that somebody serves at `address`;
            "twin_process" a twin in a process of its own and in real time.
        execute: move it; without this everything is read and nothing is sent.
        address: remote: HOST:PORT on this computer.
        port: feetech: of the bus.
        calibration: feetech: JSON file that lerobot-calibrate wrote for this arm.
        camera: feetech: number, path or URL of the camera that the model sees through.
    """

    robot: RobotName = "feetech"
    execute: bool = False
    address: str | None = None
    port: str = "/dev/ttyACM0"
    calibration: str | None = None
    camera: int | str = "0"


@dataclass(frozen=True)
class _Recording:
    """What makes one recording the same as another."""

    embodiment: Embodiment
    live: LiveConfig
    twin: TwinConfig
    transitions: int
    seed: int


class Unsent:
    """A robot that is read and sent nothing."""

    def __init__(self, robot: Robot, in_force_U: NDArray[np.float64]):
        self._robot, self._in_force_U = robot, in_force_U

    def read(self) -> Observation:
        """As the robot."""
        return self._robot.read()

    def write(self, command_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """What stays in force."""
        return self._in_force_U.copy()

    def now(self) -> float:
        """As the robot."""
        return self._robot.now()


def record_robot(
    out: Path, embodiment: Embodiment, live: LiveConfig, twin: TwinConfig, transitions: int, seed: int
) -> Path | None:
    """Record a log of a robot as a run of its own; returns its folder, None after a dry run.

    An interrupted recording brings the robot to rest and leaves a dataset of what it has; the same again goes on.

    Raises:
        UserError: a robot that cannot be driven or lacks what it needs, a guard that ended the motion or held the
            robot for most of an episode, or a robot that failed.
    """
    _check(live, transitions)
    babbler = Babbler(embodiment, seed)
    with contextlib.closing(babbler):
        wanted = _Recording(embodiment, live, twin, transitions, seed)
        if not live.execute:
            _try(babbler, wanted)
            return None
        identity = replace(wanted, live=replace(live, port="", camera=""))  # plugged in again they have other names
        with open_run(Path(out), "record", "live-log", identity, model_inputs(embodiment)) as run:
            if run.complete:
                console.say(f"live: already recorded: {run.path}")
                return run.path
            try:
                _record(run, babbler, wanted)
            except BaseException as error:
                _keep(run.path, babbler, transitions)
                if isinstance(error, OSError):
                    problem = f"the robot failed ({error})"
                    raise UserError(problem, "See to it, then run the same command again: it goes on") from error
                raise
            episodes = read_episodes(run.path / "flight")
            _save(run.path, babbler, episodes)
            metrics = {"transitions": _count(babbler, episodes), "episodes": len(episodes)}
            run.finish(["dataset", "flight"], metrics=metrics, embodiment_sha256=embodiment.digest())
            return run.path


def _check(live: LiveConfig, transitions: int) -> None:
    if live.robot not in REAL_TIME:
        instead = {"twin": "Give source=twin, which records it in simulated time"}
        remedy = instead.get(live.robot, "Its log exists already: give data=LOG instead of source=robot")
        raise UserError(f"live.robot={live.robot} is no robot that moves", remedy)
    if transitions < 1:
        raise UserError(f"transitions is {transitions}", "Give 1 or more")
    for robot, key, value in (("feetech", "calibration", live.calibration), ("remote", "address", live.address)):
        if live.robot == robot and value is None:
            raise UserError(f"live.robot={robot} has no live.{key}", f"Give live.{key} (robot-wm calibrate --help)")


@contextlib.contextmanager
def _opened(spec: ControllerSpec, wanted: _Recording, folder: Path) -> Iterator[tuple[Robot, NDArray[np.float64]]]:
    """The robot where it stands, and the command in force (U,); no task is started, which might move it."""
    live, twin = wanted.live, wanted.twin
    if live.robot == "feetech":
        with on_bus(Arm(live.port, live.calibration, live.camera), spec, live.execute) as arm:
            yield arm, arm.in_force()
        return
    with contextlib.ExitStack() as stack:
        address = live.address
        if live.robot == "twin_process":
            settings = TwinSettings(wanted.embodiment, twin.severity, twin.preset, twin.seed)
            address = stack.enter_context(spawned(settings, folder))
        robot = stack.enter_context(contextlib.closing(Remote(address or "", spec)))
        yield (robot if live.execute else Unsent(robot, robot.in_force_U)), robot.in_force_U


def _try(babbler: Babbler, wanted: _Recording) -> None:
    """A dry run: all is read and judged for two seconds, nothing is sent; then what would be done is shown."""
    spec, held = babbler.spec, Held()
    num_ticks = round(_DRY_S * spec.command.control_rate_hz)
    with tempfile.TemporaryDirectory() as folder, _opened(spec, wanted, Path(folder)) as (robot, in_force_U):
        result = run_loop(babbler, robot, num_ticks, Safety(spec), on_step=held.tick, reference_U=in_force_U)
        now_P = robot.read().proprio_P
    box = babbler.space
    rows = [
        (name, f"{now:.3g}", f"{middle - half:.3g} to {middle + half:.3g}")
        for name, now, middle, half in zip(spec.proprio, now_P, box.centre, box.half, strict=False)
    ]
    console.table(f"{wanted.live.robot}: a dry run, nothing was sent", ("", "now", "would move within"), rows)
    seconds = wanted.transitions * wanted.embodiment.step_s
    console.say(
        f"live: {wanted.transitions} transitions are {seconds:.0f} s of motion, from where it stands to around home"
    )
    held.refuse(result)
    console.say("live: clear that space, keep a hand on the switch, then give live.execute=true")


class Held:
    """Counts control ticks, and those on which a guard held the robot, by its name."""

    def __init__(self, bar: console.Bar | None = None):
        self._bar, self._ticks = bar, 0
        self._by: dict[str, int] = {}

    def tick(self, tick: Tick) -> None:
        """One control period has passed."""
        self._ticks += 1
        if tick.held is not None:
            self._by[tick.held] = self._by.get(tick.held, 0) + 1
        if self._bar is not None:
            self._bar.advance(note=f"held by {tick.held}" if tick.held else "")

    def refuse(self, result: LoopResult) -> None:
        """Raise UserError where a guard ended the motion, or held the robot most of the time."""
        most = max(self._by, key=lambda name: self._by[name], default=None)
        guard = result.ended_by or (most if sum(self._by.values()) > _HELD * self._ticks else None)
        if guard is None:
            return
        what = "ended the motion" if result.ended_by else f"held the robot in {self._by[guard]} of {self._ticks} ticks"
        told = f" ({result.error})" if result.error else ""
        remedy = _REMEDIES.get(guard, f"see docs/howto/run.md for {guard}")
        raise UserError(f"the guard {guard} {what}{told}", f"{remedy[0].upper()}{remedy[1:]}; then run it again")


def _record(run: Run, babbler: Babbler, wanted: _Recording) -> None:
    """Episodes until there are as many transitions as asked for; those of an earlier run count."""
    folder, spec, skip = run.path / "flight", babbler.spec, babbler.spec.command.frame_skip
    before = read_episodes(folder)
    done = _count(babbler, before)
    if done >= wanted.transitions:
        return
    if before:
        console.say(f"live: goes on after {done} of {wanted.transitions} transitions")
    log, safety = FlightLog(folder, spec), Safety(spec)
    title = f"live: {wanted.live.robot} [ticks]"
    with (
        contextlib.closing(log),
        _opened(spec, wanted, run.path) as (robot, in_force_U),
        console.progress(title, wanted.transitions * skip, done * skip) as bar,
    ):
        number = len(before)
        while done < wanted.transitions:
            held = Held(bar)
            babbler.begin(int(np.random.default_rng([wanted.seed, number]).integers(2**31)))
            log.begin()
            num_ticks = min(_EPISODE, max(wanted.transitions - done, 2)) * skip + 1
            result = run_loop(  # the babble is planned within the loop: it takes a small part of a control period
                babbler, robot, num_ticks, safety, log, held.tick, in_force_U, at_end="slow_stop"
            )
            outcome = {"episode": number, "guards": result.interventions}
            log.end(outcome | ({"ended_by": result.ended_by} if result.ended_by else {}))
            held.refuse(result)
            in_force_U, number = safety.limits.in_force_U, number + 1
            done += (result.num_ticks - 1) // skip


def _count(babbler: Babbler, episodes: list[FlightEpisode]) -> int:
    """Transitions: whole model steps within episodes."""
    return sum((len(episode.rows_L) - 1) // babbler.spec.command.frame_skip for episode in episodes)


def _keep(path: Path, babbler: Babbler, wanted: int) -> None:
    """Something ended the recording: what there is becomes a dataset."""
    episodes = read_episodes(path / "flight")
    if episodes:
        _save(path, babbler, episodes)
        kept = f"{_count(babbler, episodes)} of {wanted} transitions: {path / 'dataset'}"
        console.say(f"live: kept {kept}; the same command goes on, data={path} calibrates from what there is")


def _save(path: Path, babbler: Babbler, episodes: list[FlightEpisode]) -> None:
    write_dataset(path / "dataset", episodes, babbler.spec, "babble")
