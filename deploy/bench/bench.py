"""`robot-wm bench NAME`: run one benchmark, print its table or its JSON, and keep it if asked to."""

import importlib
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from deploy.bench.result import Result, Row, table
from robot_wm.contracts import files, run
from robot_wm.contracts.errors import UserError

# A benchmark is a function of the config that returns rows; it is imported when it is asked for.
BENCHMARKS: dict[str, tuple[str, str]] = {
    "pipeline": ("deploy.bench.pipeline", "pipeline"),
    "parity": ("deploy.bench.parity", "parity"),
    "sims": ("deploy.bench.sims", "simulators"),
    "data": ("deploy.bench.data", "data"),
    "data-wait": ("deploy.bench.data_wait", "data_wait"),
    "flow": ("deploy.bench.flow", "flow_quality"),
    "world-model": ("deploy.bench.world_model", "world_model"),
    "delay": ("deploy.bench.delay", "delay"),
    "soak": ("deploy.bench.soak", "soak"),
    "humanoid": ("deploy.bench.humanoid", "humanoid"),
    "trust": ("deploy.bench.trust", "trust"),
    "calibration": ("deploy.bench.calibration", "calibration"),
    "few-shot": ("deploy.bench.few_shot", "few_shot"),
    "deploy": ("deploy.bench.deploy", "deploy"),
    "control": ("deploy.bench.control", "control"),
    "peers": ("deploy.bench.peers.benchmark", "peers"),
}


@dataclass(frozen=True)
class BenchConfig:
    """What to measure.

    Attributes:
        benchmark: name of the benchmark.
        size: `quick` ends within two minutes on 2 cores, `full` gives the numbers worth quoting.
        out: folder under which a benchmark that runs stages puts them.
        seed: of everything random.
        minutes: few-shot, control, peers, humanoid: what is not measured within so many is left to the next time; 0:
            all at once.
        demo: a finished demo run for `pipeline` to read instead of running one.
        save: write the result to `results`.
        results: folder of saved results.
        json: print JSON on stdout instead of a table.
    """

    benchmark: str
    size: Literal["quick", "full"] = "quick"
    out: str = "runs"
    seed: int = 0
    minutes: float = 0.0
    demo: str | None = None
    save: bool = False
    results: str = "benchmarks/results"
    json: bool = False


def bench(config: BenchConfig) -> Path | None:
    """Run a benchmark and show its rows.

    Returns:
        The file written, when `save` is set and the result went to a table.

    Raises:
        UserError: an unknown benchmark, or whatever the benchmark refuses.
    """
    result = measure(config)
    if config.json:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
    else:
        print(f"{result.benchmark}, {result.size}: {result.machine}, {result.wall_s:.0f} s\n\n{table(result.rows)}")
    saved = save(result, Path(config.results)) if config.save else None
    return None if config.json else saved


def measure(config: BenchConfig) -> Result:
    """Run the benchmark that `config` names and note the circumstances."""
    if config.benchmark not in BENCHMARKS:
        raise UserError(f"benchmark {config.benchmark!r} is not known", f"Choose one of: {', '.join(BENCHMARKS)}")
    module, name = BENCHMARKS[config.benchmark]
    function: Callable[[BenchConfig], list[Row]] = getattr(importlib.import_module(module), name)
    started_s = time.monotonic()
    rows = function(config)
    return Result(
        benchmark=config.benchmark,
        size=config.size,
        seed=config.seed,
        rows=tuple(rows),
        machine=run.machine(),
        versions=run.versions(),
        revision=run.git_revision(),
        command=shlex.join(["robot-wm", *sys.argv[1:]]),
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_s=round(time.monotonic() - started_s, 1),
    )


def save(result: Result, folder: Path) -> Path:
    """Write `<benchmark>-<size>-<utc>.json` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.fromisoformat(result.created_utc).strftime("%Y%m%dT%H%M%S")
    path = folder / f"{result.benchmark}-{result.size}-{stamp}.json"
    files.write_json(path, result.to_json())
    return path
