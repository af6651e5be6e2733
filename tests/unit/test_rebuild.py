"""A run is made again from its manifest; what was altered since is refused or named."""

import re
import shutil
from pathlib import Path

import pytest

from deploy import cli
from deploy.request import command
from robot_wm.contracts import files
from robot_wm.contracts.run import MANIFEST
from robot_wm.data import video
from tests.faults.test_command_line_refusals import MJCF, YAML, Workshop, film
from tests.faults.test_command_line_refusals import made as made
from tests.faults.test_command_line_refusals import workshop as workshop


def test_a_run_is_made_again_wherever_its_folder_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    video.encode(Path("film.mp4"), film(30), 10.0)
    assert cli.main(["ingest", "data=film.mp4"]) == 0
    (run,) = Path("runs/ingest").iterdir()
    capsys.readouterr()

    def refused(*words: str) -> str:
        assert cli.main(["rebuild", *words]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "where" in refused(str(run), "out=runs")
    shutil.move(tmp_path / "here", tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    run = Path("there") / run
    assert cli.main(["rebuild", str(run)]) == 0
    again = Path(capsys.readouterr().out.strip())
    assert again.parent == Path("rebuilt/ingest")
    assert (again / "sources.jsonl").read_bytes() == (run / "sources.jsonl").read_bytes()

    manifest = files.read_json(run / MANIFEST)  # as if it had come out otherwise then
    manifest["outputs"]["sources.jsonl"]["sha256"] = "0" * 64
    manifest["versions"]["numpy"] = "1.0"
    files.write_json(run / MANIFEST, manifest)
    said = refused(str(run), "out=other")
    assert "1 of 3 outputs" in said and "otherwise: sources.jsonl" in said and "numpy 1.0, now" in said

    (tmp_path / "there" / "film.mp4").write_bytes(b"another")
    assert "was altered since" in refused(str(run), "out=third")
    (tmp_path / "there" / "film.mp4").unlink()
    assert "is missing" in refused(str(run), "out=third")
    assert not Path("third").exists()


@pytest.mark.slow  # those that a robot's path goes through are made again in test_killed_anywhere.py
@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "log"],
        ["calibrate", "identify", "embodiment=crane", "data=log", "fit.starts=1"],
        ["calibrate", "plan", "embodiment=servo", "motion.duration_s=2", "motion.candidates=2"],
    ],
    ids=lambda words: command(words)[0],
)
def test_a_stage_comes_out_the_same(workshop: Workshop, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    servo = YAML.replace("crane", "servo").replace("joint_velocity", "joint_position")
    files.write_atomic(Path("mine/embodiment/servo.yaml"), (servo + "identifiable: {damping: [0.1, 10.0]}\n").encode())
    files.write_atomic(Path("mine/embodiment/servo.xml"), re.sub("<velocity(.*?)kv=", r"<position\1kp=", MJCF).encode())
    assert cli.main([*words, "--config-dir=mine"]) == 0, capsys.readouterr().err
    assert cli.main(["rebuild", workshop.only(command(words)[0])]) == 0, capsys.readouterr().err
