"""The demo at a size that can do nothing but finish: every stage, one report, and nothing done twice."""

from pathlib import Path

import pytest

from deploy import cli
from robot_wm.contracts.run import read_run
from robot_wm.data import video
from tests.moving_square import make_pack

_SMALL = (
    "calibrate.transitions=150", "calibrate.fit.steps=120", "calibrate.adapter.kind=learned",
    "calibrate.fit.batch=16", "calibrate.head.steps=10", "calibrate.curve_steps=10",
    "calibrate.head.futures=64", "log.workers=1", "scratch.fit.encoder_steps=3",
    "export.planner.horizon=2", "export.planner.candidates=24",
    "evaluate.goals=2", "evaluate.references=[random,hold]",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)  # every stage there is, twice where the reference from scratch goes beside
def test_the_demo_starts_from_the_shipped_world_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["demo", *_SMALL]) == 0
    captured = capsys.readouterr()
    assert "[1/6] log" in captured.err
    demo = Path(captured.out.strip())
    manifest = read_run(demo, "demo")
    assert read_run(Path(manifest.inputs["pretrain"].path), "pretrain").name == "shipped"
    assert "pretrain_s" not in manifest.metrics
    assert cli.main(["lineage", str(demo)]) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)  # every stage there is, twice where the reference from scratch goes beside
def test_demo_with_a_video_ends_in_a_report_and_finds_itself_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_model: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    video.encode(Path("mine.mp4"), make_pack(1, 60).frames_FYXC, 10.0)
    command = [
        "demo", "video=mine.mp4", "record.episodes=10", "record.frames_per_episode=8", "record.size=32",
        "record.workers=1", *(f"pretrain.{override}" for override in tiny_model), *_SMALL,
    ]  # fmt: skip
    assert cli.main(command) == 0
    captured = capsys.readouterr()
    demo = Path(captured.out.strip())
    report = (demo / "report.html").read_text(encoding="utf-8")
    assert "<html" in report
    assert (Path("runs") / "demo" / "report.html").read_text(encoding="utf-8") == report
    assert "[1/9] record" in captured.err

    manifest = read_run(demo, "demo")
    assert set(manifest.inputs) == {
        "record", "ingest", "pretrain", "log", "calibrate", "scratch", "export", "export_scratch", "evaluate",
    }  # fmt: skip
    assert all(read_run(Path(artifact.path)) for artifact in manifest.inputs.values())
    assert not read_run(Path(manifest.inputs["scratch"].path)).config["pretrained"]

    assert cli.main(command) == 0
    assert Path(capsys.readouterr().out.strip()) == demo

    assert cli.main(["bench", "pipeline", f"demo={demo}"]) == 0
    assert "success at the last step: model" in capsys.readouterr().out


def test_a_wrong_value_is_found_before_the_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for override, words in (
        ("evaluate.gaols=3", ["evaluate", "'gaols'", "goals"]),
        ("scratch.fit.stepps=3", ["scratch", "'stepps'"]),
        ("pretrain.training.steps=many", ["steps", "'many'"]),
        ("video=nowhere.mp4", ["nowhere.mp4"]),
    ):
        assert cli.main(["demo", override]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        for word in words:
            assert word in error
    assert not (tmp_path / "runs").exists()
