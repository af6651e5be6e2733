"""Every stage, made again from its manifest, and killed before any of its changes on disk: the same bits each time.

The moments are the changes themselves (a file opened for writing, a rename, a removal), which lie closer together than
any clock would hit: between two of them nothing on disk differs. Writes of C libraries are covered by truncation
(test_truncated_anywhere.py) and by kills at random times (tests/recovery).
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy import lineage
from deploy.runtime.recorder import read_episodes
from robot_wm.contracts import files
from robot_wm.contracts.run import MANIFEST, read_run
from tests.faults.test_command_line_refusals import made as made

CRANE = ("embodiment=crane", "--config-dir=mine")
SMALL_PRETRAIN = (
    "model.encoder.size=32", "model.encoder.channels=[8,8,8]", "model.encoder.blocks=1", "model.encoder.keypoints=4",
    "model.encoder.grid_channels=1", "model.dynamics.width=32", "model.dynamics.blocks=1", "model.labeler_width=32",
    "model.flow_cells=8", "training.steps=6", "training.batch=4", "training.clip_frames=4", "training.health_every=6",
    "training.checkpoint_every=2",
)  # fmt: skip
STAGES: dict[str, tuple[str, ...]] = {
    "record": ("record", "episodes=4", "frames_per_episode=4", "size=32", "workers=1"),
    "log": ("record", *CRANE, "transitions=6", "transitions_per_episode=3", "workers=1"),
    "ingest": ("ingest", "data=film.mp4"),
    "pretrain": ("pretrain", "data=[log]", "cache={out}/cache", *SMALL_PRETRAIN),
    "label": ("label", "data=log", "model={pretrain}"),
    "calibrate": (
        "calibrate", *CRANE, "data=log", "model={pretrain}", "cache={out}/cache", "transitions=40", "validation=0.25",
        "fit.steps=8", "fit.batch=8", "fit.encoder_steps=2", "fit.encoder_batch=4", "head.steps=4", "body.most_s=1",
        "curve_steps=4", "reading.steps=2", "reading.practice=4",
        "pretrained=false",  # so small a fit may lose to holding still, which is refused of pretrained ones alone
    ),
    "export": (
        "export", "calibration={calibrate}", "data=log", "planner.horizon=1", "planner.candidates=8",
        "planner.iterations=1", "planner.sampler.elites=4", "parity_rows=2", "parity_tolerance=0.01",
    ),
    "run": ("run", *CRANE, "bundle=bundle", "episodes=2", "threads=1"),
}  # fmt: skip
DEATHS = int(os.environ.get("ROBOT_WM_DEATHS", 2))  # of each stage
LIMIT_S = 30.0 * (3 + DEATHS) * len(STAGES)


@pytest.fixture(scope="module")
def fates(made: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> tuple[Path, dict[str, Any]]:
    """A folder with all lives of all stages, and how each ended."""
    folder = tmp_path_factory.mktemp("mortal")
    shutil.copytree(made, folder, dirs_exist_ok=True)
    runs = {stage: str(next((folder / "runs" / stage).iterdir())) for stage in ("pretrain", "calibrate")}
    commands = {
        name: [*(word.format(out="{out}", **runs) for word in words), "out={out}"] for name, words in STAGES.items()
    }
    plan, out = folder / "plan.json", folder / "lives" / "fates.json"
    out.parent.mkdir()
    plan.write_text(json.dumps({"deaths": DEATHS, "commands": commands}))
    with (folder / "stderr.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.mortal", str(plan), str(out)],
            env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
    assert code == 0, (folder / "stderr.txt").read_text()[-2000:]
    return out.parent, json.loads(out.read_text())


def outputs(out: Path) -> dict[str, str]:
    """What the finished run under `out` declares, with digests; a run that declares what it does not hold fails."""
    found: dict[str, str] = {}
    for manifest in out.glob(f"*/*/{MANIFEST}"):
        if manifest.parents[1].name == "cache":
            continue
        run = read_run(manifest.parent)
        for name, item in run.outputs.items():
            assert files.fingerprint(manifest.parent / name) == item.sha256
            found[name] = item.sha256
    return found


def flown(out: Path) -> dict[int, tuple[bytes, bytes, Any]]:
    """What every episode that was ended came to. A flight cut short stays in the log, and latencies are wall time."""
    (folder,) = out.glob("run/*/flight")
    ended = [episode for episode in read_episodes(folder) if episode.outcome is not None]
    return {e.outcome["episode"]: (e.rows_L["action"].tobytes(), e.rows_L["frame"].tobytes(), e.outcome) for e in ended}


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("stage", STAGES)
def test_made_again_from_its_manifest(
    stage: str, fates: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, another folder, nothing but the manifest: the same bits. A flight log also holds wall times."""
    folder, found = fates[0] / stage, fates[1][stage]
    said = (folder / "rebuilt.log").read_text()
    if stage == "run":
        assert found["rebuilt"] == 2, said[-2000:]
        assert "1 of 2 outputs" in said and "came out otherwise: flight." in said
        assert flown(folder / "rebuilt") == flown(folder / "whole")
        return
    assert found["rebuilt"] == 0, said[-2000:]
    assert outputs(folder / "rebuilt") == outputs(folder / "whole")
    monkeypatch.chdir(fates[0].parent)  # from where inputs are named
    (run,) = (path.parent for path in (folder / "rebuilt").glob(f"{STAGES[stage][0]}/*/{MANIFEST}"))
    assert not [problem for node in lineage.trace(run).walk() for problem in node.problems]


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_before_any_change(stage: str, fates: tuple[Path, dict[str, Any]]) -> None:
    folder, found = fates[0] / stage, fates[1][stage]
    assert found["status"] == 0, (folder / "whole.log").read_text()[-2000:]
    compared = flown if stage == "run" else outputs
    expected = compared(folder / "whole")
    assert expected
    ends = [death["killed"] for death in found["deaths"]]
    assert ends[0] == -signal.SIGKILL
    assert set(ends) <= {-signal.SIGKILL, 0}, "a life that had little left may have come to its end"
    assert DEATHS > 2 or ends == [-signal.SIGKILL] * DEATHS
    assert found["resumed"] == 0, (folder / "killed.log").read_text()[-2000:]
    assert outputs(folder / "killed")
    moments = [death["moment"] for death in found["deaths"]]
    assert compared(folder / "killed") == expected, f"killed before changes {moments} of {found['changes']}"
