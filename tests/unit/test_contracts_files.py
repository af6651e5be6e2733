"""Files appear whole or not at all; paths stay in their folder; damage is told in one line."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from robot_wm.contracts import files
from robot_wm.contracts.dataset import DatasetInfo, Feature
from robot_wm.contracts.errors import UserError

INFO = {
    "codebase_version": "v3.0",
    "fps": 30,
    "total_episodes": 1,
    "total_frames": 8,
    "features": {
        "observation.images.front": {"dtype": "video", "shape": [4, 6, 3], "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["left", "right"]}},
    },
}


def test_json_keeps_every_digit_and_refuses_nan(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"x": 0.1 + 0.2})
    assert files.read_json(tmp_path / "a.json") == {"x": 0.30000000000000004}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert files.read_json(tmp_path / "a.json") == {"x": 0.30000000000000004}, "what was there stays"
    assert os.listdir(tmp_path) == ["a.json"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_atomic(tmp_path / "a", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("content", "words"), [(b'{"a": 1', "not valid JSON"), (b"\xff\xfe", "not valid JSON"), (None, "does not exist")]
)
def test_json_that_cannot_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json.*{words}"):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("relative", ["../secret", "a/../../secret", "/etc/passwd", "link/passwd", "link", "up"])
def test_path_that_leaves_its_folder(tmp_path: Path, relative: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    (root / "up").symlink_to("../secret")
    with pytest.raises(UserError, match="leaves the folder"):
        files.confine(root, relative)


@pytest.mark.parametrize("relative", ["a/b", "a/../b", "inner", "."])
def test_path_that_stays(tmp_path: Path, relative: str) -> None:
    (tmp_path / "inner").symlink_to("a")
    assert files.confine(tmp_path, relative).is_relative_to(tmp_path.resolve())


def test_folder_with_a_similar_name_is_outside(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leaves the folder"):
        files.confine(tmp_path / "run", "../run2/a")


def test_fingerprint_follows_content_and_names(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x").write_bytes(b"1")
    seen = {files.fingerprint(folder)}
    (folder / "a" / "x").write_bytes(b"2")
    seen.add(files.fingerprint(folder))
    (folder / "a" / "x").rename(folder / "a" / "y")
    seen.add(files.fingerprint(folder))
    (folder / "z").touch()
    seen.add(files.fingerprint(folder))
    assert len(seen) == 4
    (folder / "manifest.json").write_text("{}")
    assert files.fingerprint(folder) == files.sha256(folder / "manifest.json"), "a finished run is its manifest"
    with pytest.raises(UserError, match="nowhere does not exist"):
        files.fingerprint(tmp_path / "nowhere")


def test_fingerprint_of_a_large_file_sees_both_ends(tmp_path: Path) -> None:
    def of(start: bytes, end: bytes) -> str:
        (tmp_path / "big").write_bytes(start + bytes(3 << 20) + end)
        return files.fingerprint(tmp_path)

    assert len({of(b"a", b"b"), of(b"c", b"b"), of(b"a", b"d"), of(b"aa", b"b")}) == 4


@pytest.mark.parametrize(("before", "after"), [(b"a\nb\nto", b"a\nb\n"), (b"a\n", b"a\n"), (b"to", b""), (b"", b"")])
def test_torn_last_line_is_dropped(tmp_path: Path, before: bytes, after: bytes) -> None:
    (tmp_path / "lines").write_bytes(before)
    files.drop_torn_line(tmp_path / "lines")
    assert (tmp_path / "lines").read_bytes() == after
    files.drop_torn_line(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_error_is_one_line_and_crosses_processes() -> None:
    error = UserError("a\n  b.", "Do\tthis.\n")
    assert str(error) == "a b. Do this."
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (how a worker process hands it over)
    assert (again.problem, again.remedy, str(again)) == (error.problem, error.remedy, str(error))


def test_dataset_info() -> None:
    info = DatasetInfo.from_json(INFO, "info.json")
    assert info.cameras == ("front",)
    assert info.features["action"] == Feature("float32", (2,), ("left", "right"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codebase_version": "v9"}, r"codebase_version is 'v9'.*v2\.0, v2\.1, v3\.0"),
        ({"codebase_version": 3}, "codebase_version is 3"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": "fast"}, "fps is 'fast'"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": True}, "fps is True"),
        ({"total_episodes": None}, "total_episodes is None"),
        ({"total_frames": -1}, "total_frames -1"),
        ({"features": []}, r"features is \[\]"),
        ({"features": {"action": {"dtype": "float32"}}}, "'action' has no dtype or shape"),
        ({"features": {"action": {"dtype": "float32", "shape": 2}}}, "shape of 'action' is 2"),
        ({"features": {"action": {"dtype": "float32", "shape": ["two"]}}}, "shape of 'action' is"),
    ],
)
def test_dataset_info_that_is_none(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=rf"info\.json: .*{words}"):
        DatasetInfo.from_json(INFO | changes, "info.json")


def test_dataset_info_that_is_no_mapping() -> None:
    with pytest.raises(UserError, match=r"info\.json: codebase_version is \[1\]"):
        DatasetInfo.from_json([1], "info.json")  # type: ignore[arg-type]
