"""The export stage: which inputs it takes from the log, and what it refuses before it exports anything."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from deploy.export.parity import Recorded
from deploy.stages import export as stage
from deploy.stages.export import ExportConfig, export, read_recorded
from robot_wm.contracts.bundle import read_bundle
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Camera
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import open_run, read_run
from robot_wm.data.lerobot_writer import LeRobotWriter
from tests.handmade_bundle import make_spec, write_bundle

SIDE, SKIP = 32, 4
BODY = SimpleNamespace(
    embodiment=SimpleNamespace(
        name="handmade",
        camera=Camera("front", SIDE, SIDE),
        interface="end_effector_velocity",
        safety=make_spec().safety,
    ),
    command=make_spec().command,
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes whose proprio, command and brightness all tell the row; the last one has a single row."""
    path = tmp_path_factory.mktemp("log") / "dataset"
    features = {
        image_key("front"): Feature("video", (SIDE, SIDE, 3)),
        STATE: Feature("float32", (4,)),
        ACTION: Feature("float32", (2,)),
    }
    with LeRobotWriter(path, 20.0, features) as writer:
        for episode, length in enumerate((21, 9, 1)):
            rows = np.arange(length, dtype=np.float32) + 100 * episode
            frames = (
                np.zeros((length, SIDE, SIDE, 3), np.uint8)
                + (10 * np.arange(length, dtype=np.uint8))[:, None, None, None]
            )
            columns = {STATE: np.tile(rows[:, None], (1, 4)), ACTION: np.tile(rows[:, None], (1, 2))}
            writer.add_episode(columns, {image_key("front"): frames})
    return path


@pytest.fixture
def calibration(log: Path, tmp_path: Path) -> Path:
    """A finished calibrate run that says where its log is."""
    with open_run(tmp_path / "runs", "calibrate", "tiny", {"seed": 0}, {"data": log}) as run:
        (run.path / "model.json").write_text("{}")
        run.finish(["model.json"])
    return run.path


def test_recorded_rows_are_a_model_step_apart_with_the_command_in_force(log: Path) -> None:
    recorded = read_recorded(log, BODY, rows=6, seed=0)
    rows = recorded.proprio_NP[:, 0]
    assert len(rows) == 6
    assert set(rows // 100) == {0, 1}, "several episodes"
    assert np.array_equal(recorded.reference_NU[:, 0], rows - 1)
    assert np.array_equal((rows % 100 - 1) % SKIP, np.zeros(6))
    assert recorded.frames_NYXC.mean((1, 2, 3)) == pytest.approx(10 * (rows % 100), abs=4)


def test_short_log_gives_what_it_has(log: Path) -> None:
    assert len(read_recorded(log, BODY, rows=100, seed=0).proprio_NP) == 6


def test_log_at_another_rate_is_refused(log: Path) -> None:
    body = SimpleNamespace(embodiment=BODY.embodiment, command=replace(BODY.command, control_rate_hz=50.0))
    with pytest.raises(UserError, match="was recorded at 20 Hz, handmade is controlled at 50 Hz"):
        read_recorded(log, body, rows=6, seed=0)


def test_stage_takes_the_log_of_the_calibration_and_finds_itself_again(
    calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Recorded] = []

    def export_bundle(_: object, recorded: Recorded, path: Path, *rest: object, **named: object) -> object:
        calls.append(recorded)
        return read_bundle(write_bundle(path))

    monkeypatch.setattr(stage, "load_controllable", lambda run, planner, ahead: BODY)
    monkeypatch.setattr(stage, "export_bundle", export_bundle)
    config = ExportConfig(str(calibration), parity_rows=4, out=str(tmp_path / "runs"))
    path = export(config)
    manifest = read_run(path, "export")
    assert set(manifest.outputs) == {"bundle"}
    assert manifest.gates == {"parity": True, "parity_tolerance": 1e-4}
    assert manifest.inputs["calibration"].path == str(calibration)
    assert read_bundle(path).spec.embodiment == "handmade", "a run folder is a bundle to whoever reads one"
    assert export(config) == path
    assert [len(recorded.proprio_NP) for recorded in calls] == [4]


def test_failed_gate_leaves_no_run(calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export_bundle(*_: object, **__: object) -> None:
        raise UserError("the exported command differs from PyTorch by 1", "No bundle was written")

    monkeypatch.setattr(stage, "load_controllable", lambda run, planner, ahead: BODY)
    monkeypatch.setattr(stage, "export_bundle", export_bundle)
    with pytest.raises(UserError, match="differs"):
        export(ExportConfig(str(calibration), out=str(tmp_path / "runs")))
    assert list((tmp_path / "runs" / "export").iterdir()) == []


def test_log_that_is_gone_is_named(calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"nowhere.*is gone.*data=PATH"):
        read_recorded(tmp_path / "nowhere", BODY, 4, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parity_rows": 0}, "parity_rows is 0"),
        ({"parity_tolerance": 0.0}, "parity_tolerance 0"),
        ({}, "not a finished"),
    ],
)
def test_bad_values_are_refused(tmp_path: Path, changes: dict[str, float], words: str) -> None:
    with pytest.raises(UserError, match=words):
        export(ExportConfig(str(tmp_path), out=str(tmp_path / "runs"), **changes))  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()
