"""What sets a twin apart from its model: drawn from one seed, turned up by one dial, kept where only judges look."""

import copy
from dataclasses import dataclass, fields, replace
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_wm.contracts import config, files
from robot_wm.contracts.embodiment import Camera
from robot_wm.contracts.errors import UserError
from sims import actuation, distractors
from sims.simulation import Simulation

TRUTH = "truth.json"
PRESETS: dict[str, tuple[str, ...]] = {  # which faults a severity turns up
    "all": ("body", "drive", "timing", "camera", "picture"),
    "body": ("body",),
    "drive": ("drive",),
    "timing": ("timing",),
    "camera": ("camera", "picture"),
}
_GROUPS = {
    "body": ("mass", "friction", "damping", "armature"),
    "drive": ("gain", "backlash"),
    "timing": ("delay_s", "jitter_s", "dropped"),
    "camera": ("camera_shift_m", "camera_turn_rad", "fovy"),
    "picture": ("exposure", "noise"),
}
# At severity 1: the largest logarithm of a factor, or the largest value.
_MASS, _FRICTION, _DAMPING, _ARMATURE, _GAIN, _FOVY, _EXPOSURE = 0.3, 0.4, 0.7, 0.4, 0.15, 0.06, 0.3
_BACKLASH = {True: 0.01, False: 0.003}  # share of a position's range; of a second at the range of a velocity
_DELAY_S, _JITTER_S, _DROPPED = (0.04, 0.12), 0.02, 0.2
_SHIFT_M, _TURN_RAD, _NOISE = 0.03, 0.035, 12.0


@dataclass(frozen=True)
class Truth:
    """The hidden parameters; only an evaluation may read them. As it is here, a twin is its simulation.

    Attributes:
        mass: factor of each body's mass and inertia, the world first.
        friction: factor of the sliding friction of every contact.
        damping, armature: factor of each degree of freedom's.
        gain: factor of each command's effect: of a servo's stiffness, a motor's force, an end effector's velocity.
        backlash: play between each command and its effect [the command's unit; for velocities, of their integral].
        delay_s: from a command to its effect.
        jitter_s: each command is later by up to this, but never overtakes the one before.
        dropped: share of frames that never arrive; the one before is seen again.
        camera_shift_m: of the camera's place, in the world.
        camera_turn_rad: of its view, about the camera's x, y and z (right, up, back).
        fovy: factor of its vertical field of view.
        exposure: factor of every pixel.
        noise: standard deviation of every pixel, of 255.
        distractors: coloured things that swing about in the picture and touch nothing.
    """

    mass: tuple[float, ...] = ()
    friction: float = 1.0
    damping: tuple[float, ...] = ()
    armature: tuple[float, ...] = ()
    gain: tuple[float, ...] = ()
    backlash: tuple[float, ...] = ()
    delay_s: float = 0.0
    jitter_s: float = 0.0
    dropped: float = 0.0
    camera_shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    camera_turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fovy: float = 1.0
    exposure: float = 1.0
    noise: float = 0.0
    distractors: int = 0

    @classmethod
    def draw(cls, simulation: Simulation, severity: float, seed: int, preset: str = "all") -> "Truth":
        """The same faults for the same seed, all of them larger with the severity: 0 (none) to 1.

        Raises:
            UserError: a severity out of range, or an unknown preset.
        """
        if not 0 <= severity <= 1:
            raise UserError(f"severity is {severity}", "Give a number from 0 to 1")
        if preset not in PRESETS:
            raise UserError(f"twin preset {preset!r} is not known", f"Choose one of: {', '.join(PRESETS)}")
        if severity == 0:
            return cls()
        model, command = simulation.model, simulation.command
        rng = np.random.default_rng([seed, 0])

        def factors(most: float, count: int) -> tuple[float, ...]:
            return tuple(np.exp(severity * most * rng.uniform(-1, 1, count)).tolist())

        def vector(most: float) -> tuple[float, float, float]:
            x, y, z = (severity * most * rng.uniform(-1, 1, 3)).tolist()
            return x, y, z

        span = np.subtract(command.high, command.low)
        drawn = cls(  # every draw is made whatever the preset, so that presets are parts of one twin
            mass=factors(_MASS, model.nbody),
            friction=factors(_FRICTION, 1)[0],
            damping=factors(_DAMPING, model.nv),
            armature=factors(_ARMATURE, model.nv),
            gain=factors(_GAIN, command.dim),
            backlash=tuple(
                (severity * _BACKLASH[command.is_position] * rng.uniform(0.3, 1, command.dim) * span).tolist()
            ),
            delay_s=severity * rng.uniform(*_DELAY_S),
            jitter_s=severity * _JITTER_S,
            dropped=severity * _DROPPED,
            camera_shift_m=vector(_SHIFT_M),
            camera_turn_rad=vector(_TURN_RAD),
            fovy=factors(_FOVY, 1)[0],
            exposure=factors(_EXPOSURE, 1)[0],
            noise=severity * _NOISE,
        )
        kept = {name for group in PRESETS[preset] for name in _GROUPS[group]}
        return replace(cls(), **{f.name: getattr(drawn, f.name) for f in fields(cls) if f.name in kept})

    def save(self, folder: Path) -> Path:
        """Write `truth.json` for whoever evaluates; nothing that a controller or calibration reads contains it."""
        files.write_json(folder / TRUTH, config.to_mapping(self))
        return folder / TRUTH

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Read what `save` wrote."""
        return config.from_mapping(cls, files.read_json(folder / TRUTH), str(folder / TRUTH))


class Hidden:
    """Writes a truth into the body of a simulation, and takes it out again.

    The model is changed in place, so that a task or an oracle on the same simulation works in the true dynamics; its
    own values are kept for `remove`. Nothing is compiled anew: what the compiler derives from masses is derived again.
    """

    def __init__(self, simulation: Simulation, truth: Truth, seed: int = 0):
        """Args: simulation, truth: as said; seed: of the distractors' places and looks."""
        self._simulation, self._camera = simulation, simulation.camera
        self._changed: dict[str, NDArray[np.float64]] = {}
        self._write_body(truth)
        self._write_camera(truth)
        self._scattered = truth.distractors > 0
        if self._scattered:
            things = distractors.scatter(simulation.model, simulation.camera, truth.distractors, seed)
            simulation.look_through(simulation.camera, lambda scene, time_s: distractors.add(scene, things, time_s))

    def remove(self) -> None:
        """Put the model's own values back."""
        for field, values in self._changed.items():
            getattr(self._simulation.model, field)[:] = values
        self._changed.clear()
        if self._simulation.camera != self._camera or self._scattered:
            self._simulation.look_through(self._camera)

    def _scale(self, field: str, factors: ArrayLike) -> None:
        """Multiply a field of the model, row by row."""
        values = getattr(self._simulation.model, field)
        self._changed.setdefault(field, values.copy())
        values *= np.reshape(factors, (-1, *[1] * (values.ndim - 1)))

    def _write_body(self, truth: Truth) -> None:
        model = self._simulation.model
        if truth.friction != 1:
            self._scale("geom_friction", np.ones(model.ngeom))
            model.geom_friction[:, 0] *= truth.friction
            if model.npair:
                self._scale("pair_friction", np.ones(model.npair))
                model.pair_friction[:, :2] *= truth.friction
        if truth.damping:
            self._scale("dof_damping", truth.damping)
        if truth.armature:
            self._scale("dof_armature", truth.armature)
        if truth.mass:
            self._scale("body_mass", truth.mass)
            self._scale("body_inertia", truth.mass)
        if truth.gain and has_actuators(self._simulation):
            actuators = actuation.select(self._simulation.embodiment, model)
            for field in ("actuator_gainprm", "actuator_biasprm"):
                self._scale(field, np.ones(model.nu))
            model.actuator_gainprm[actuators, 0] *= truth.gain
            model.actuator_biasprm[actuators, 1] *= truth.gain
        if truth.mass or truth.armature:
            derived = (
                "body_subtreemass",
                "body_invweight0",
                "dof_invweight0",
                "dof_M0",
                "actuator_acc0",
                "tendon_invweight0",
            )
            for field in derived:
                self._changed.setdefault(field, getattr(model, field).copy())
            fresh = copy.copy(model)
            mujoco.mj_setConst(fresh, mujoco.MjData(fresh))  # on a copy: it also moves the statistics that views use
            for field in derived:
                getattr(model, field)[:] = getattr(fresh, field)

    def _write_camera(self, truth: Truth) -> None:
        if not any(truth.camera_shift_m) and not any(truth.camera_turn_rad) and truth.fovy == 1:
            return
        seen, model = self._camera, self._simulation.model
        if seen.position_m is not None:
            self._simulation.look_through(_moved(seen, truth))
            return
        camera = model.camera(seen.name)
        for field in ("cam_pos", "cam_quat", "cam_fovy"):
            self._changed.setdefault(field, getattr(model, field).copy())
        turn = np.asarray(truth.camera_turn_rad)
        angle = float(np.linalg.norm(turn))
        spin, parent = np.zeros(4), np.zeros(4)
        mujoco.mju_axisAngle2Quat(spin, turn / angle if angle else np.array([1.0, 0, 0]), angle)
        parent[:] = camera.quat
        mujoco.mju_mulQuat(camera.quat, parent, spin)
        camera.pos[:] += truth.camera_shift_m
        camera.fovy[:] *= truth.fovy


def has_actuators(simulation: Simulation) -> bool:
    """Whether commands go to actuators of the model, not through an environment."""
    return simulation.command.interface != "end_effector_velocity"


def _moved(camera: Camera, truth: Truth) -> Camera:
    """A camera that stands in the world, shifted, turned and zoomed; about its view's axis it does not turn."""
    position, target = np.asarray(camera.position_m), np.asarray(camera.target_m)
    back = position - target
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    up = np.cross(back / np.linalg.norm(back), right)
    about_x, about_y, _ = truth.camera_turn_rad
    aside = np.linalg.norm(back) * (np.tan(about_x) * up - np.tan(about_y) * right)
    (x, y, z), (u, v, w) = (position + truth.camera_shift_m).tolist(), (target + truth.camera_shift_m + aside).tolist()
    return replace(camera, position_m=(x, y, z), target_m=(u, v, w), fovy_deg=camera.fovy_deg * truth.fovy)
