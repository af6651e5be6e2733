"""Where command sequences would lead: the true dynamics, followed from one state on all cores."""

import os
from collections.abc import Callable

import mujoco
import mujoco.rollout
import numpy as np
from numpy.typing import NDArray

_PHYSICS = mujoco.mjtState.mjSTATE_FULLPHYSICS


class Rollouts:
    """Futures of one model; the state that they start from stays as it is."""

    def __init__(self, model: mujoco.MjModel):
        self._model = model
        self._workers: list[mujoco.MjData] = []

    def workers(self) -> list[mujoco.MjData]:
        """Data to simulate in, one per core."""
        if not self._workers:
            self._workers = [mujoco.MjData(self._model) for _ in range(os.cpu_count() or 1)]
        return self._workers

    def follow(
        self,
        data: mujoco.MjData,
        control_NKC: NDArray[np.float64],
        substeps: int,
        place: Callable[[mujoco.MjData], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """What `place` finds, (N, K, P, 3), after each of K periods of N control sequences.

        Args:
            data: the state from which all of them start.
            control_NKC: of all C actuators, held for a period each.
            substeps: physics steps of a period.
            place: points of the body [m], (P, 3), once its kinematics are known.
        """
        return self._places(self.states(data, control_NKC, substeps), place)

    def states(self, data: mujoco.MjData, control_NKC: NDArray[np.float64], substeps: int) -> NDArray[np.float64]:
        """MuJoCo's full physics states, (N, K, S), after each of K periods; arguments as of `follow`."""
        num = len(control_NKC)
        start = np.empty(mujoco.mj_stateSize(self._model, _PHYSICS))
        mujoco.mj_getState(self._model, data, start, _PHYSICS)
        states, _ = mujoco.rollout.rollout(
            self._model,
            self.workers(),
            np.broadcast_to(start, (num, start.size)),
            np.repeat(control_NKC, substeps, axis=1),
            initial_warmstart=np.broadcast_to(data.qacc_warmstart, (num, self._model.nv)),
        )
        found: NDArray[np.float64] = states[:, substeps - 1 :: substeps]
        return found

    def _places(
        self, states_NKS: NDArray[np.float64], place: Callable[[mujoco.MjData], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        data = self.workers()[0]
        positions = np.empty((*states_NKS.shape[:2], len(place(data)), 3))
        for where in np.ndindex(*states_NKS.shape[:2]):
            mujoco.mj_setState(self._model, data, states_NKS[where], _PHYSICS)
            mujoco.mj_kinematics(self._model, data)
            positions[where] = place(data)
        return positions
