"""Standing on one's feet while being pushed: trials, and a search in the true dynamics that shows what is possible."""

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError
from sims.floating import FloatingBase
from sims.rollouts import Rollouts
from sims.simulation import Simulation

TRIAL_S, PUSH_EVERY_S = 10.0, 2.0
_FALLEN = 0.75  # of the height that the base starts at
_HOLD_TICKS = 3  # control periods that an entry of the oracle's plan is held
_HORIZON, _CANDIDATES, _ITERATIONS, _ELITES = 8, 32, 2, 4
_START_STD, _LEAST_STD = 0.3, 0.05
_HEIGHT, _LEAN, _SPEED, _TURN, _POSE, _PLACE = 40.0, 10.0, 0.5, 0.05, 0.5, 0.5  # what the oracle minds


class Standing:
    """Trials of one body whose base floats.

    Attributes:
        simulation: the body.
        push_m_s: by how much each push changes the base's velocity, in a direction of its own.
    """

    def __init__(self, simulation: Simulation, push_m_s: float):
        if simulation.base is None:
            raise UserError(
                f"{simulation.embodiment.name} cannot fall: its base does not float",
                "Give a body that stands on its feet, such as humanoid_free",
            )
        self.simulation, self.push_m_s = simulation, push_m_s
        self._base: FloatingBase = simulation.base
        self._rollouts = Rollouts(simulation.model)
        rate_hz = simulation.embodiment.control_rate_hz
        self.ticks, self._every = round(TRIAL_S * rate_hz), round(PUSH_EVERY_S * rate_hz)

    def start(self, seed: int) -> None:
        """On the feet, joints a little off their home, at rest; pushes follow from the seed as well."""
        simulation = self.simulation
        simulation.reset(seed)
        self._start_qpos = simulation.data.qpos.copy()
        rng = np.random.default_rng([seed, 1])
        angles = rng.uniform(-np.pi, np.pi, self.ticks // self._every + 1)
        self._pushes = self.push_m_s * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
        self._tick = 0

    def step(self, command_U: NDArray[np.float64]) -> bool:
        """One control period, with a push where one is due; whether the body still stands."""
        if self._tick and self._tick % self._every == 0:
            self._base.push(self.simulation.data, self._pushes[self._tick // self._every])
        self.simulation.step(command_U)
        self._tick += 1
        return not self.fallen

    @property
    def fallen(self) -> bool:
        """Whether the base has sunk to three quarters of its height: no body gets up from there by standing."""
        height = self._base.place(self.simulation.data.qpos)[2]
        return bool(height < _FALLEN * self._base.place(self._start_qpos)[2])

    @property
    def upright(self) -> NDArray[np.float64]:
        """Proprio of standing as it started, at rest: what to reach, (P,)."""
        upright = self.simulation.measured(self._start_qpos, np.zeros(self.simulation.model.nv))
        return np.asarray(upright, dtype=np.float64)

    def oracle(
        self, rng: np.random.Generator, warm_HU: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The next commands, (3, U), by the cross-entropy method in the true dynamics, and the plan to start from next.

        It knows the model and its whole state, but no push before it has come.
        """
        command = self.simulation.command
        mean_HU = np.zeros((_HORIZON, command.dim)) if warm_HU is None else warm_HU
        std_HU = np.full_like(mean_HU, _START_STD)
        best_HU, best_cost = mean_HU, np.inf
        for _ in range(_ITERATIONS):
            plans_NHU = np.clip(mean_HU + std_HU * rng.normal(size=(_CANDIDATES, *mean_HU.shape)), -1, 1)
            plans_NHU[:3] = mean_HU, np.zeros_like(mean_HU), best_HU
            costs_N = self._costs(np.stack([self._commands(plan_HU) for plan_HU in plans_NHU]))
            order = np.argsort(costs_N)
            if costs_N[order[0]] < best_cost:
                best_HU, best_cost = plans_NHU[order[0]], costs_N[order[0]]
            elites = plans_NHU[order[:_ELITES]]
            mean_HU, std_HU = elites.mean(0), np.maximum(elites.std(0), _LEAST_STD)
        return self._commands(best_HU)[:_HOLD_TICKS], np.vstack([mean_HU[1:], 0 * mean_HU[:1]])

    def _commands(self, plan_HU: NDArray[np.float64]) -> NDArray[np.float64]:
        ticks = np.repeat(plan_HU, _HOLD_TICKS, axis=0)
        return self.simulation.command.denormalize(ticks, self.simulation.reference())

    def _costs(self, commands_NKU: NDArray[np.float64]) -> NDArray[np.float64]:
        """On average over the horizon, and twice at its end."""
        simulation, model, start = self.simulation, self.simulation.model, self._start_qpos
        states_NKS = self._rollouts.states(simulation.data, simulation.controls(commands_NKU), simulation.substeps)
        qpos = states_NKS[..., 1 : 1 + model.nq]
        qvel = states_NKS[..., 1 + model.nq : 1 + model.nq + model.nv]
        base, joints = self._base, simulation.measured(qpos, qvel)[..., : simulation.command.dim]
        away_m = base.place(qpos) - base.place(start)
        home = simulation.measured(start, qvel[0, 0])[: simulation.command.dim]
        cost_NK = (
            _HEIGHT * away_m[..., 2] ** 2
            + _PLACE * np.square(away_m[..., :2]).sum(-1)
            + _LEAN * (1 - base.up(qpos)[..., 2])
            + _SPEED * np.square(base.speed(qvel)[..., :2]).sum(-1)
            + _TURN * np.square(base.turn(qvel)).sum(-1)
            + _POSE * np.square(joints - home).sum(-1)
        )
        costs_N: NDArray[np.float64] = cost_NK.mean(1) + 2 * cost_NK[:, -1]
        return costs_N
