"""A motion to record for identification: planned, shown and judged before anything moves."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import mujoco
import numpy as np

from calibration import mjcf
from calibration.excitation import Excitation, ExcitationConfig, Limits, plan
from calibration.signals import Log
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import open_run
from robot_wm.data.video import encode
from sims import models, robots
from sims.simulation import Simulation

_MOTION, _PICTURE, _VIDEO = "motion.json", "motion.png", "motion.mp4"
_VIDEO_FPS = 20


@dataclass(frozen=True)
class PlanConfig:
    """Configuration of `robot-wm calibrate plan`.

    Attributes:
        embodiment: the body; its `identifiable` names the parameters that the motion is to tell.
        motion: the family searched.
    """

    embodiment: Embodiment
    motion: ExcitationConfig = field(default_factory=ExcitationConfig)
    name: str = "plan"
    out: str = "runs"
    seed: int = 0


def plan_motion(config: PlanConfig) -> Path:
    """Plan the motion, write it with its picture and video; returns the run folder.

    Raises:
        UserError: a body that takes no joint positions, or from whose home nothing safe is found.
    """
    if config.embodiment.interface != "joint_position":
        raise UserError(
            f"{config.embodiment.name} takes {config.embodiment.interface} commands",
            "A motion is planned for joint_position bodies",
        )
    with open_run(Path(config.out), "plan", config.name, config, robots.model_inputs(config.embodiment)) as run:
        if run.complete:
            console.say(f"plan: already done with the same inputs: {run.path}")
            return run.path
        simulation = robots.load(config.embodiment, config.seed)
        limits, home = _limits(simulation)
        joints = [n.removesuffix("_position") for n in simulation.proprio_names if n.endswith("_position")]
        actuators, rate_hz = simulation.command.names, simulation.command.control_rate_hz
        spec = models.read(config.embodiment.mjcf, config.embodiment.interface)
        rest = np.zeros((10, len(joints)))
        known = Log(np.arange(10.0), np.zeros((10, len(actuators))), rest, tuple(joints), tuple(actuators))
        chosen = mjcf.choose(simulation.model, known, config.embodiment.identifiable)
        found = plan(spec, joints, actuators, chosen, home, limits, rate_hz, config.motion, config.seed)
        _show(found)
        files.write_json(run.path / _MOTION, _describe(found, actuators, rate_hz))
        files.write_atomic(run.path / _PICTURE, picture(found, limits, tuple(actuators)))
        _film(run.path / _VIDEO, simulation, found, rate_hz)
        metrics = {"information": found.information, "random_information": found.random_information}
        run.finish([_MOTION, _PICTURE, _VIDEO], metrics, embodiment_sha256=config.embodiment.digest())
        return run.path


def _limits(simulation: Simulation) -> tuple[Limits, np.ndarray]:
    command = simulation.command
    low, high = simulation.joint_limits()
    low, high = np.maximum(low, command.low), np.minimum(high, command.high)
    return Limits(low, high, np.asarray(command.max_step) * command.control_rate_hz), simulation.reference()


def picture(found: Excitation, limits: Limits, names: tuple[str, ...]) -> bytes:
    """PNG: each joint's command within its limits, and how surely each parameter will be known."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    num = len(names)
    heights = [1.5] * num + [0.28 * len(found.parameters) + 0.8]
    size = (8, sum(heights) + 0.4)
    figure, axes = pyplot.subplots(num + 1, 1, figsize=size, layout="constrained", height_ratios=heights)
    for u, (axis, name) in enumerate(zip(axes[:-1], names, strict=True)):
        axis.axhspan(limits.low[u], limits.high[u], color="0.93")
        axis.plot(found.time_s, found.command_NU[:, u], lw=1.2, label="command")
        axis.plot(found.time_s, found.position_NJ[:, u], lw=1.2, ls="--", label="expected position")
        axis.set_ylabel(f"{name}\n[rad or m]")
        axis.margins(x=0)
    axes[0].legend(loc="upper right", ncols=2, fontsize="small")
    axes[0].set_title("Planned motion; gray: limits")
    axes[-2].set_xlabel("time [s]")
    scale = np.array([p.scale for p in found.parameters])
    share, low = 100 * found.interval_P / scale, np.arange(len(scale))
    axes[-1].barh(low, share)
    axes[-1].set_yticks(low, [p.name for p in found.parameters])
    axes[-1].invert_yaxis()
    axes[-1].set_xlabel("predicted 95 % interval, ± % of the MJCF's value (or 5 % of its range)")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    pyplot.close(figure)
    return stream.getvalue()


def _film(path: Path, simulation: Simulation, found: Excitation, rate_hz: float) -> None:
    every = max(1, round(rate_hz / _VIDEO_FPS))
    frames = []
    model, data = simulation.model, simulation.data
    joints = [model.joint(n.removesuffix("_position")) for n in simulation.proprio_names if n.endswith("_position")]
    for position in found.position_NJ[::every]:
        for joint, value in zip(joints, position, strict=True):
            data.qpos[joint.qposadr[0]] = value
        mujoco.mj_forward(model, data)
        frames.append(simulation.frame(384, 384))
    encode(path, np.stack(frames), rate_hz / every)


def _describe(found: Excitation, actuators: tuple[str, ...], rate_hz: float) -> dict[str, object]:
    return {
        "rate_hz": rate_hz,
        "actuators": list(actuators),
        "commands": found.command_NU.tolist(),
        "expected_positions": found.position_NJ.tolist(),
        "predicted_intervals": {
            p.name: {"interval": float(w), "value": p.nominal, "unit": p.unit}
            for p, w in zip(found.parameters, found.interval_P, strict=True)
        },
        "information": found.information,
        "random_information": found.random_information,
    }


def _show(found: Excitation) -> None:
    rows = [
        (p.name, f"{p.nominal:.4g}", f"{w:.2g}", p.unit)
        for p, w in zip(found.parameters, found.interval_P, strict=True)
    ]
    console.table("What this motion will tell", ("parameter", "MJCF", "± 95 %", "unit"), rows)
    gain = np.exp((found.information - found.random_information) / (2 * len(found.parameters)))
    console.say(f"intervals {gain:.2f} times narrower (geometric mean) than a random motion under the same limits")
    if found.refused:
        console.say(f"{found.refused} candidates were left out: they touched something or left a joint's range")
