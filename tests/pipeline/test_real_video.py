"""Real video of a humanoid (a LeRobot dataset) passes through ingest, pretrain and label."""

from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from robot_wm.contracts.dataset import LATENT_ACTION
from robot_wm.contracts.run import read_run
from robot_wm.data.lerobot import LeRobotDataset


@pytest.mark.slow
def test_real_dataset_is_ingested_pretrained_on_and_labelled(
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tiny_model: tuple[str, ...],
) -> None:
    source = (real_data / "g1_bottle").resolve()
    if not source.is_dir():
        pytest.skip(f"no dataset g1_bottle in {real_data}")
    monkeypatch.chdir(tmp_path)

    def robot_wm(*arguments: str) -> Path:
        code = cli.main(list(arguments))
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return Path(captured.out.strip())

    taken_in = robot_wm("ingest", f"data={source}")
    video = LeRobotDataset(taken_in / "dataset")
    assert video.num_episodes >= 1
    assert not {"action", "observation.state"} & set(video.info.features)

    model = robot_wm("pretrain", f"data=[{taken_in}]", *tiny_model)
    labelled = robot_wm("label", f"data={taken_in}", f"model={model}")
    dataset = LeRobotDataset(labelled / "dataset")
    assert dataset.info.fps == pytest.approx(5.0, rel=0.1)
    action = dataset.columns(0)[LATENT_ACTION]
    assert np.isfinite(action).all()
    assert np.abs(action).max() <= 1
    assert action[:-1].std() > 0
    assert read_run(labelled, "label").inputs["model"].sha256
