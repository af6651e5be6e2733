"""calibrate finds the camera by pictures of the board on the hand, taken by a twin, and shows that it did."""

import html
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from calibration.adapter_fit import FitConfig
from calibration.body_model import BodyModelConfig
from calibration.head_fit import HeadFitConfig
from calibration.reading_fit import ReadingConfig
from calibration.stages.calibrate import CalibrateConfig, calibrate
from robot_wm.contracts import files
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.run import read_run
from robot_wm.models.adapter import AdapterConfig
from robot_wm.planning.controllable import CalibrationFile
from sims import robots
from sims.render import world_to_camera
from sims.twin import Twin
from tests.held_board import BOARD, TRUTH, holding, record_poses, wrist
from tests.late_twin import record_babble
from tests.tiny_pretrained import SCALES, SIZES, write_untrained


def babble(row: int, proprio_P: np.ndarray, last_U: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return last_U if row % 5 else rng.uniform(-1, 1, 5) * (0.12, 0.12, 0.6, 0.6, 0.6)


@pytest.mark.slow
def test_one_command_places_the_camera(tmp_path: Path, film: Callable) -> None:
    body, model = wrist(tmp_path, (48, 64)), write_untrained(tmp_path / "model", SIZES, film(32, 32, 32), SCALES)
    log = record_babble(tmp_path / "log", body, TRUTH, 4, 61, babble)
    board = record_poses(tmp_path / "board", holding(wrist(tmp_path), tmp_path), 40)
    config = CalibrateConfig(
        body, str(model), str(log), pretrained=False, adapter=AdapterConfig(8, 4, "kinematic"), timing=False,
        fit=FitConfig(steps=4, batch=8, encoder_steps=1, encoder_batch=4), head=HeadFitConfig(steps=0), validation=0.3,
        reading=ReadingConfig(steps=2, batch=4, practice=4),
        body=BodyModelConfig(most_s=4, board_data=str(board), board=BOARD), cache=str(tmp_path / "cache"),
        out=str(tmp_path / "runs"), curve_steps=0,
    )  # fmt: skip
    run = calibrate(config)

    found = files.read_json(run / "camera.json")
    assert found["views"] >= 25 and found["placement_error_px"] < 0.3
    with robots.load(body) as simulation:
        twin = Twin(simulation, truth=TRUTH)
        true = np.linalg.inv(world_to_camera(simulation.model, simulation.data, simulation.camera))
        twin.close()
    placed = np.array(found["T_mount_cam"])
    turn_rad = Rotation.from_matrix(placed[:3, :3].T @ true[:3, :3]).magnitude()
    assert np.linalg.norm(placed[:3, 3] - true[:3, 3]) < 1e-3 and np.rad2deg(turn_rad) < 0.1
    assert found["matrix"][1][1] == pytest.approx(240 / np.tan(np.deg2rad(45) / 2), rel=5e-3), "the lens of the twin"

    known = from_mapping(CalibrationFile, files.read_json(run / "calibration.json"))
    assert known.kinematics is not None
    base_m = np.linalg.inv(placed) @ [0.0, 0.0, 0.5, 1.0]  # of the wrist, before the camera as it was placed
    np.testing.assert_allclose(known.kinematics.links[0].position_m, base_m[:3], atol=1e-5)
    manifest, page = read_run(run, "calibrate"), html.unescape((run / "report.html").read_text(encoding="utf-8"))
    assert {"camera.json", "camera.xml", "overlay_before.png", "overlay.png", "identified.xml"} <= set(manifest.outputs)
    assert {"board", "camera", "identified"} <= set(manifest.inputs)
    assert "its corners are off by 0." in page and page.count("data:image/png;base64,") == 2
