"""What a controller says of itself while it fails: which of its signs tells failures from successes, and how early?"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from deploy.bench.result import Row
from deploy.runtime.controller import Controller, Plan
from deploy.runtime.familiar import Expectations
from deploy.verification.scenario import Ranges, Scenario
from deploy.verification.trials import Trials
from robot_wm import console
from robot_wm.contracts.bundle import Bundle, read_bundle
from robot_wm.data import journal
from robot_wm.evaluation import reliability
from robot_wm.evaluation.statistics import wilson
from sims import catalog, gl, tasks
from sims.robots import load

_GOAL_SEED = 3_500_000_000  # pairs that no recording, evaluation or verification uses
_NEVER = 1e9
_STRONGEST = 1.5  # of the ranges: enough failures to judge by
_EARLY = 0.2  # share of an attempt after which signs are read: something can still be done
_FALSE_ALARMS = 0.1
_BINS, _TINY = 5, 1e-9
_PER_PAIR = 4  # attempts; the first is undisturbed, the others are disturbed

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
        self._start_s = self._clock()
        self._plan_before: Plan | None = None
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
    drawn uniformly from 0 to `_STRONGEST`. Guards that judge what is unfamiliar are off.
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
            strength, point_A = _STRONGEST * rng.uniform(), rng.uniform(-1, 1, len(ranges.axes()))
            pair, turn = divmod(number, _PER_PAIR)
            if str(number) not in known:
                scenario = Scenario.at(pair, np.round(strength * point_A, 4) if turn else 0 * point_A, ranges, seed)
                episode = trials.attempt(scenario).episode
                line = {
                    "key": str(number),
                    "pair": pair,
                    "strength": strength * (turn > 0),
                    "failed": not episode.success_last,
                    "told": listening.told,
                }
                journal.append(file, line)
                known[str(number)] = line
            found.append(known[str(number)])
    return found


def signs(bundle: Path, embodiment: str, file: Path, num_pairs: int, seed: int) -> list[Row]:
    """Which sign in the first fifth of an attempt tells that it will fail; half of the pairs choose, others judge."""
    heard = listen(bundle, embodiment, file, num_pairs, seed)
    return [*judged(heard, num_pairs), *guarded(heard, num_pairs, read_bundle(bundle).spec.safety.max_surprise)]


def judged(heard: list[dict[str, Any]], num_pairs: int) -> list[Row]:
    """AUROC of each sign on pairs that chose nothing (reference: on the others), and what the chosen one is worth."""
    failed_N = np.array([line["failed"] for line in heard])
    chosen_N = np.array([line["pair"] < num_pairs // 2 for line in heard])  # pairs that choose
    if any(failed_N[half].all() or not failed_N[half].any() for half in (chosen_N, ~chosen_N)):
        return [Row("AUROC of failure (all or none failed)", None, n=len(failed_N))]
    score_N = {name: early(heard, name) for name in heard[0]["told"] if name != "time_s"}
    before = {name: reliability.auroc(s[chosen_N], failed_N[chosen_N]).value for name, s in score_N.items()}
    rows = []
    for name, score in score_N.items():
        found = reliability.auroc(score[~chosen_N], failed_N[~chosen_N])
        n = int((~chosen_N).sum())
        rows.append(Row(f"AUROC of failure: {name}", found.value, n=n, low=found.low, high=found.high,
                        reference=before[name], target=0.5))  # fmt: skip
    best = max(before, key=lambda name: before[name])
    score = score_N[best]
    threshold = float(np.quantile(score[chosen_N & ~failed_N], 1 - _FALSE_ALARMS))
    for told, those_N in (("failures told", failed_N), ("false alarms", ~failed_N)):
        those = score[~chosen_N & those_N] > threshold
        share = wilson(int(those.sum()), len(those))
        rows.append(Row(f"{told} by {best}, best on the pairs that choose, at 10 % false alarms there", share.value,
                        n=len(those), low=share.low, high=share.high))  # fmt: skip
    chance_N = _chance(score[chosen_N], failed_N[chosen_N], score[~chosen_N])
    bins = reliability.curve(chance_N, failed_N[~chosen_N].astype(float), _BINS)
    rows.append(Row(f"chance of failure by {best}: calibration error", reliability.calibration_error(bins), n=n))
    return rows + [
        Row(f"share that failed, part {i + 1} of {len(bins)} by chance", b.found, n=b.count, reference=b.expected)
        for i, b in enumerate(bins)
    ]


def guarded(heard: list[dict[str, Any]], num_pairs: int, limit: float) -> list[Row]:
    """What the guard on unfamiliar images would have stopped within the ranges, at its limit and at a chosen one."""
    heard = [line for line in heard if line["strength"] <= 1]
    failed_N = np.array([line["failed"] for line in heard])
    chosen_N = np.array([line["pair"] < num_pairs // 2 for line in heard])
    most_N = np.array([max(line["told"].get("surprise", [0.0])) for line in heard])
    if not (chosen_N & ~failed_N).any() or not (~chosen_N & failed_N).any() or not (~chosen_N & ~failed_N).any():
        return []
    calibrated = float(np.quantile(most_N[chosen_N & ~failed_N], 1 - _FALSE_ALARMS))
    rows = [Row("max_surprise with 10 % false alarms on the pairs that choose", calibrated, n=int(chosen_N.sum()))]
    for name, value in (("as the body's yaml has it", limit), ("so chosen", calibrated)):
        for told, those_N in (("failures stopped", failed_N), ("false alarms", ~failed_N)):
            those = most_N[~chosen_N & those_N] > value
            share = wilson(int(those.sum()), len(those))
            rows.append(Row(f"guard unfamiliar_image {name} ({value:.2f}): {told}", share.value, n=len(those),
                            low=share.low, high=share.high))  # fmt: skip
    return rows


def early(heard: list[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """Mean of a sign over the first fifth of each attempt, (N,)."""
    until_s = _EARLY * max(line["told"]["time_s"][-1] for line in heard)
    means = []
    for line in heard:
        time_s = np.asarray(line["told"]["time_s"])
        seen = time_s <= max(until_s, time_s[0])
        means.append(float(np.asarray(line["told"][name])[seen].mean()))
    return np.array(means)


def _chance(
    score_N: NDArray[np.float64], failed_N: NDArray[np.bool_], asked_M: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Chance of failure: a logistic curve over the logarithm of a sign, fitted to (score, failed), asked elsewhere."""
    x_N, middle = np.log(score_N + _TINY), float(np.log(score_N + _TINY).mean())

    def loss(weights: NDArray[np.float64]) -> float:
        logit_N = weights[0] + weights[1] * (x_N - middle)
        return float(np.logaddexp(0, np.where(failed_N, -logit_N, logit_N)).sum() + 1e-3 * weights[1] ** 2)

    a, b = minimize(loss, np.zeros(2)).x
    return expit(a + b * (np.log(asked_M + _TINY) - middle))
