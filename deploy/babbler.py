"""In a controller's place: the motion that calibration logs are made of, planned in the body's own model."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.export import parts
from deploy.runtime.controller import Plan
from robot_wm.contracts.bundle import SCHEMA, ControllerSpec
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from sims.behaviours import Space, babble, babble_space
from sims.robots import load

_ENDLESS = 10**9  # commands of a babble; the flight says when it is over
_NEAR_M, _MOST_STEPS = 0.003, 60  # the model's hand is led to the robot's: how near, in how many control periods
_OPSET = 20  # of graphs that this controller does not have


class Babbler:
    """Commands as a twin's calibration log is recorded with, for a robot that is somewhere else than its model.

    Before every model step the model is put where the robot says that it is, and the command that was really sent last
    is the one in force there. So motion stays around the body's home pose however far the robot is from its model.

    Attributes:
        spec: what the runtime knows of the body: its limits, guards, camera and proprio. There are no graphs.
        reference_U: the command in force [the command's unit].
        space: the box around the home pose in which the robot will move.
    """

    def __init__(self, embodiment: Embodiment, seed: int = 0):
        """Load the body's model; `close` frees it.

        Raises:
            UserError: a body that does not load, or one that cannot be driven without a controller.
        """
        self._model = load(embodiment, seed)
        if embodiment.interface == "joint_torque" or self._model.base is not None:
            self._model.close()
            raise UserError(
                f"{embodiment.name} {'floats' if self._model.base else 'is driven by torques'}, and may fall",
                "Record a log with the controller that holds it, and give data=LOG",
            )
        self.spec = _describe(embodiment, self._model.command, self._model.proprio_names)
        self._cartesian = embodiment.interface == "end_effector_velocity"
        self.reference_U = self.spec.command.hold(np.zeros(self.spec.command.dim))
        self.begin(seed)

    def begin(self, seed: int) -> None:
        """A new episode: other waypoints, around the home pose again."""
        self._model.reset(seed)
        self.space: Space = babble_space(self._model)
        self._commands = babble(self._model, _ENDLESS, np.random.default_rng(seed))
        next(self._commands)  # the box is drawn around where the model is now

    def reset(self, reference_U: NDArray[np.float64] | None = None, seed: int | None = None) -> None:
        """As a controller's; motion goes on where it was."""
        if reference_U is not None:
            self.sent(reference_U)

    def sent(self, command_U: NDArray[np.float64]) -> None:
        """What the robot was really sent."""
        self.reference_U = np.array(command_U, dtype=np.float64)

    def step(
        self,
        frame_YXC: NDArray[np.uint8],
        proprio_P: NDArray[np.floating[Any]],
        pending_SKU: NDArray[np.float64] | None = None,
    ) -> Plan:
        """The commands of the next model step.

        Raises:
            UserError: proprio of another length.
        """
        started_s, space = time.perf_counter(), self.spec.command
        if np.shape(proprio_P) != (len(self.spec.proprio),):
            raise UserError(f"proprio has shape {np.shape(proprio_P)}", f"The body has: {', '.join(self.spec.proprio)}")
        self._follow(np.asarray(proprio_P, dtype=np.float64))
        command_KU = np.empty((space.frame_skip, space.dim))
        for k in range(space.frame_skip):
            command_KU[k] = self._model.step(next(self._commands))
        return Plan(command_KU, 0.0, float("nan"), 0.0, time.perf_counter() - started_s, np.zeros(1, np.float32))

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def _follow(self, place_P: NDArray[np.float64]) -> None:
        """Put the model where the robot is, with the robot's command in force."""
        if self._cartesian:
            self._lead(place_P[:3])
        else:
            self._model.pose(place_P[: self.spec.command.dim])
        state = self._model.state()
        state[-self.spec.command.dim :] = self.reference_U
        self._model.restore(state)

    def _lead(self, place_m: NDArray[np.float64]) -> None:
        """Drive the model's hand to where the robot's is: bodies without measured joints cannot be posed."""
        space, command_U = self.spec.command, np.zeros(self.spec.command.dim)
        for _ in range(_MOST_STEPS):
            way_m = place_m - self._model.end_effector()
            if np.abs(way_m).max() < _NEAR_M:
                return
            command_U[:3] = np.clip(way_m * space.control_rate_hz, space.low[:3], space.high[:3])
            self._model.step(command_U)


def _describe(embodiment: Embodiment, command: Any, proprio: tuple[str, ...]) -> ControllerSpec:
    safety, camera = embodiment.safety, embodiment.camera
    solids = parts.measure(embodiment, safety.self_clearance_m or 0.0, None)[0] if safety.needs_solids else None
    return ControllerSpec(
        schema=SCHEMA, embodiment=embodiment.name, embodiment_sha256=embodiment.digest(), camera=camera.name,
        height=camera.height, width=camera.width, proprio=tuple(proprio), command=command, safety=safety, latent_dim=1,
        history=1, horizon=1, candidates=1, iterations=1, opset=_OPSET, files={}, parity={}, lineage={}, solids=solids,
    )  # fmt: skip
