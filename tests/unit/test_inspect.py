"""inspect: every kind of fault that was planted is found, none in a sound dataset, and the page can be read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deploy import cli
from deploy.stages.inspect import InspectConfig, inspect
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data import checks, video
from robot_wm.data.checks import Problem
from robot_wm.data.inspection import inspect as look_over
from robot_wm.data.lerobot_writer import LeRobotWriter
from tests.html_page import Page, browse, width_needed

FRONT = image_key("front")
MALICIOUS = "<script>alert(1)</script>[/bold]"
FEATURES = {
    FRONT: Feature("video", (96, 128, 3)),
    STATE: Feature("float32", (3,), ("shoulder", "elbow", MALICIOUS)),
    ACTION: Feature("float32", (3,), ("shoulder", "elbow", "gripper")),
}


def values(length: int, seed: int) -> np.ndarray:
    time = np.linspace(0, 3, length)[:, None]
    return np.sin(time * (1 + np.arange(3)) + seed)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, film) -> Path:
    """Four episodes of 4 s at 10 Hz in which nothing is wrong."""
    path = tmp_path_factory.mktemp("inspect") / "sound"
    with LeRobotWriter(path, 10.0, FEATURES, MALICIOUS) as writer:
        for episode in range(4):
            columns = {STATE: values(40, episode), ACTION: values(40, episode) * 1.1}
            writer.add_episode(columns, {FRONT: film(40, 96, 128, seed=episode)}, f"put {MALICIOUS} away")
    return path


@pytest.fixture
def dataset(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "set")


def found(path: Path) -> dict[str, Problem]:
    return {problem.kind: problem for problem in look_over(path).problems}


def rows(path: Path, episode: int, change: Callable[[dict[str, list]], None]) -> None:
    """Change columns of one episode's parquet file."""
    [file] = (path / "data").rglob(f"file-{episode:03d}.parquet")
    table = pq.read_table(file)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(pa.table(columns, schema=table.schema), file)


def entry(columns: dict[str, list], key: str, index: int, change: Callable[[float], float]) -> None:
    for row in columns[key]:
        row[index] = change(row[index])


def test_sound_dataset_has_no_problem(sound: Path) -> None:
    inspection = look_over(sound)
    assert inspection.problems == ()
    assert inspection.lengths == (40,) * 4
    assert inspection.measured_fps == pytest.approx(10.0)
    assert [(c.key, c.height, c.width, c.codec) for c in inspection.cameras] == [(FRONT, 96, 128, "h264")]
    joint = next(j for j in inspection.joints if (j.feature, j.name) == (ACTION, "elbow"))
    measured = np.concatenate([values(40, e)[:, 1] * 1.1 for e in range(4)])
    assert (joint.low, joint.high, joint.mean) == pytest.approx(
        (measured.min(), measured.max(), measured.mean()), abs=1e-6
    )


def freeze(path: Path) -> None:
    [file] = (path / "videos").rglob("file-002.mp4")
    frames = video.decode(file)
    frames[10:35] = frames[10]
    video.encode(file, frames, 10.0)


def darken(path: Path) -> None:
    [file] = (path / "videos").rglob("file-001.mp4")
    frames = video.decode(file)
    frames[5:20] = 0
    video.encode(file, frames, 10.0)


def move_video(path: Path) -> None:
    place = path / "meta/episodes/chunk-000/file-000.parquet"
    listed = pq.read_table(place).to_pylist()
    listed[1][f"videos/{FRONT}/from_timestamp"] = 0.004
    pq.write_table(pa.Table.from_pylist(listed), place)


def info(path: Path, **changed: object) -> None:
    where = path / "meta/info.json"
    where.write_text(json.dumps(json.loads(where.read_text()) | changed))


def stats(path: Path) -> None:
    where = path / "meta/stats.json"
    said = json.loads(where.read_text())
    said[ACTION]["mean"][1] += 0.3
    where.write_text(json.dumps(said))


def shorten(path: Path) -> None:
    [file] = (path / "videos").rglob("file-003.mp4")
    video.encode(file, video.decode(file)[:30], 10.0)


def copy(path: Path) -> None:
    first = pq.read_table(path / "data/chunk-000/file-000.parquet").to_pydict()
    rows(path, 3, lambda columns: columns.update({key: first[key] for key in (STATE, ACTION)}))


PLANTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "not finite": (
        lambda p: rows(p, 1, lambda c: c[STATE][7].__setitem__(1, float("nan"))),
        "observation.state is NaN or infinite in 1 row, in episode 1 (elbow)",
    ),
    "constant": (
        lambda p: [rows(p, e, lambda c: entry(c, STATE, 0, lambda _: 0.5)) for e in range(4)],
        "observation.state never changes in 1 of 3 entries (shoulder)",
    ),
    "time repeats": (
        lambda p: rows(p, 2, lambda c: c.update(timestamp=[t - 0.1 * (t > 2) for t in c["timestamp"]])),
        "Time stamps repeat or go back at 1 row, in episode 2",
    ),
    "gaps": (
        lambda p: rows(p, 1, lambda c: c.update(timestamp=[t + 0.5 * (t > 2) for t in c["timestamp"]])),
        "1 gap between rows, up to 0.600 s, in episode 1",
    ),
    "rate": (
        lambda p: rows(p, 3, lambda c: c.update(timestamp=[1.2 * t for t in c["timestamp"]])),
        "Rows are 0.1200 s apart where info.json says 0.1000 s, in episode 3",
    ),
    "counts": (lambda p: info(p, total_frames=9), "info.json promises total_frames 9, the list of episodes has 160"),
    "drift": (move_video, "file-001.mp4 drifts: 40 of 40 rows have no frame within 0.1 ms, the worst is 4.00 ms off"),
    "saturated": (
        lambda p: [rows(p, e, lambda c: entry(c, ACTION, 2, lambda v: min(v, 0.5))) for e in range(4)],
        "Commands stand exactly at their lowest or highest value in up to",
    ),
    "units": (
        lambda p: [rows(p, e, lambda c: entry(c, STATE, 1, np.degrees)) for e in range(4)],
        "observation.state reaches 57.",
    ),
    "freeze": (freeze, "front freezes for at least"),
    "black": (darken, "front is black for"),
    "video": (shorten, "file-003.mp4 has 30 frames for 40 rows"),
    "statistics": (stats, "The stored mean of action is not that of its rows"),
    "unreadable": (
        lambda p: [f.write_bytes(f.read_bytes()[:200]) for f in (p / "data").rglob("file-002.parquet")],
        "1 of 4 episodes cannot be read",
    ),
    "copies": (copy, "1 episode with the same rows as another, such as 0, 3"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_fault_is_found_and_said_in_a_sentence(dataset: Path, kind: str) -> None:
    plant, said = PLANTED[kind]
    plant(dataset)
    problems = found(dataset)
    assert kind in problems, problems
    assert said in problems[kind].text
    consequences = {"statistics", "pictures", "drift", "video"}  # of the same fault
    assert set(problems) <= {kind} | consequences


def test_a_shared_video_is_off_by_a_whole_frame() -> None:
    shown_s = np.arange(30) / 10
    sound = [shown_s[:10], shown_s[10:20]]
    assert checks.of_drift("a.mp4", shown_s[:20], sound) == []
    [problem] = checks.of_drift("a.mp4", shown_s[:20], [sound[0], sound[1] - 0.1])
    assert (problem.kind, problem.severe) == ("drift", True)
    assert problem.text == "a.mp4: 1 frame shared by two rows of its 2 episodes"
    [problem] = checks.of_drift("a.mp4", shown_s, sound)
    assert problem.text == "a.mp4 has 30 frames for 20 rows of 2 episodes"


def test_standing_still_is_no_freeze(tmp_path: Path, film) -> None:
    features = {FRONT: FEATURES[FRONT], STATE: FEATURES[STATE]}
    with LeRobotWriter(tmp_path / "set", 10.0, features) as writer:
        state, frames = values(60, 0), film(60, 96, 128)
        state[20:], frames[20:] = state[20], frames[20]
        writer.add_episode({STATE: state}, {FRONT: frames}, "wait")
    assert found(tmp_path / "set") == {}


def test_command_line_takes_the_dataset_as_a_word(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["inspect", str(sound)]) == 0
    said = capsys.readouterr()
    run = Path(said.out.strip())
    assert read_run(run, "inspect").metrics == {"problems": 0, "severe": 0}
    assert "no problem found" in said.err
    assert json.loads((run / "inspection.json").read_text())["fps"] == 10.0
    assert cli.main(["inspect", str(tmp_path)]) == 2
    assert "is not a LeRobot dataset" in capsys.readouterr().err


def test_numbers_without_meaning_are_refused(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="watch is 0"):
        inspect(InspectConfig(str(sound), watch=0, out=str(tmp_path)))


@pytest.fixture(scope="module")
def page(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    path = Path(shutil.copytree(sound, folder / "set"))
    for plant in ("not finite", "saturated", "freeze"):
        PLANTED[plant][0](path)
    return (inspect(InspectConfig(str(path), out=str(folder))) / "dataset.html").read_text(encoding="utf-8")


def test_page_holds_to_the_rules_of_pages(page: str) -> None:
    parsed = Page(page)
    parsed.check_well_formed()
    parsed.check_offline()
    images = [a for tag, a in parsed.elements if tag == "img"]
    assert len(images) == 4
    assert all(image["alt"].strip() for image in images)
    assert "<script" not in page
    for said in ("Serious · not finite", "Serious · freeze", "Look · saturated"):
        assert said in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1920])
def test_page_fits_and_a_browser_does_not_complain(page: str, tmp_path: Path, width: int) -> None:
    assert width_needed(page, tmp_path, width) <= width
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    for dark in ([], ["--blink-settings=preferredColorScheme=0"]) if width == 360 else ([],):
        done = browse(tmp_path / "page.html", tmp_path, width, *dark)
        assert "What was found" in done.stdout
        assert "CONSOLE" not in done.stderr
