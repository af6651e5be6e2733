"""Who takes part in an evaluation, by name."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deploy.evaluation import references
from deploy.evaluation.references import Decider, OracleConfig, Reference
from deploy.runtime.controller import Controller
from robot_wm.contracts.bundle import Bundle, ControllerSpec
from robot_wm.contracts.errors import UserError
from robot_wm.evaluation.results import Kind
from sims import oracle
from sims.pairs import Pair, Task


@dataclass(frozen=True)
class Entrant:
    """One controller to be measured: its key, its kind, who decides on a given pair, and whether videos are made."""

    name: str
    kind: Kind
    decider: Callable[[Pair], Decider]
    filmed: bool = False


def learned(name: str, bundle: Bundle, num_threads: int | None, mode: Literal["search", "head"] = "search") -> Entrant:
    """An exported controller, loaded once, when it is first asked."""
    loaded: list[Controller] = []

    def decider(_: Pair) -> Decider:
        if not loaded:
            loaded.append(Controller(bundle, num_threads=num_threads, mode=mode))
        return loaded[0]

    return Entrant(name, "model", decider, filmed=mode == "search")


def reference(name: str, spec: ControllerSpec, task: Task, seed: int, size: OracleConfig) -> Entrant:
    """One of `references.NAMES`; what it draws depends on `seed` and the pair alone, not on what ran before.

    Raises:
        UserError: an unknown name.
    """

    spec = replace(spec, ahead=0, delay_s=0.0)  # who needs no frame has none to look ahead of

    def rng(pair: Pair) -> np.random.Generator:
        return np.random.default_rng([seed, zlib.crc32(name.encode()), pair.seed])

    makers: dict[str, Callable[[Pair], Decider]] = {
        "random": lambda pair: references.random(spec, rng(pair)),
        "hold": lambda _: references.hold(spec),
        "oracle": lambda pair: _oracle(spec, task, pair, size, rng(pair)),
    }
    if name not in makers:
        raise UserError(f"reference {name!r} is not known", f"Choose among: {', '.join(makers)}")
    return Entrant(name, "reference", makers[name])


def _oracle(spec: ControllerSpec, task: Task, pair: Pair, size: OracleConfig, rng: np.random.Generator) -> Reference:
    warm: NDArray[np.float64] | None = None

    def choose(_: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal warm
        chunk_KU, warm = oracle.plan(task, pair, size.horizon, size.candidates, size.iterations, rng, warm)
        return chunk_KU

    return Reference(spec, choose)
