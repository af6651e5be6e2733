"""A robot that nobody has seen, added by one yaml and one MJCF, goes through every stage to a closed loop."""

import json
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from deploy.runtime.safety import OUT_OF_BOUNDS, SELF_COLLISION, Safety
from robot_wm.contracts.bundle import read_bundle
from robot_wm.contracts.robot import Observation
from robot_wm.contracts.run import MANIFEST, read_run

MJCF = """\
<mujoco model="crane">
  <compiler angle="radian"/>
  <option timestep="0.01" integrator="implicitfast"/>
  <default>
    <joint damping="2" armature="0.05"/>
    <geom type="capsule" contype="1" conaffinity="0" density="500"/>
    <position kp="80" inheritrange="1"/>
  </default>
  <worldbody>
    <light pos="0 0 2"/>
    <geom type="plane" size="1 1 0.1" rgba="0.4 0.45 0.5 1"/>
    <body name="mast" pos="0 0 0.3">
      <joint name="swing" axis="0 0 1" range="-1 1"/>
      <geom fromto="0 0 0 0.25 0 0" size="0.03" rgba="0.8 0.2 0.2 1"/>
      <body name="jib" pos="0.25 0 0">
        <joint name="lift" axis="0 1 0" range="-0.8 0.8"/>
        <geom fromto="0 0 0 0.2 0 0" size="0.025" rgba="0.2 0.7 0.3 1"/>
        <body name="hook" pos="0.2 0 0">
          <joint name="tilt" axis="0 1 0" range="-0.8 0.8"/>
          <geom fromto="0 0 0 0.12 0 0" size="0.03" rgba="0.95 0.9 0.2 1"/>
          <site name="tip" pos="0.12 0 0"/>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="swing" joint="swing"/>
    <position name="lift" joint="lift"/>
    <position name="tilt" joint="tilt"/>
  </actuator>
</mujoco>
"""
YAML = """\
name: crane
mjcf: {path: crane.xml}
interface: joint_position
end_effector: tip
control_rate_hz: 20
frame_skip: 4
camera: {name: yard, height: 48, width: 48, position_m: [0.9, -0.7, 0.9], target_m: [0.3, 0.0, 0.3], fovy_deg: 45}
safety:
  max_step: 0.1
  margin: 0.02
  self_clearance_m: 0.02
  workspace_m: [[-0.7, -0.7, -0.1], [0.7, 0.7, 0.62]]
"""
TINY_PLANNER = ("planner.horizon=2", "planner.candidates=24", "planner.iterations=2", "planner.sampler.elites=6")


class Robot:
    """The command line, in an empty folder that holds the two files of the new robot."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self._capsys = folder, capsys
        (folder / "mine" / "embodiment").mkdir(parents=True)
        (folder / "mine" / "embodiment" / "crane.xml").write_text(MJCF)
        (folder / "mine" / "embodiment" / "crane.yaml").write_text(YAML)

    def __call__(self, *arguments: str) -> Path:
        """Run one command with the robot's folder; returns the run that it printed."""
        code = cli.main([*arguments, "--config-dir", "mine"])
        captured = self._capsys.readouterr()
        assert code == 0, captured.err
        run = Path(captured.out.strip())
        assert (run / MANIFEST).is_file()
        return run


@pytest.mark.slow
def test_one_yaml_and_one_mjcf_lead_to_a_closed_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_model: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    robot_wm = Robot(tmp_path, capsys)
    crane = "embodiment=crane"

    video = robot_wm("record", "episodes=10", "frames_per_episode=8", "size=32", "workers=1")
    model = robot_wm("pretrain", f"data=[{video}]", *tiny_model)
    log = robot_wm("record", crane, "transitions=120", "transitions_per_episode=20", "workers=1", "name=log")
    calibrated = robot_wm(
        "calibrate", crane, f"model={model}", f"data={log}", "transitions=120", "validation=0.25", "fit.batch=16",
        "fit.steps=200",
        "body.most_s=1",
        "head.steps=50",
        "reading.steps=10",
        "reading.practice=40",
        "head.futures=256",
        "fit.encoder_steps=80",
        "curve_steps=0",
    )  # fmt: skip
    exported = robot_wm("export", f"calibration={calibrated}", *TINY_PLANNER)
    flown = robot_wm("run", crane, f"bundle={exported}", "episodes=1")
    judged = robot_wm("evaluate", crane, f"bundle={exported}", "goals=2", "references=[random,hold]")
    labelled = robot_wm("label", f"data={video}", f"model={model}")

    spec = read_bundle(exported).spec
    assert spec.embodiment == "crane"
    assert spec.command.names == ("swing", "lift", "tilt")
    assert max(spec.parity.values()) < 1e-4
    assert spec.solids is not None and spec.solids.pairs, "the yaml asks for a clearance: the hook and the mast"
    safety, still = Safety(spec), np.zeros(6, np.float32)
    raised = still + np.array([0, -1.3, -0.2, 0, 0, 0], np.float32)  # 64 cm high, beyond what the joints' range allows
    picture = np.zeros((48, 48, 3), np.uint8)
    assert safety.check_observation(Observation(picture, still, 0.0), 0.0, planning=True) is None
    safety.reset()
    assert safety.check_observation(Observation(picture, raised, 0.1), 0.1, planning=True) == OUT_OF_BOUNDS
    assert not {SELF_COLLISION, OUT_OF_BOUNDS} & read_run(flown, "run").metrics["guards"].keys()
    evaluation = json.loads((judged / "evaluation.json").read_text())
    names = {controller["name"] for controller in evaluation["controllers"]}
    assert names == {"model", "head", "random", "hold"}
    assert read_run(flown, "run").outputs
    assert (labelled / "dataset" / "meta" / "info.json").is_file()

    assert cli.main(["lineage", str(judged)]) == 0
    shown = capsys.readouterr().out
    for run in (exported, calibrated, model, video, log):
        assert run.name in shown

    assert robot_wm("pretrain", f"data=[{video}]", *tiny_model) == model  # the same again finds itself


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("crane.yaml", "end_effector: tip", "end_effector: claw", ["'claw'", "tip"]),
        ("crane.yaml", "control_rate_hz: 20", "control_rate_hz: 33", ["control_rate_hz", "33"]),
        ("crane.yaml", "max_step: 0.1", "max_step: 0.1\n  colour: red", ["'colour'", "margin"]),
        ("crane.yaml", "interface: joint_position", "interface: telepathy", ["telepathy", "joint_torque"]),
        ("crane.yaml", "path: crane.xml", "path: other.xml", ["other.xml"]),
        ("crane.xml", 'joint name="lift"', 'joint nom="lift"', ["crane.xml", "does not compile"]),
        ("crane.xml", 'joint="tilt"', 'joint="tit"', ["crane.xml", "tit"]),
    ],
)
def test_mistakes_in_the_two_files_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Robot(tmp_path, capsys)
    path = tmp_path / "mine" / "embodiment" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert cli.main(["record", "embodiment=crane", "transitions=20", "workers=1", "--config-dir=mine"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert not list((tmp_path / "runs").rglob("*")) or not list((tmp_path / "runs").rglob("*-*-*"))
