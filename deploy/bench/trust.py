"""Trust in figures: faults survived, inputs survived, failures found, and whether the model knows when it is wrong."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

from deploy.bench.bench import BenchConfig
from deploy.bench.failure_signs import signs
from deploy.bench.result import Row
from deploy.cli import run_stage
from deploy.lineage import locate
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.evaluation import physics, reliability
from robot_wm.training.checkpoint import SHIPPED, load_world_model, model_run
from sims import gl, impossible

_TEST = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")
_FUZZ = "tests/property/test_fuzz_files.py"
_PAIRS = {"quick": 4, "full": 60}  # of clips per kind
_TOLD = {  # measures of evaluation.physics, and how they read when the impossible clip has more; reference: chance
    "surprise": "impossible clip surprises more",
    "unexplained": "impossible clip leaves more of its change unexplained",
    "change": "impossible clip changes the latent more (no dynamics)",
    "pixels": "impossible clip changes the pixels more (no model)",
}
_LIMIT_S = {"quick": 600, "full": 1800}  # that tests may take after all the rest is done
_SIZES = {  # of the tests: inputs per reader, kills per stage
    "quick": {"ROBOT_WM_FUZZ": "25", "ROBOT_WM_DEATHS": "1"},
    "full": {"ROBOT_WM_FUZZ": "1000", "ROBOT_WM_DEATHS": "5"},
}
_SIGNS = {"quick": 6, "full": 120}  # pairs that signs of failure are judged on
_SEARCH = {
    "quick": ["pairs=3", "rounds=2", "draws=8", "break_pairs=1", "break_steps=1", "videos=2"],
    "full": ["pairs=10", "rounds=4", "draws=40", "break_pairs=3", "break_steps=3"],
}


def trust(config: BenchConfig) -> list[Row]:
    """Run the tests of the fault table, the fuzzers, the physics test; with `demo=RUN` verify its controller too.

    The tests run beside the rest, on a processor of their own where there is one.

    Raises:
        UserError: no checkout around (tests are not part of an installation), or `demo` is no finished demo run.
    """
    root = Path(__file__).resolve().parents[2]
    page = root / "docs" / "trust.md"
    if not page.is_file():
        raise UserError("the tests are not installed", "Run bench trust from a checkout")
    table = page.read_text(encoding="utf-8").partition("## Faults")[2].partition("\n## ")[0]
    rows = [_TEST.findall(line) for line in table.splitlines() if _TEST.search(line)]
    wanted = sorted({test for row in rows for test in row})
    with _pytest(root, [*wanted, _FUZZ], config.size) as outcomes:
        rest = [*_knows(config), *_physics(config), *_verify(config)]
        return [*_survived(rows, *outcomes()), *rest]


def _survived(rows: list[list[str]], found: dict[str, str], inputs: int) -> Iterator[Row]:
    def state(test: str) -> str:
        states = {found[name] for name in found if name == test or name.startswith(f"{test}[")}
        return "failed" if "failed" in states or not states else "passed" if "passed" in states else "skipped"

    tried = [row for row in rows if all(state(test) != "skipped" for test in row)]
    survived = sum(all(state(test) == "passed" for test in row) for row in tried)
    yield Row("faults survived, of those tried", survived, n=len(tried), target=len(tried))
    yield Row("faults not tried here (their tests say why)", len(rows) - len(tried), n=len(rows))
    readers = [name for name in found if name.startswith(_FUZZ)]
    held = sum(found[name] == "passed" for name in readers)
    yield Row("readers that no input brought down", held, n=len(readers), target=len(readers))
    yield Row("inputs fuzzed", inputs, n=len(readers))


@contextmanager
def _pytest(root: Path, tests: list[str], size: str) -> Iterator[Callable[[], tuple[dict[str, str], int]]]:
    """Run tests beside what the block does; the function that is given waits for them and reads what they found."""
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder) / "report.xml", Path(folder) / "log"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not gpu", f"--junit-xml={report}", "-o", "timeout=3600"]
        command += ["-p", "no:cacheprovider", f"--basetemp={folder}/tests", *tests]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=root, env={**os.environ, **_SIZES[size], "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            yield lambda: _outcomes(process, report, log, _LIMIT_S[size])
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait(10)


def _outcomes(
    process: "subprocess.Popen[bytes]", report: Path, log: Path, limit_s: float
) -> tuple[dict[str, str], int]:
    """Outcome of every test by its id, and how many inputs they fed."""
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise UserError(f"the tests took longer than {limit_s:g} s", "Run them on an idle machine") from None
    if not report.is_file():
        raise UserError(f"the tests did not run ({log.read_text(errors='replace')[-300:]!r})", "Run make setup")
    cases = list(ElementTree.fromstring(report.read_bytes()).iter("testcase"))
    outcomes = {}
    for case in cases:
        bad = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        state = "failed" if bad is not None else "skipped" if case.find("skipped") is not None else "passed"
        outcomes[f"{str(case.get('classname')).replace('.', '/')}.py::{case.get('name')}"] = state
        if bad is not None:
            console.say(f"failed: {case.get('name')}: {(bad.get('message') or '').splitlines()[:1]}")
    fed = (p.get("value", "0") for case in cases for p in case.iter("property") if p.get("name") == "inputs")
    return outcomes, sum(map(int, fed))


def _clips(config: BenchConfig, kind: str) -> list[impossible.Pair]:
    model, described = load_world_model(model_run(SHIPPED))
    made = impossible.pairs(kind, _PAIRS[config.size], config.seed, model.config.encoder.size, described.step_s)
    return list(console.track(made, f"clips: {kind}", _PAIRS[config.size]))


def _physics(config: BenchConfig) -> Iterator[Row]:
    """The share of pairs whose impossible clip has more of each of `_TOLD`; the model's two per kind as well."""
    model, _ = load_world_model(model_run(SHIPPED))
    gl.choose_backend()
    possible, broken = [], []
    for kind in impossible.KINDS:
        pairs = _clips(config, kind)
        possible += [physics.watch(model, pair.possible_TYXC) for pair in pairs]
        broken += [physics.watch(model, pair.impossible_TYXC) for pair in pairs]
        for name in ("surprise", "unexplained"):
            yield _told(name, possible[-len(pairs) :], broken[-len(pairs) :], f": {kind}")
    for name in _TOLD:
        yield _told(name, possible, broken, "")


def _told(name: str, possible: list[physics.Seen], broken: list[physics.Seen], where: str) -> Row:
    found = physics.accuracy(*([getattr(seen, name) for seen in clips] for clips in (possible, broken)))
    share = found.interval
    return Row(f"{_TOLD[name]}{where}", share.value, n=found.pairs, low=share.low, high=share.high, reference=0.5)


@torch.no_grad()
def _knows(config: BenchConfig) -> Iterator[Row]:
    """Expected against found error of single predictions, on possible clips that no training used."""
    model, _ = load_world_model(model_run(SHIPPED))
    gl.choose_backend()
    expected, found = [], []
    for pair in _clips(config, "vanishes"):
        z_BTD = model.encode(torch.from_numpy(pair.possible_TYXC)[None])
        actions = torch.tanh(model.infer(z_BTD)[0]).flatten(0, 1)
        predicted, log_error = model.predict(model.histories(z_BTD)[:, :-1].flatten(0, 1), actions)
        expected.append(log_error.exp().numpy())
        found.append((predicted - z_BTD[0, 1:]).square().mean(-1).numpy())
    expected_N, found_N = np.concatenate(expected), np.concatenate(found)
    bins = reliability.curve(expected_N, found_N)
    yield Row("expected error of a prediction: calibration error", reliability.calibration_error(bins), n=len(found_N))
    for part, name in ((bins[0], "lowest"), (bins[-1], "highest")):
        yield Row(f"error found where the expected is {name}", part.found, n=part.count, reference=part.expected)
    known = reliability.auroc(expected_N, found_N > np.quantile(found_N, 0.9))
    yield Row(
        "AUROC: expected error tells the worst tenth of predictions", known.value, n=len(found_N),
        low=known.low, high=known.high, target=0.5,
    )  # fmt: skip


def _verify(config: BenchConfig) -> Iterator[Row]:
    if config.demo is None:
        return
    demo = Path(config.demo)
    exported = locate(Path(read_run(demo, "demo").inputs["evaluate"].path), demo)
    if exported is None:
        raise UserError(f"the evaluation of {demo} is gone", "Run robot-wm demo again")
    bundle = locate(Path(read_run(exported, "evaluate").inputs["bundle"].path), exported)
    if bundle is None:
        raise UserError(f"the bundle of {demo} is gone", "Run robot-wm demo again")
    words = [
        f"bundle={bundle}",
        "embodiment=fetch",
        f"out={config.out}",
        f"seed={config.seed}",
        "threads=1",
        *_SEARCH[config.size],
    ]
    run = run_stage("verify", words)
    assert run is not None
    found = files.read_json(run / "verification.json")
    yield Row("failures found by verify, of scenarios tried", found["failures"], n=found["draws"])
    for name in ("undisturbed", "uniform", "rate"):
        share = found[name]
        count = found["pairs"] if name == "undisturbed" else found["draws"]
        yield Row(f"rate of failures: {name}", share["value"], n=count, low=share["low"], high=share["high"])
    yield from signs(bundle, "fetch", Path(config.out) / f"signs-{config.seed}.jsonl", _SIGNS[config.size], config.seed)
