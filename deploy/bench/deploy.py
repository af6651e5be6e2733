"""What a robot pays for a controller: time per decision beside the machine's limit, and the runtime alone."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np

from deploy.bench.bench import BenchConfig
from deploy.bench.floor import Machine, measure_machine, measure_work
from deploy.bench.gpu_plan import gpu_plan
from deploy.bench.parity import random_controllable, random_recorded
from deploy.bench.result import Row
from deploy.export.export import export_bundle
from deploy.export.variant import export_variant
from deploy.runtime.controller import Controller
from deploy.runtime.graph import CPU
from robot_wm.contracts.bundle import Bundle
from robot_wm.contracts.errors import UserError
from robot_wm.evaluation.statistics import percentile
from robot_wm.planning.planner import PlannerConfig

_STEPS = {"quick": 150, "full": 1000}
_SOAK = {"quick": 1000, "full": 20_000}
_WARM_UP = 10
_PROBE_LIMIT_S = 1200
SHIPPED, DEEP, HEAD = "as shipped", "5 chunks ahead", "command head alone"
ARM = "5 chunks ahead, kinematics known"
_SEARCHES = {SHIPPED: PlannerConfig(), DEEP: PlannerConfig(horizon=5)}

# Runs in an interpreter of its own, as on a robot: the time to import, memory with a bundle loaded, and what it gains.
_PROBE = """
import json, sys, time
started = time.perf_counter()
from deploy.runtime.controller import Controller
imported_s = time.perf_counter() - started
import numpy as np
from pathlib import Path

def resident_mb():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) * 1024 / 1e6

found = {"import_s": imported_s}
if len(sys.argv) > 1:
    controller = Controller(Path(sys.argv[1]), ["CPUExecutionProvider"])
    spec, random = controller.spec, np.random.default_rng(0)
    frame = random.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    controller.set_goal(frame)
    steps = int(sys.argv[2])
    for step in range(steps):
        if step == steps // 10:
            early = resident_mb()
        controller.step(frame, np.zeros(len(spec.proprio), np.float32))
    found |= {"resident_mb": resident_mb(), "grown_mb": resident_mb() - early}
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Candidate:
    """A controller under measurement: how it is called, and its p95 target [ms] if it has one."""

    name: str
    bundle: Bundle
    target_ms: float | None = None
    mode: Literal["search", "head"] = "search"

    @property
    def graphs(self) -> tuple[Path, Path]:
        """The two that one decision runs."""
        return self.bundle.encode, self.bundle.plan if self.mode == "search" else self.bundle.head


def deploy(config: BenchConfig) -> list[Row]:
    """Decisions from image to commands, on random weights of the shipped sizes: time does not depend on the weights."""
    threads = len(os.sched_getaffinity(0))
    machine = measure_machine(threads)
    with tempfile.TemporaryDirectory() as folder:
        candidates = [
            Candidate(name, _bundle(Path(folder) / str(i), search, config.seed), 50.0 if name == DEEP else None)
            for i, (name, search) in enumerate(_SEARCHES.items())
        ]
        candidates += [
            Candidate(f"{c.name}, int8", _int8(c.bundle, Path(folder) / f"{i}-int8")) for i, c in enumerate(candidates)
        ]
        candidates.append(Candidate(ARM, _bundle(Path(folder) / "arm", _SEARCHES[DEEP], config.seed, True), 50.0))
        candidates.append(Candidate(HEAD, candidates[0].bundle, 20.0, "head"))
        taken_ms = _measure(candidates, _STEPS[config.size], threads)
        rows = [Row(f"this machine: matrix products, fp32, {threads} threads", machine.gflop_s, "GFLOP/s")]
        rows.append(Row("this machine: copies in memory", machine.gb_s, "GB/s"))
        for candidate in candidates:
            rows += _rows(candidate, taken_ms[candidate.name], machine)
        for name in _SEARCHES:
            gain = float(np.median(taken_ms[name]) / np.median(taken_ms[f"{name}, int8"]))
            rows.append(Row(f"int8, {name}: times as fast as fp32 (p50)", gain, n=len(taken_ms[name]), target=2.0))
        rows += _install(candidates[0].bundle, _SOAK[config.size])
    return rows + gpu_plan(config.seed)


def _bundle(folder: Path, search: PlannerConfig, seed: int, measured: bool = False) -> Bundle:
    body = random_controllable(seed, search, measured)
    return export_bundle(body, random_recorded(1, seed), folder / "bundle", float("inf"), seed)


def _int8(source: Bundle, folder: Path) -> Bundle:
    """The same in int8; random weights reach no goals, so that nothing is judged here."""
    return export_variant(source, folder / "bundle", "int8", lambda bundles: dict.fromkeys(bundles, 1), 1)


def _measure(candidates: list[Candidate], steps: int, threads: int) -> dict[str, list[float]]:
    """Wall time of whole decisions [ms]; candidates take turns, so that ratios hold when the machine's speed drifts."""
    controllers = {c.name: Controller(c.bundle, [CPU], threads, mode=c.mode, pinned=True) for c in candidates}
    recorded = random_recorded(8, 0)
    for controller in controllers.values():
        controller.set_goal(recorded.frames_NYXC[0])
    taken: dict[str, list[float]] = {c.name: [] for c in candidates}
    for step in range(_WARM_UP + steps):
        row = step % len(recorded.frames_NYXC)
        for name, controller in controllers.items():
            started_s = perf_counter()
            controller.step(recorded.frames_NYXC[row], recorded.proprio_NP[row])
            if step >= _WARM_UP:
                taken[name].append(1e3 * (perf_counter() - started_s))
    return taken


def _rows(candidate: Candidate, taken_ms: list[float], machine: Machine) -> list[Row]:
    spec = candidate.bundle.spec
    if spec.precision != "fp32":  # the floor is that of fp32 products, which others need not keep to
        return _times(candidate, taken_ms, None)
    graphs = [measure_work(path) for path in candidate.graphs]
    floor_ms = sum(work.floor_ms(machine) for work in graphs)
    found = {percent: percentile(np.array(taken_ms), percent).value for percent in (50, 95)}
    search = candidate.mode == "search"
    return [
        *_times(candidate, taken_ms, floor_ms),
        Row("its p50, times the floor (that of its operations and bytes)", found[50] / floor_ms, n=len(taken_ms)),
        Row(
            "its p95, times the floor",
            found[95] / floor_ms,
            n=len(taken_ms),
            target=1.5 if search else None,
            better="lower",
        ),
        Row("its operations, 1e9", sum(work.operations for work in graphs) / 1e9),
        Row("its nodes", float(sum(work.nodes for work in graphs))),
    ]


def _times(candidate: Candidate, taken_ms: list[float], floor_ms: float | None) -> list[Row]:
    spec = candidate.bundle.spec
    shape = f"{spec.candidates} × {spec.iterations} × {spec.horizon}" if candidate.mode == "search" else "no search"
    rows = []
    for percent in (50, 95, 99):
        found, target = percentile(np.array(taken_ms), percent), candidate.target_ms if percent == 95 else None
        name = f"decision, {candidate.name} ({shape}): p{percent}"
        rows.append(Row(name, found.value, "ms", len(taken_ms), found.low, found.high, floor_ms, target, "lower"))
    return rows


def _install(bundle: Bundle, steps: int) -> list[Row]:
    """What the runtime alone costs; a probe that fails is a row without a value."""
    imports = [found["import_s"] for _ in range(5) if (found := _probe()) is not None]
    soaked = _probe(str(bundle.path), str(steps)) or {}
    return [
        Row("import of the runtime, median of 5 interpreters", float(np.median(imports)) if imports else None, "s",
            n=len(imports), target=0.5, better="lower"),
        Row(f"resident memory after {steps} decisions", soaked.get("resident_mb"), "MB", target=250, better="lower"),
        Row(f"its growth over the last {steps - steps // 10} of them", soaked.get("grown_mb"), "MB", target=1.0,
            better="lower"),
    ]  # fmt: skip


def _probe(*arguments: str) -> dict[str, float] | None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    command = [sys.executable, "-c", _PROBE, *arguments]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"the runtime made no {arguments[-1]} decisions in {_PROBE_LIMIT_S} s", "Use size=quick"
        ) from error
    return dict(json.loads(done.stdout)) if done.returncode == 0 else None
