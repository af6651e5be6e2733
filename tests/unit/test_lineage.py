"""Lineage: the chain is followed to its end, and what is missing or altered is named."""

import shutil
from pathlib import Path

import pytest

from deploy import cli, lineage
from robot_wm.contracts.run import open_run


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """video → ingest → pretrain → export, named relative to the working folder as a user would."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kitchen.mp4").write_bytes(b"video")
    made: dict[str, Path] = {"video": Path("kitchen.mp4")}
    for stage, inputs in (("ingest", ["video"]), ("pretrain", ["ingest"]), ("export", ["pretrain", "ingest"])):
        config = {"seed": 0}
        with open_run(Path("runs"), stage, "test", config, {name: made[name] for name in inputs}) as run:
            (run.path / "artifact").mkdir()
            (run.path / "artifact" / "data.bin").write_bytes(stage.encode())
            run.finish(outputs=["artifact"])
        made[stage] = run.path
    return made


def test_chain_is_followed_to_the_video(chain: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lineage", str(chain["export"])]) == 0
    shown, progress = capsys.readouterr()
    assert "lineage" in progress and "9/?" in progress, "a digest for each artifact and input"
    assert [node.stage for node in lineage.trace(chain["export"]).walk()] == [
        "export", "pretrain", "ingest", "", "ingest", "",
    ]  # fmt: skip
    assert "kitchen.mp4" in shown
    assert "see above" in shown
    assert "every SHA-256 is as recorded" in shown


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda made: (made["ingest"] / "artifact" / "data.bin").write_bytes(b"other"), "ARTIFACT ALTERED"),
        (lambda made: made["video"].write_bytes(b"another video"), "ALTERED"),
        (lambda made: made["video"].unlink(), "MISSING"),
        (lambda made: shutil.rmtree(made["pretrain"]), "MISSING"),
        (lambda made: (made["ingest"] / "manifest.json").write_text("{}"), "ALTERED"),
    ],
)
def test_damage_anywhere_is_named(
    chain: dict[str, Path], capsys: pytest.CaptureFixture[str], damage: object, word: str
) -> None:
    damage(chain)  # type: ignore[operator]
    assert cli.main(["lineage", str(chain["export"])]) == 1
    shown = capsys.readouterr().out
    assert word in shown
    assert "missing or altered" in shown


def test_chain_is_found_from_another_folder(chain: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    export = chain["export"].resolve()
    elsewhere = export.parents[3]
    monkeypatch.chdir(elsewhere)
    assert not [problem for node in lineage.trace(export).walk() for problem in node.problems]


@pytest.mark.parametrize("arguments", [["nowhere"], [], ["a", "b"]])
def test_what_is_no_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["lineage", *arguments]) == 2
