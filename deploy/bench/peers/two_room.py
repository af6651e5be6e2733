"""Two-Room in stable-worldmodel's own environment, with its expert's data. Runs in its environment.

Its protocol starts from a frame of an expert's episode and asks for the one 25 steps later, on the episodes that it
trained on; whoever has been there at any of 50 steps succeeded. Here that is a number beside: success counts on
episodes of other seeds, in which start and goal are further apart than what counts as success.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bench.peers import swm
from deploy.bench.peers.contest import Contest, Outcome, count, memory_mib
from deploy.bench.peers.jepa import Learned, learn, plan_of, search
from deploy.bench.peers.training import scale
from robot_wm.contracts import run
from robot_wm.contracts.errors import UserError

_ENVIRONMENT = "swm/TwoRoom-v1"
_EXPERT = {"action_noise": 3.0, "action_repeat_prob": 0.1}  # as its script records
_BLOCK, _OFFSET, _BUDGET, _LONGEST = 5, 25, 50, 100  # steps: of a block, to the goal, of an attempt, of an episode
_APART_PX = 16.0  # nearer than this is a success
_AT_ONCE = 8  # environments side by side while the expert is recorded
_HELD_OUT = 1_000_000  # seeds of held-out episodes begin there
_INTO_STATE = [
    {"method": "_set_state", "args": {"state": {"value": "state"}}},
    {"method": "_set_goal_state", "args": {"goal_state": {"value": "goal_state"}}},
]


def lewm(contest: Contest) -> Outcome:
    """LeWM on an expert's data."""
    return _fly(contest, "lewm")


def pldm(contest: Contest) -> Outcome:
    """PLDM on an expert's data."""
    return _fly(contest, "pldm")


def random(contest: Contest) -> Outcome:
    """Random actions on the same pairs."""
    return _fly(contest, None)


def _fly(contest: Contest, name: str | None) -> Outcome:
    swm.prepare()
    episodes = max(4, contest.transitions * _BLOCK // _LONGEST)
    trained = recorded(contest, episodes, contest.seed, "trained")
    held = recorded(contest, episodes // 4, contest.seed + _HELD_OUT, "held-out")
    learned = learn(name, trained, _BLOCK, contest) if name else None
    pairs = pairs_of(held, contest.pairs, contest.seed, unsolved=True)
    successes, plan_ms = _judge(held, pairs, learned, contest.seed)
    its_pairs = pairs_of(trained, contest.pairs, contest.seed, unsolved=False)
    its, _ = _judge(trained, its_pairs, learned, contest.seed)
    common = Outcome(
        pairs=f"two-room-{contest.seed}-{len(pairs)}", successes=successes, trials=len(pairs), plan_ms=plan_ms,
        memory_mib=memory_mib(), revision=run.git_revision(),
        numbers={"success by its own protocol, on episodes that it trained on": (its / len(its_pairs), "1")},
    )  # fmt: skip
    if learned is None:
        return common
    return replace(
        common, labels=_rows(trained) // _BLOCK, train_s=learned.train_s,
        samples_per_s=learned.samples / learned.train_s, parameters=count(learned.model), remark=learned.size.remark,
    )  # fmt: skip


def recorded(contest: Contest, episodes: int, seed: int, what: str) -> Path:
    """Its expert's episodes in its format, recorded by its own code."""
    import stable_worldmodel  # type: ignore[import-not-found]
    from stable_worldmodel.envs.two_room import ExpertPolicy  # type: ignore[import-not-found]

    file = Path(contest.cache) / f"two-room-{what}-{episodes}-{seed}.h5"
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(f".{os.getpid()}.h5")  # two parts may record the same
    world = stable_worldmodel.World(
        _ENVIRONMENT, min(_AT_ONCE, episodes), (scale().image,) * 2, max_episode_steps=_LONGEST
    )  # fmt: skip
    try:
        world.set_policy(ExpertPolicy(**_EXPERT, seed=seed))
        world.collect(half, episodes=episodes, seed=seed, format="hdf5", progress=False)
    finally:
        world.close()
    half.replace(file)
    return file


def pairs_of(file: Path, num: int, seed: int, unsolved: bool) -> list[tuple[int, int]]:
    """Episodes and the rows in them where attempts start, drawn from all that are far enough from an episode's end.

    Raises:
        UserError: there are none.
    """
    import h5py  # type: ignore[import-not-found]

    with h5py.File(file, "r") as data:
        lengths, offsets, place = data["ep_len"][:], data["ep_offset"][:], data["state"][:]
    starts = [(e, s) for e, length in enumerate(lengths) for s in range(max(0, length - _OFFSET - 1))]
    rows = np.array([offsets[e] + s for e, s in starts], np.int64)
    apart = np.linalg.norm(place[rows + _OFFSET] - place[rows], axis=1) if starts else np.zeros(0)
    drawn = np.random.default_rng(seed).permutation(len(starts))
    found = [starts[i] for i in drawn if not unsolved or apart[i] >= _APART_PX]
    if not found:
        raise UserError(f"{file.name} has no episode with a goal {_OFFSET} steps on", "Record more episodes")
    return sorted(found[:num])


def _rows(file: Path) -> int:
    import h5py

    with h5py.File(file, "r") as data:
        return int(data["ep_len"][:].sum())


def _judge(
    file: Path, pairs: list[tuple[int, int]], learned: Learned | None, seed: int
) -> tuple[int, float | None]:  # fmt: skip
    """Successes by its own evaluation, and one plan's time [ms] on average over all that were made."""
    import stable_worldmodel
    from stable_worldmodel.data import HDF5Dataset  # type: ignore[import-not-found]

    world = stable_worldmodel.World(
        _ENVIRONMENT, len(pairs), (scale().image,) * 2, max_episode_steps=2 * _BUDGET
    )  # fmt: skip
    timed, policy = None, stable_worldmodel.policy.RandomPolicy(seed=seed)
    if learned is not None:
        timed, pictures = _Timed(search(learned, seed)), learned.pictures
        seen = dict.fromkeys(("pixels", "goal"), lambda image: pictures.scaled(image[None])[0])
        policy = stable_worldmodel.policy.WorldModelPolicy(timed, plan_of(_BLOCK), {"action": _Scaled(learned)}, seen)
    try:
        world.set_policy(policy)
        found = world.evaluate(
            dataset=HDF5Dataset(path=file), episodes_idx=[e for e, _ in pairs], start_steps=[s for _, s in pairs],
            goal_offset=_OFFSET, eval_budget=_BUDGET, callables=_INTO_STATE,
        )  # fmt: skip
    finally:
        world.close()
    return int(np.sum(found["episode_successes"])), timed.mean_ms if timed else None


class _Timed:
    """Its search with a clock."""

    def __init__(self, solver: Any):
        self._solver, self._spent_s, self._plans = solver, 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._solver, name)

    def __call__(self, seen: dict[str, Any], **more: Any) -> Any:
        return self.solve(seen, **more)

    def solve(self, seen: dict[str, Any], **more: Any) -> Any:
        """As its own; every environment's plan counts by itself."""
        began_s = time.perf_counter()
        plan = self._solver.solve(seen, **more)
        self._spent_s += time.perf_counter() - began_s
        self._plans += len(plan["actions"])
        return plan

    @property
    def mean_ms(self) -> float | None:
        """Of one plan."""
        return 1000 * self._spent_s / self._plans if self._plans else None


class _Scaled:
    """Its policy's two ways between actions and z-scores, (..., U)."""

    def __init__(self, learned: Learned):
        self._mean, self._std = (x.cpu().numpy() for x in (learned.actions.mean_U, learned.actions.std_U))

    def transform(self, action: NDArray[Any]) -> NDArray[Any]:
        """To z-scores."""
        return np.asarray((action - self._mean) / self._std)

    def inverse_transform(self, action: NDArray[Any]) -> NDArray[Any]:
        """From z-scores."""
        return np.asarray(action * self._std + self._mean)
