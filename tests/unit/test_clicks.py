"""A pixel clicked for the object's place: the block is drawn where the click was, or the click is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.goals import GoalConfig, read_goals
from robot_wm.contracts.embodiment import Camera, Embodiment, Mjcf, Safety
from robot_wm.contracts.errors import UserError
from sims.clicks import object_place
from sims.robots import load
from tests.handmade_bundle import make_spec

MJCF = """
<mujoco><compiler angle="radian"/>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <worldbody>
    <camera name="shifted" pos="0.5 -0.9 0.9" xyaxes="1 0 0 0 0.7 0.7" resolution="128 96" sensorsize="0.0128 0.0096"
      focalpixel="120 120" principalpixel="18 -12"/>
    <geom name="table" type="box" pos="0.5 0 0.1" size="0.3 0.3 0.1" rgba="0 0 1 1"/>
    <body name="block" pos="0.5 0 0.22"><freejoint/><geom type="sphere" size="0.02" rgba="1 0 0 1"/></body>
    <body name="arm" pos="0 0 0.5"><joint name="turn" axis="0 0 1" range="-1.5 1.5" damping="1" armature="0.1"/>
      <geom type="capsule" fromto="0 0 0 0.15 0 0" size="0.02" rgba="0 1 0 1"/><site name="tip" pos="0.2 0 0"/>
      <camera name="hand" pos="0.2 0 0.1" xyaxes="0 -1 0 1 0 0.1"/></body>
  </worldbody>
  <actuator><position name="turn" joint="turn" kp="10" kv="1" ctrlrange="-1.5 1.5"/></actuator></mujoco>
"""
PLACED = Camera("front", 96, 128, position_m=(1.2, -0.5, 0.8), target_m=(0.5, 0.0, 0.2), fovy_deg=50)
SHIFTED = Camera("shifted", 96, 128)


@pytest.fixture
def body(tmp_path: Path) -> Embodiment:
    (tmp_path / "table.xml").write_text(MJCF, encoding="utf-8")
    mjcf = Mjcf(str(tmp_path / "table.xml"))
    return Embodiment("table", mjcf, "joint_position", "tip", PLACED, 20, 4, Safety(0.2), object="block")


@pytest.mark.parametrize("camera", [PLACED, SHIFTED], ids=["placed", "shifted principal point"])
def test_the_object_is_drawn_where_the_click_was(body: Embodiment, camera: Camera) -> None:
    body = replace(body, camera=camera)
    for pixel in ((60.0, 48.0), (76.5, 44.25), (52.0, 58.0)):
        (goal,) = read_goals([GoalConfig(object_px=pixel)], make_spec(), body)
        red_YX = goal.frame_YXC[..., 0] > goal.frame_YXC[..., 2]
        assert red_YX.sum() > 4, "the block is seen"
        y, x = (where.mean() for where in np.nonzero(red_YX))
        assert (x, y) == pytest.approx(pixel, abs=0.8)
        assert goal.proprio_P is None, "a click says nothing of the arm"


def test_a_click_in_a_larger_picture_means_the_same_place(body: Embodiment) -> None:
    with load(body) as simulation:
        simulation.reset(0)
        small, large = object_place(simulation, (63.5, 47.5)), object_place(simulation, (319.5, 239.5), (640, 480))
        assert large == pytest.approx(small, abs=1e-9)
        assert small[2] == pytest.approx(simulation.object()[2])
    place, click = GoalConfig(object_m=tuple(small)), GoalConfig(object_px=(63.5, 47.5))
    told, clicked = read_goals([place, click], make_spec(), body)
    assert np.array_equal(told.frame_YXC, clicked.frame_YXC), "a click is a place"


@pytest.mark.parametrize(
    ("changes", "values", "words"),
    [
        ({}, {"object_px": (128, 10)}, "outside the picture of 128 x 96 px.*x from 0 to 127"),
        ({}, {"object_px": (200, 10), "object_px_of": (100, 100)}, "outside the picture of 100 x 100"),
        ({}, {"object_px": (4, 92)}, "the object cannot stand there.*on what it stands on now"),
        ({"camera": replace(PLACED, target_m=(0.5, 0.0, 0.9))}, {"object_px": (60, 4)}, "nothing as low as the object"),
        ({"camera": Camera("hand", 96, 128)}, {"object_px": (30, 20)}, "camera hand moves with the body"),
        ({"object": None}, {"object_px": (30, 20)}, "table has no object"),
    ],
)
def test_clicks_that_mean_no_place_are_refused(
    body: Embodiment, changes: dict[str, object], values: dict[str, tuple[int, int]], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        read_goals([GoalConfig(**values)], make_spec(), replace(body, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"object_px": (1, 1), "object_m": (0.5, 0, 0.2)}, "a goal has state, one part of it twice"),
        ({"object_m": (0.5, 0, 0.2), "object_px_of": (64, 48)}, r"object_px_of \[64, 48\]"),
        ({"object_px": (1, 1), "object_px_of": (64, 0)}, r"object_px_of \[64, 0\]"),
    ],
)
def test_goals_that_contradict_themselves_are_refused(values: dict[str, tuple[float, ...]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        GoalConfig(**values)  # type: ignore[arg-type]
