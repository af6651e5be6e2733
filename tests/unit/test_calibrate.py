"""calibrate: the delay is measured, the better adapter kept, and what was found stands in the run."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.adapter_fit import FitConfig
from calibration.body_model import BodyModelConfig
from calibration.head_fit import HeadFitConfig
from calibration.live import TwinConfig, record_twin
from calibration.reading_fit import ReadingConfig
from calibration.stages.calibrate import PATCH, CalibrateConfig, calibrate
from calibration.summary import SUMMARY, Summary
from robot_wm.contracts import files
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.dataset import STATE
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import read_run
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.scales import Scales
from robot_wm.models.adapter import AdapterConfig
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModelConfig
from robot_wm.planning.controllable import load_controllable
from robot_wm.planning.planner import PlannerConfig
from sims.truth import Truth
from tests.late_twin import record_babble
from tests.small_bodies import planar_arm
from tests.tiny_pretrained import write_untrained

DELAY_S, EPISODES, ROWS = 0.1, 8, 61
TINY = WorldModelConfig(
    EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1), DynamicsConfig(32, 1), 3
)
SCALES = Scales(1.0, (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.1, 0.1, 0.1), 1.5)


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Embodiment:
    return planar_arm(tmp_path_factory.mktemp("arm"), "joint_velocity")


@pytest.fixture(scope="module")
def log(arm: Embodiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Babbling of a twin whose commands are late."""

    def babble(row: int, proprio_P: np.ndarray, last_U: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if row % 5:
            return last_U
        return np.clip(rng.uniform(-1.5, 1.5, len(last_U)) - 1.5 * proprio_P[: len(last_U)], -2, 2)

    path = tmp_path_factory.mktemp("log") / "dataset"
    return record_babble(path, arm, Truth(delay_s=DELAY_S), EPISODES, ROWS, babble)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, film: Callable) -> Path:
    """A pretrain run with random weights."""
    return write_untrained(tmp_path_factory.mktemp("model"), TINY, film(32, 32, 32), SCALES)


@pytest.mark.slow
def test_one_run_measures_the_delay_chooses_an_adapter_and_says_what_it_found(
    arm: Embodiment, log: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CalibrateConfig(
        arm, str(model), str(log), adapter=AdapterConfig(16, 4, "auto"),
        fit=FitConfig(steps=150, batch=32, encoder_steps=60),
        reading=ReadingConfig(steps=10, batch=8, practice=12),
        head=HeadFitConfig(steps=0), curve_steps=10, validation=0.25,
        cache=str(tmp_path / "cache"), out=str(tmp_path / "runs"),
    )  # fmt: skip
    run = calibrate(config)
    said = capsys.readouterr().err
    manifest = read_run(run, "calibrate")
    assert manifest.metrics["delay_s"] == pytest.approx(DELAY_S, abs=0.012)
    assert "held-out error of the joints [rad]" in said and "from pictures alone" in said
    assert "delay_s: 0." in said and (run / PATCH).read_text().startswith("delay_s: 0.")
    found = from_mapping(Summary, files.read_json(run / SUMMARY))
    assert set(found.error_by_adapter) == {"learned", "kinematic"}
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    begun = sum(line["phase"] == "encoder" and line["step"] == 10 for line in losses)
    assert begun == 1 + 3, "the encoder is fitted once for every trial and the fit, then for the learning curve's parts"
    assert found.adapter == min(found.error_by_adapter, key=lambda kind: found.error_by_adapter[kind])
    assert found.curve is not None and list(found.curve.transitions) == sorted(found.curve.transitions)
    assert 0 < found.curve.forecasts[0].low <= found.curve.forecasts[0].error <= found.curve.forecasts[0].high
    assert 0 <= found.certainty.coverage <= 1 and 0 <= found.certainty.tells <= 1 and found.certainty.windows > 10

    assert found.reading is not None and found.reading.practice == 12
    assert manifest.metrics["practice"] == (12 if found.reading.kept else 0)
    assert "12 practice pictures" in (run / "report.html").read_text()

    assert found.model is not None and found.model.error_after < 0.5 * found.model.error_before
    told = {p.name: p for p in found.model.parameters}
    assert told["delay"].value == pytest.approx(DELAY_S, abs=0.002)
    assert told["armature:elbow"].value == pytest.approx(0.02, rel=0.05), "the delay is not taken for sluggishness"
    assert (run / "identified.xml").is_file() and "identified.json" in manifest.outputs
    assert "identified" in manifest.inputs

    body = load_controllable(run, PlannerConfig(candidates=16, iterations=1))
    assert body.embodiment.delay_s == manifest.metrics["delay_s"]
    assert body.embodiment.digest() == arm.digest(), "a measured delay makes no other body"
    assert calibrate(config) == run


def test_a_log_of_the_twin_is_recorded_live_and_found_again(arm: Embodiment, tmp_path: Path) -> None:
    found = record_twin(tmp_path, arm, TwinConfig(severity=0.5, preset="timing"), 30, seed=1)
    log = LeRobotDataset(found / "dataset")
    assert log.num_episodes == 2 and log.episode_length(0) == 25 * arm.frame_skip + 1
    columns = log.columns(0)
    assert np.ptp(columns[STATE][:, :2], axis=0).min() > 0.05, "it moves"
    assert record_twin(tmp_path, arm, TwinConfig(severity=0.5, preset="timing"), 30, seed=1) == found
    other = record_twin(tmp_path, arm, TwinConfig(severity=0.5, preset="timing", seed=3), 30, seed=1)
    assert not np.array_equal(LeRobotDataset(other / "dataset").columns(0)[STATE], columns[STATE]), "another twin"


@pytest.mark.slow
def test_one_command_records_the_twin_and_calibrates_from_it(arm: Embodiment, model: Path, tmp_path: Path) -> None:
    """And the same command again finds both."""
    config = CalibrateConfig(
        arm, str(model), source="twin", twin=TwinConfig(severity=0.5), transitions=60, pretrained=False,
        adapter=AdapterConfig(8, 4), fit=FitConfig(steps=4, batch=8, encoder_steps=1, encoder_batch=4), curve_steps=0,
        reading=ReadingConfig(steps=0), head=HeadFitConfig(steps=0), body=BodyModelConfig(identify=False),
        validation=0.4,
        cache=str(tmp_path / "cache"), out=str(tmp_path / "runs"),
    )  # fmt: skip
    run = calibrate(config)
    [log] = (tmp_path / "runs" / "record").iterdir()
    manifest = read_run(run, "calibrate")
    assert Path(manifest.inputs["data"].path) == log and read_run(log, "record").metrics["severity"] == 0.5
    assert 50 < manifest.metrics["transitions"] <= 60, "a delay costs an episode its first rows"
    assert calibrate(config) == run and len(list((tmp_path / "runs" / "record").iterdir())) == 1


def test_no_data_and_no_source_is_refused(arm: Embodiment, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'data' is missing\. Give data=LOG"):
        calibrate(CalibrateConfig(arm, str(model), out=str(tmp_path)))
