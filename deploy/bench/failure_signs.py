"""What a controller says of itself while it fails: which of its signs tells failures from successes, and how early?"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.controller import Controller, Plan
from deploy.runtime.familiar import Expectations
from deploy.verification.scenario import Ranges, Scenario
from deploy.verification.trials import Trials
from robot_wm import console
from robot_wm.contracts.bundle import Bundle, read_bundle
from robot_wm.data import journal
from sims import catalog, gl, tasks
from sims.robots import load

_GOAL_SEED = 3_500_000_000  # pairs that no recording, evaluation or verification uses
_NEVER = 1e9
_PER_PAIR = 4  # attempts; the first is undisturbed, the others are disturbed by up to all of the ranges

Told = dict[str, list[float]]


class Listening:
    """A controller that notes what can be known of every plan of an episode.

    Attributes:
        told: per plan: `time_s` since the start; `cost` and `uncertainty` as planned; `away`, distance of the image's
            latent from the goal's; `surprise` and `miss` (see contracts.familiar); `jump` of the latent since the plan
            before; `dissent`, how far the command head's chunk is from the searched one, in shares of the range.
    """

    def __init__(self, bundle: Bundle, clock: Callable[[], float]):
        self._controller = Controller(bundle, num_threads=1)
        self._head = Controller(bundle, num_threads=1, mode="head") if (bundle.path / "head.onnx").is_file() else None
        spec = bundle.spec
        blind = replace(spec.safety, max_surprise=_NEVER, max_unexpected=_NEVER)
        self.spec = replace(spec, safety=blind)  # a guard that holds the robot would make its own prediction true
        self._familiar = None if spec.familiar is None else Expectations(spec.familiar, spec.command.frame_skip)
        self._log = spec.familiar
        self._clock, self._span_U = clock, np.subtract(spec.command.high, spec.command.low)
        self._forget()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._controller, name)

    def _forget(self) -> None:
        self.told: Told = {}
        self._start_s, self._plan_before = self._clock(), None
        self._chunks = deque[NDArray[np.float64]](maxlen=2)
        self._expected_P: NDArray[np.float64] | None = None

    def set_goal(self, frame_YXC: NDArray[np.uint8]) -> None:
        """As the controller."""
        self._controller.set_goal(frame_YXC)
        self._goal_D = self._controller.encode(frame_YXC)
        if self._head is not None:
            self._head.set_goal(frame_YXC)

    def reset(self, reference_U: NDArray[np.float64] | None = None, seed: int | None = None) -> None:
        """As the controller; with a seed a new episode begins, and what was told is forgotten."""
        self._controller.reset(reference_U, seed)
        if self._head is not None:
            self._head.reset(reference_U)
        if seed is not None:
            self._forget()

    def step(self, frame_YXC: NDArray[np.uint8], proprio_P: NDArray[np.float32]) -> Plan:
        """As the controller."""
        reference_U = self._controller.reference_U
        plan = self._controller.step(frame_YXC, proprio_P)
        signs = {"time_s": self._clock() - self._start_s, "cost": plan.cost, "uncertainty": plan.uncertainty}
        signs["away"] = float(np.square(plan.latent_D - self._goal_D).mean())
        before = self._plan_before
        signs["jump"] = 0.0 if before is None else float(np.square(plan.latent_D - before.latent_D).mean())
        if self._familiar is not None:
            signs["surprise"] = self._familiar.look(plan.latent_D)
            signs["miss"] = self._missed(proprio_P.astype(np.float64), plan.command_KU)
        if self._head is not None:
            self._head.sent(reference_U)
            proposed_KU = self._head.step(frame_YXC, proprio_P).command_KU
            signs["dissent"] = float((np.abs(proposed_KU - plan.command_KU) / self._span_U).mean())
        for name, value in signs.items():
            self.told.setdefault(name, []).append(float(value))
        self._plan_before = plan
        return plan

    def _missed(self, proprio_P: NDArray[np.float64], chunk_KU: NDArray[np.float64]) -> float:
        """By how much the model step before ended elsewhere than the log makes expect; what is expected of the next."""
        assert self._log is not None
        missed = 0.0
        if self._expected_P is not None:
            missed = float(np.max(np.abs(proprio_P - self._expected_P) / self._log.worst))
        self._chunks.append(chunk_KU)
        if len(self._chunks) == 2:
            inputs_F = np.concatenate([*map(np.ravel, self._chunks), proprio_P, [1.0]])
            self._expected_P = proprio_P + np.asarray(self._log.step) @ inputs_F
        return missed


def listen(bundle: Path, embodiment: str, file: Path, num_pairs: int, seed: int) -> list[dict[str, Any]]:
    """Attempts on held-out pairs, undisturbed and disturbed, with what was told of every plan; kept in `file`.

    Every pair is tried undisturbed, then under points drawn uniformly from the ranges of `verify`, times a strength
    drawn uniformly from 0 to 1.
    """
    gl.choose_backend()
    known = {line["key"]: line for line in journal.read(file)}
    rng = np.random.default_rng([seed, 11])
    ranges, found = Ranges(), []
    with load(catalog.find(embodiment)) as simulation:
        listening = Listening(read_bundle(bundle), lambda: simulation.time_s)
        task = tasks.make(simulation, None)
        trials = Trials(task, task.pairs(num_pairs, _GOAL_SEED + 10_000 * seed), listening, file)
        for number in console.track(range(num_pairs * _PER_PAIR), "signs of failure"):
            point_A = rng.uniform() * rng.uniform(-1, 1, len(ranges.axes()))
            pair, turn = divmod(number, _PER_PAIR)
            if str(number) not in known:
                scenario = Scenario.at(pair, np.round(point_A, 4) * (turn > 0), ranges, seed)
                episode = trials.attempt(scenario).episode
                line = {
                    "key": str(number),
                    "pair": pair,
                    "disturbed": turn > 0,
                    "failed": not episode.success_last,
                    "guards": episode.guards,
                    "distances_m": [round(d, 5) for d in episode.distances_m],
                    "told": listening.told,
                }
                journal.append(file, line)
                known[str(number)] = line
            found.append(known[str(number)])
    return found
