"""A benchmark in parts: each is measured by a process of its own and kept, and the same command goes on with the rest.

A benchmark of this kind is a module with `main`, which measures one part: see `measure_one`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from deploy.bench.bench import BenchConfig
from deploy.runtime.interrupt import Interrupt
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.errors import UserError
from sims.stages.record import cores

AT_ONCE = cores()  # parts, each on a core of its own
_POLL_S, _PATIENCE_S = 0.1, 30.0


class Part(Protocol):
    """What is measured at once."""

    @property
    def name(self) -> str:
        """Of its file; no other part has it."""
        ...

    @property
    def minutes(self) -> float:
        """About how long it takes on one core."""
        ...


P = TypeVar("P", bound=Part)
Outcome = TypeVar("Outcome")


def folder_of(config: BenchConfig) -> Path:
    """Where the parts of this benchmark, size and seed are kept: remove it to measure anew."""
    return Path(config.out) / "bench" / f"{config.benchmark}-{config.size}-{config.seed}"


def kept(folder: Path, part: Part) -> Path:
    """The file of a part that was measured."""
    return folder / "parts" / f"{part.name}.json"


def read(folder: Path, wanted: Sequence[P], kind: type[Outcome]) -> dict[P, Outcome]:
    """What is known of those parts that were measured, in their order."""
    there = [part for part in wanted if kept(folder, part).is_file()]
    return {part: from_mapping(kind, files.read_json(kept(folder, part))) for part in there}


def work_off(module: str, wanted: Sequence[Part], config: BenchConfig, at_once: int = AT_ONCE) -> Path:
    """Measure the parts that are not kept yet, in their order and one per core at a time, until the minutes are over.

    Those under way are then ended, with the processes that they have; the same happens on Ctrl-C and SIGTERM.

    Args:
        module: whose `main` measures one of them.
        wanted: all parts.
        config: of the benchmark.
        at_once: how many run side by side, each with one thread: 1 where they share what one of them would fill.

    Returns:
        The folder that keeps them.
    """
    folder = folder_of(config)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    _run(module, folder, [part for part in wanted if not kept(folder, part).is_file()], config, at_once)
    missing = [part for part in wanted if not kept(folder, part).is_file()]
    if missing:
        left = sum(part.minutes for part in missing) / at_once
        console.say(
            f"{config.benchmark}: {len(wanted) - len(missing)} of {len(wanted)} parts measured; the rest takes about "
            f"{left:.0f} minutes on {at_once} cores: the same command goes on"
        )
    return folder


def measure_one(words: Sequence[str], parts: Callable[[str, int], Sequence[P]], measure: Callable[..., Any]) -> None:
    """What a part's process does, with the words that `work_off` gives it: FOLDER NAME SIZE SEED.

    Args:
        words: those.
        parts: all parts of a size and a seed.
        measure: takes folder, part, size and seed, and returns a dataclass, which is kept.
    """
    folder, name, size, seed = Path(words[0]), words[1], words[2], int(words[3])
    part = next(part for part in parts(size, seed) if part.name == name)
    try:
        files.write_json(kept(folder, part), asdict(measure(folder, part, size, seed)))
    except UserError as error:
        sys.exit(f"error: {error}")


def _run(module: str, folder: Path, todo: Sequence[Part], config: BenchConfig, at_once: int) -> None:
    ends_s = time.monotonic() + 60 * config.minutes if config.minutes else float("inf")
    queue, running = list(todo), list[tuple[Part, subprocess.Popen[bytes]]]()
    with Interrupt() as interrupt:
        try:
            while (queue or running) and time.monotonic() < ends_s:
                while queue and len(running) < at_once:
                    part = queue.pop(0)
                    running.append((part, _begin(module, folder, part, config)))
                time.sleep(_POLL_S)
                interrupt.check()
                for part, process in [item for item in running if item[1].poll() is not None]:
                    running.remove((part, process))
                    last = _log(folder, part).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                    how = f"failed: {last[0]}" if process.returncode and last else "is measured"
                    console.say(f"{config.benchmark}: {part.name} {how}")
        finally:
            for _, process in running:
                os.killpg(process.pid, signal.SIGKILL)  # with the workers that it has
                process.wait(_PATIENCE_S)


def _begin(module: str, folder: Path, part: Part, config: BenchConfig) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", module, str(folder), part.name, config.size, str(config.seed)]
    with _log(folder, part).open("ab") as log:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def _log(folder: Path, part: Part) -> Path:
    return folder / "parts" / f"{part.name}.log"
