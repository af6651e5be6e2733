"""Datasets of the Hub: downloaded only when named, pinned to a commit, used again without the network."""

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from robot_wm.contracts.dataset import ACTION, Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data import hub
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter

COMMIT = "5c1b" + "0" * 36


class StandIn(types.ModuleType):
    """What of huggingface_hub is used, over a local folder."""

    def __init__(self, source: Path):
        super().__init__("huggingface_hub")
        self.source, self.downloads, self.fails = source, [], False

    def HfApi(self) -> "StandIn":  # noqa: N802
        return self

    def dataset_info(self, repository: str, revision: str | None, files_metadata: bool) -> types.SimpleNamespace:
        if repository != "owner/name":
            raise OSError(f"404 Client Error\nRepository {repository} not found")
        return types.SimpleNamespace(sha=COMMIT, siblings=[types.SimpleNamespace(size=2_000_000)] * 3)

    def snapshot_download(self, repository: str, repo_type: str, revision: str, local_dir: Path) -> None:
        self.downloads.append((repository, repo_type, revision))
        shutil.copytree(self.source, local_dir, dirs_exist_ok=True)
        (local_dir / ".cache" / "huggingface").mkdir(parents=True, exist_ok=True)
        if self.fails:
            raise ConnectionError("the line went dead")


@pytest.fixture
def stand_in(tmp_path: Path, film, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    features = {image_key("front"): Feature("video", (64, 64, 3)), ACTION: Feature("float32", (1,))}
    with LeRobotWriter(tmp_path / "remote", 10.0, features) as writer:
        writer.add_episode({ACTION: np.arange(30)}, {image_key("front"): film(30)}, "push")
    module = StandIn(tmp_path / "remote")
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.chdir(tmp_path)
    return module


def test_ingest_and_inspect_take_a_dataset_of_the_hub(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ingest", "data=hub:owner/name@main"]) == 0
    said = capsys.readouterr()
    assert f"downloading owner/name at {COMMIT}: 3 files, 6 MB" in " ".join(said.err.split())
    run = Path(said.out.strip())
    manifest = read_run(run, "ingest")
    assert manifest.config["data"] == "hub:owner/name@main"
    assert manifest.inputs["data"].path == f".cache/hub/owner--name/{COMMIT}"  # the commit, pinned
    assert LeRobotDataset(run / "dataset").num_episodes == 1
    assert cli.main(["inspect", f"hub:owner/name@{COMMIT}"]) == 0
    assert stand_in.downloads == [("owner/name", "dataset", COMMIT)]  # once


def test_interrupted_download_does_not_count(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.fails = True
    with pytest.raises(UserError, match=r"hub:owner/name cannot be downloaded \(the line went dead\)"):
        hub.local("hub:owner/name", tmp_path)
    assert not (tmp_path / "hub/owner--name" / COMMIT).exists()
    stand_in.fails = False
    folder = hub.local("hub:owner/name", tmp_path)
    assert LeRobotDataset(folder).num_episodes == 1
    assert not (folder / ".cache").exists()


def test_what_cannot_be_is_one_line(stand_in: StandIn, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"404 Client Error\)\. Check name") as caught:
        hub.local("hub:owner/other", tmp_path)
    assert "\n" not in str(caught.value)
    for name in ("hub:name", "hub:../name", "hub:owner/name@../..", "hub:owner/..", "hub:a/b/c"):
        with pytest.raises(UserError, match="Name a dataset of the Hub as"):
            hub.local(name, tmp_path)
    assert hub.local("some/folder", tmp_path) == Path("some/folder")
    assert not stand_in.downloads


def test_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ingest", "data=hub:owner/name"]) == 2
    assert "pip install 'robot-wm[hub]'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
