"""What examples/ shows to a user works."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from deploy import compose
from robot_wm.contracts import config
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from sims.robots import load
from tests.handmade_bundle import make_spec, write_bundle


def test_desk_arm_loads_moves_and_is_seen(repository: Path) -> None:
    values = compose.compose("calibrate", ["embodiment=desk_arm"], [repository / "examples" / "new_robot"])
    embodiment = config.from_mapping(Embodiment, values["embodiment"])
    with load(embodiment) as arm:
        assert arm.command.names == ("turn", "shoulder", "elbow")
        before_m, frame = arm.end_effector(), arm.frame()
        for _ in range(20):
            arm.step(arm.reference() + np.array([0.05, 0.0, 0.0]))
        assert np.linalg.norm(arm.end_effector() - before_m) > 0.1
        changed = np.abs(arm.frame().astype(int) - frame).max(-1) > 30
        assert changed.mean() > 0.01


def test_recording_of_an_so101_becomes_radians_with_velocities(repository: Path, tmp_path: Path, film) -> None:
    """As lerobot-record writes it: degrees, percent of the gripper, names that end in .pos."""
    to_radians = load_script(repository / "examples" / "real_so101" / "to_radians.py")
    names = tuple(f"{joint}.pos" for joint in to_radians.JOINTS)
    camera = image_key("overview")
    features = {
        camera: Feature("video", (48, 64, 3)),
        STATE: Feature("float32", (6,), names),
        ACTION: Feature("float32", (6,), names),
    }
    degrees = np.tile(np.linspace(-60, 60, 25)[:, None], (1, 6))
    degrees[:, -1] = np.linspace(0, 100, 25)
    with LeRobotWriter(tmp_path / "recorded", 25.0, features, "so101_follower") as writer:
        writer.add_episode({STATE: degrees, ACTION: degrees}, {camera: film(25, 48, 64)}, "move about")
    to_radians.convert(tmp_path / "recorded", tmp_path / "desk")
    converted = LeRobotDataset(tmp_path / "desk")
    values = converted.columns(0)
    assert values[STATE][:, 0] == pytest.approx(np.radians(degrees[:, 0]), abs=1e-5)
    assert (values[ACTION][0, -1], values[ACTION][-1, -1]) == pytest.approx(to_radians.GRIPPER_RAD, abs=1e-5)
    assert values[STATE][5:20, 6] == pytest.approx(np.radians(5.0) * 25, rel=1e-4)
    assert converted.info.features[STATE].names == tuple(
        f"{j}_{k}" for k in ("position", "velocity") for j in to_radians.JOINTS
    )
    with pytest.raises(UserError, match="radians already"):
        to_radians.to_radians(np.ones((3, 6)))
    with pytest.raises(UserError, match="use_degrees"):
        to_radians.to_radians(np.full((3, 6), 2048.0))


def test_yaml_of_the_real_arm_is_the_simulated_ones_body(repository: Path) -> None:
    from sims import catalog

    real = catalog.find("so101_desk", [repository / "examples" / "real_so101"])
    if catalog.missing(real):
        pytest.skip(catalog.missing(real))
    with load(real) as arm:
        to_radians = load_script(repository / "examples" / "real_so101" / "to_radians.py")
        assert arm.command.names == to_radians.JOINTS
        gripper = arm.model.joint("gripper").range
        assert tuple(gripper) == pytest.approx(to_radians.GRIPPER_RAD, abs=1e-3)


def test_program_of_a_robot_runs_and_tells_its_times(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fly = load_script(repository / "examples" / "real_so101" / "fly.py")
    bundle = write_bundle(tmp_path / "bundle", make_spec())
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "goal.png")
    fly.TICKS = 8
    fly.main(bundle, tmp_path / "goal.png")
    assert "decisions: p50_ms" in capsys.readouterr().out


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
