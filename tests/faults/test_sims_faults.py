"""What a mistaken body, camera or machine gets: one line that names it and says what to do."""

import os
import subprocess
import sys
import textwrap

import pytest

from robot_wm.contracts.errors import UserError
from sims import robots
from sims.stages.record import RecordConfig, record
from sims.tasks import ReachTask
from sims.twin import Twin
from tests.small_bodies import REPOSITORY, fetch, planar_arm


def refused(embodiment):
    with pytest.raises(UserError) as caught:
        robots.load(embodiment).frame()
    message = str(caught.value)
    assert "\n" not in message
    return message


def edited(folder, old, new):
    """The planar arm, its MJCF changed by hand."""
    embodiment = planar_arm(folder)
    path = folder / "joint_position.xml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return embodiment


def test_mjcf_that_is_not_there(tmp_path):
    assert "nowhere.xml does not exist" in refused(planar_arm(tmp_path, mjcf={"path": "nowhere.xml"}))


def test_package_that_is_not_installed(tmp_path):
    message = refused(planar_arm(tmp_path, mjcf={"package": "no_such_robots", "path": "a.xml"}))
    assert "pip install no-such-robots" in message


def test_mjcf_that_does_not_compile(tmp_path):
    message = refused(edited(tmp_path, 'size="0.04"', 'size="-1"'))
    assert "joint_position.xml does not compile" in message
    assert "size" in message


def test_mjcf_that_is_not_xml(tmp_path):
    assert "does not compile" in refused(edited(tmp_path, "<worldbody>", "<worldbody"))


def test_actuator_that_is_not_there(tmp_path):
    message = refused(planar_arm(tmp_path, actuators=["wrist"]))
    assert "'wrist' is not in the MJCF" in message
    assert "shoulder, elbow" in message


def test_joint_that_is_not_there(tmp_path):
    message = refused(edited(tmp_path, 'joint="elbow"', 'joint="wrist"'))
    assert "wrist" in message


def test_end_effector_that_is_not_there(tmp_path):
    message = refused(planar_arm(tmp_path, end_effector="finger"))
    assert "'finger' is neither a site nor a body" in message
    assert "Sites: tip; bodies: upper, lower" in message


def test_camera_that_is_not_there(tmp_path):
    message = refused(planar_arm(tmp_path, camera={"name": "wrist"}))
    assert "camera 'wrist' is not in the MJCF" in message
    assert "Cameras there: above" in message


@pytest.mark.parametrize("target", [None, [0, 0, 2], [0, 0, 0]])
def test_camera_that_looks_nowhere(tmp_path, target):
    message = refused(planar_arm(tmp_path, camera={"name": "top", "position_m": [0, 0, 2], "target_m": target}))
    assert "camera 'top'" in message


def test_actuator_without_ctrlrange(tmp_path):
    message = refused(edited(tmp_path, 'joint="elbow" kp="60" kv="6" ctrlrange="-2 2"', 'joint="elbow" kp="60"'))
    assert "actuator 'elbow' has no ctrlrange" in message
    assert "inheritrange" in message


def test_interface_that_is_not_what_the_actuators_take(tmp_path):
    body = planar_arm(tmp_path, "joint_torque")
    message = refused(planar_arm(tmp_path, "joint_position", mjcf={"path": body.mjcf.path}))
    assert "actuator 'shoulder' takes a joint torque" in message


def test_mjcf_without_actuators(tmp_path):
    embodiment = planar_arm(tmp_path)
    path = tmp_path / "joint_position.xml"
    path.write_text(path.read_text(encoding="utf-8").split("<actuator>")[0] + "</mujoco>", encoding="utf-8")
    assert "has no actuators" in refused(embodiment)


def test_home_of_the_wrong_length(tmp_path):
    assert "shoulder, elbow" in refused(planar_arm(tmp_path, home=[0.1]))


def test_control_rate_that_does_not_divide(tmp_path):
    assert "control_rate_hz 70" in refused(planar_arm(tmp_path, control_rate_hz=70))


def test_environment_that_is_not_supported(tmp_path):
    assert "FetchReach-v4" in refused(planar_arm(tmp_path, environment="CartPole-v1"))


def test_fetch_at_a_rate_that_it_does_not_run_at():
    values = {**vars(fetch()), "control_rate_hz": 50.0}
    with pytest.raises(UserError, match="25 Hz"):
        robots.load(type(fetch())(**values))


def test_body_that_becomes_unstable_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves its MUJOCO_LOG.TXT in the current folder
    body = edited(tmp_path, 'kp="60" kv="6"', 'kp="6e9"')

    def shake(arm):
        for _ in range(50):
            arm.step(1 - arm.reference())

    with robots.load(body) as arm, pytest.raises(UserError, match="planar became unstable"):
        shake(arm)


def test_body_too_slow_to_reach_anything(tmp_path):
    with (
        robots.load(planar_arm(tmp_path, safety={"max_step": 1e-4})) as arm,
        pytest.raises(UserError, match="finds only 0 of 1 goals"),
    ):
        ReachTask(arm).pairs(1, seed=0)


def test_severity_out_of_range(tmp_path):
    with robots.load(planar_arm(tmp_path)) as arm, pytest.raises(UserError, match="severity is 2"):
        Twin(arm, severity=2)


@pytest.mark.parametrize("field", ["episodes", "size", "step_s", "transitions"])
def test_counts_that_are_not_positive(tmp_path, field):
    with pytest.raises(UserError, match=f"{field} is 0"):
        record(RecordConfig(out=str(tmp_path), **{field: 0}))
    assert not list(tmp_path.iterdir())


def test_bad_body_leaves_no_run_behind(tmp_path):
    body = planar_arm(tmp_path, end_effector="finger")
    with pytest.raises(UserError, match="finger"):
        record(RecordConfig(out=str(tmp_path / "runs"), embodiment=body))
    assert not (tmp_path / "runs").exists()


def in_a_process(script, **environment):
    """What a script prints in an interpreter of its own."""
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_machine_on_which_nothing_renders():
    printed = in_a_process(
        """
        import os, subprocess
        os.environ.pop("MUJOCO_GL", None)
        def fail(*arguments, **options):
            raise OSError("no process")
        subprocess.run = fail  # so every probe fails
        from sims import gl
        from robot_wm.contracts.errors import UserError
        try:
            gl.choose_backend()
        except UserError as error:
            print(error)
        """
    )
    assert "neither EGL nor OSMesa" in printed
    assert "apt-get install" in printed


def test_mujoco_imported_before_us_renders_all_the_same(tmp_path):
    printed = in_a_process(
        f"""
        import os
        os.environ.pop("MUJOCO_GL", None)
        import mujoco
        from pathlib import Path
        from sims import robots
        from tests.small_bodies import planar_arm
        print(robots.load(planar_arm(Path({str(tmp_path)!r}))).frame().shape)
        """
    )
    assert "(32, 48, 3)" in printed


def test_backend_that_cannot_render_is_named(tmp_path):
    printed = in_a_process(
        f"""
        from pathlib import Path
        from robot_wm.contracts.errors import UserError
        from sims import robots
        from tests.small_bodies import planar_arm
        arm = robots.load(planar_arm(Path({str(tmp_path)!r})))
        arm.step(arm.reference())  # physics needs no backend
        try:
            arm.frame()
        except UserError as error:
            print(error)
        """,
        MUJOCO_GL="disable",
    )
    assert "MUJOCO_GL=disable cannot render" in printed


def test_backend_that_there_is_not_is_named():
    printed = in_a_process(
        """
        from robot_wm.contracts.errors import UserError
        try:
            import sims
        except UserError as error:
            print(error)
        """,
        MUJOCO_GL="bogus",
    )
    assert "MUJOCO_GL is 'bogus'" in printed and "osmesa" in printed


def test_recording_without_a_backend_leaves_no_run_behind(tmp_path):
    printed = in_a_process(
        f"""
        from robot_wm.contracts.errors import UserError
        from sims.stages.record import RecordConfig, record
        try:
            record(RecordConfig(out={str(tmp_path / "runs")!r}))
        except UserError as error:
            print(error)
        """,
        MUJOCO_GL="disable",
    )
    assert "cannot render" in printed
    assert not (tmp_path / "runs").exists()
