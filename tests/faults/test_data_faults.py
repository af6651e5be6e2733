"""Damaged datasets and video: each refused with one sentence that names the thing."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robot_wm.contracts.dataset import STATE, Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data import video
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.pack import PackSpec, build_pack
from robot_wm.stages.ingest import IngestConfig, ingest

INFO = "meta/info.json"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-000/file-001.parquet"
MP4 = f"videos/{image_key('front')}/chunk-000/file-001.mp4"


@pytest.fixture
def dataset(tmp_path: Path, film) -> Path:
    features = {image_key("front"): Feature("video", (64, 64, 3)), STATE: Feature("float32", (2,))}
    with LeRobotWriter(tmp_path / "set", 5.0, features) as writer:
        for episode in range(3):
            writer.add_episode({STATE: np.ones((8, 2))}, {image_key("front"): film(8, seed=episode)})
    return tmp_path / "set"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Where run folders go."""
    return tmp_path / "runs"


def cut(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def link(path: Path) -> None:
    """Move a file or folder out of the dataset, and leave a link to it in its place."""
    elsewhere = Path(tempfile.mkdtemp()) / path.name
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def change(path: Path, **values: object) -> None:
    info = json.loads((path / INFO).read_text())
    (path / INFO).write_text(json.dumps(info | values))


def change_rows(path: Path, change: Callable[[list[dict]], None]) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


def read_everything(path: Path) -> None:
    found = LeRobotDataset(path)
    for episode in range(found.num_episodes):
        found.columns(episode)
        found.frames(episode)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no info": (lambda p: (p / INFO).unlink(), "is not a LeRobot dataset"),
    "info cut": (lambda p: cut(p / INFO), "info.json is not valid JSON"),
    "unknown version": (lambda p: change(p, codebase_version="v9.0"), "codebase_version is 'v9.0'"),
    "more episodes promised": (lambda p: change(p, total_episodes=4), "total_episodes is 4, but meta/ lists 3"),
    "fewer frames promised": (lambda p: change(p, total_frames=23), "total_frames is 23, but meta/ lists 24"),
    "episodes cut": (lambda p: cut(p / EPISODES), "cannot be read as parquet"),
    "no episodes": (lambda p: (p / EPISODES).unlink(), "total_episodes is 3, but meta/ lists 0"),
    "episode twice": (
        lambda p: change_rows(p / EPISODES, lambda r: r[2].update(episode_index=1)),
        "meta/episodes lists 1 in place of 2",
    ),
    "negative length": (
        lambda p: change_rows(p / EPISODES, lambda r: r[1].update(length=-8)),
        "episode 1 has length -8",
    ),
    "length too long": (
        lambda p: change_rows(p / EPISODES, lambda r: [r[1].update(length=9), r[2].update(length=7)]),
        "holds 8 rows of episode 1, meta/ promises 9",
    ),
    "no video place": (
        lambda p: change_rows(p / EPISODES, lambda r: [x.pop(f"videos/{image_key('front')}/file_index") for x in r]),
        "lacks .*file_index",
    ),
    "data missing": (lambda p: (p / DATA).unlink(), r"file-001.parquet does not exist"),
    "data cut": (lambda p: cut(p / DATA), "file-001.parquet cannot be read as parquet"),
    "data empty": (lambda p: (p / DATA).write_bytes(b""), "file-001.parquet cannot be read as parquet"),
    "column missing": (
        lambda p: pq.write_table(pq.read_table(p / DATA).drop_columns([STATE]), p / DATA),
        "file-001.parquet has no column 'observation.state'",
    ),
    "wrong shape": (
        lambda p: change_rows(p / DATA, lambda r: r[3].update({STATE: [1.0]})),
        r"observation.state of episode 1 is not of shape \(2,\)",
    ),
    "NaN": (
        lambda p: change_rows(p / DATA, lambda r: r[5].update({STATE: [0.0, float("nan")]})),
        "observation.state of episode 1 is not finite at row 5",
    ),
    "null": (
        lambda p: change_rows(p / DATA, lambda r: r[2].update({STATE: [None, 0.0]})),
        "observation.state of episode 1 is not finite at row 2",
    ),
    "video missing": (lambda p: (p / MP4).unlink(), "file-001.mp4 does not exist"),
    "video cut": (lambda p: cut(p / MP4), "file-001.mp4 cannot be read as video"),
    "video is text": (lambda p: (p / MP4).write_text("hello"), "file-001.mp4 cannot be read as video"),
    "video too short": (lambda p: video.encode(p / MP4, video.decode(p / MP4)[:5], 5.0), "has no frame at 1.0000 s"),
    "video at another rate": (lambda p: video.encode(p / MP4, video.decode(p / MP4), 5.1), r"no frame at 0\.2000 s"),
    "data outside": (
        lambda p: change(p, data_path="../../{chunk_index}/{file_index}.parquet"),
        "leaves the folder",
    ),
    "video outside": (lambda p: change(p, video_path="/etc/{video_key}/{file_index}.mp4"), "leaves the folder"),
    "data is a link to outside": (lambda p: link(p / DATA), "leaves the folder"),
    "video is a link to outside": (lambda p: link(p / MP4), "leaves the folder"),
    "info is a link to outside": (lambda p: link(p / INFO), "leaves the folder"),
    "episodes are a link to outside": (lambda p: link(p / EPISODES), "leaves the folder"),
    "folder is a link to outside": (lambda p: link(p / "data"), "leaves the folder"),
    "feature is a path": (
        lambda p: change(p, features={"../../evil": {"dtype": "video", "shape": [64, 64, 3]}}),
        "'../../evil' cannot be a feature's name",
    ),
    "unknown place": (lambda p: change(p, data_path="data/{secret}.parquet"), "data_path is 'data/{secret}.parquet'"),
    "no place": (lambda p: change(p, video_path=None), "video_path is None|does not exist"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_in_one_sentence(dataset: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(dataset)
    with pytest.raises(UserError, match=message) as caught:
        read_everything(dataset)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["data cut", "NaN", "video cut"])
def test_damage_stops_the_pack_and_leaves_no_half_of_it(dataset: Path, tmp_path: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(dataset)
    with pytest.raises(UserError, match=message):
        build_pack(dataset, PackSpec(), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/pack.json"))


def test_links_inside_a_snapshot_of_the_hub_are_followed(dataset: Path, tmp_path: Path) -> None:
    """The Hub's own cache keeps files in `blobs/` and links to them from `snapshots/COMMIT/`."""
    repository = tmp_path / "datasets--owner--name"
    snapshot = Path(shutil.copytree(dataset, repository / "snapshots" / "5c1b"))
    (repository / "blobs").mkdir()
    for number, file in enumerate(p for p in list(snapshot.rglob("*")) if p.is_file()):
        shutil.move(file, repository / "blobs" / str(number))
        file.symlink_to(repository / "blobs" / str(number))
    read_everything(snapshot)
    (snapshot / DATA).unlink()
    (snapshot / DATA).symlink_to(dataset / DATA)
    with pytest.raises(UserError, match="leaves the folder"):
        read_everything(snapshot)


def test_frame_that_the_decoder_calls_damaged_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 64, 64, 1), dtype=np.uint8).repeat(3, axis=3)
    path = tmp_path / "a.mp4"
    video.encode(path, noise, 5.0)  # every frame takes as many bytes
    data = bytearray(path.read_bytes())
    half, quarter = len(data) // 2, len(data) // 4
    data[half : half + quarter] = bytes(quarter)  # the file keeps its length, or its index would be off
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.mp4 (is damaged at|cannot be read)"):
        video.decode(path)
    assert len(video.decode_at(path, np.arange(10) / 5.0)) == 10  # what lies before is not lost


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (None, "row 2 is missing or not an image"),
        ({"bytes": None, "path": None}, "row 2 is missing or not an image"),
        ({"bytes": b"no image", "path": None}, "row 2 is missing or not an image"),
        ({"bytes": None, "path": "images/none.png"}, "row 2 is missing or not an image"),
        ({"bytes": None, "path": "../../secret.png"}, "leaves the folder"),
    ],
)
def test_images_inside_rows(dataset: Path, film, cell: dict | None, message: str) -> None:
    images = film(8)
    cells = [{"bytes": cv2.imencode(".png", i[..., ::-1])[1].tobytes(), "path": None} for i in images]
    cells[2] = cell  # type: ignore[call-overload]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pq.read_table(dataset / DATA).append_column("picture", pa.array(cells, kind))
    pq.write_table(table, dataset / DATA)
    info = json.loads((dataset / INFO).read_text())
    change(dataset, features=info["features"] | {"picture": {"dtype": "image", "shape": [64, 64, 3]}})
    found = LeRobotDataset(dataset)
    assert np.array_equal(found.frames_at(1, np.array([0, 7]), "picture"), images[[0, 7]])
    with pytest.raises(UserError, match=message):
        found.frames(1, "picture")


def test_ingest_goes_on_without_the_damaged_episode(
    dataset: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(dataset / MP4)
    found = LeRobotDataset(ingest(IngestConfig(str(dataset), out=str(runs))) / "dataset")
    assert found.num_episodes == 2
    assert "left out" in capsys.readouterr().err


def test_ingest_of_broken_video_only(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no video"):
        ingest(IngestConfig(str(tmp_path / "empty"), out=str(runs)))
    (tmp_path / "a.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"a\.mp4 holds no readable video"):
        ingest(IngestConfig(str(tmp_path / "a.mp4"), out=str(runs)))
    assert not runs.joinpath("ingest").exists()


def test_frames_around_a_break_are_kept_and_the_rest_is_counted(tmp_path: Path, runs: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "broken.mp4"
    video.encode(path, np.stack([np.roll(noise, shift, axis=0) for shift in range(40)]), 5.0)
    data = bytearray(path.read_bytes())
    middle, quarter = len(data) // 2, len(data) // 4
    data[middle : middle + quarter] = bytes(quarter)
    path.write_bytes(data)
    run = ingest(IngestConfig(str(path), size=64, out=str(runs)))
    found, metrics = LeRobotDataset(run / "dataset"), read_run(run).metrics
    assert found.num_episodes == 2
    assert 10 <= metrics["corrupt_frames"] <= 16
    assert found.info.total_frames + metrics["corrupt_frames"] == 40
