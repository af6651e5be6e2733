"""Bodies and command spaces that make no sense are refused where they are built."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robot_wm.contracts.config import from_mapping, to_mapping
from robot_wm.contracts.embodiment import Camera, CommandSpace, Embodiment, Mjcf, Safety
from robot_wm.contracts.errors import UserError

BODY = Embodiment("arm", Mjcf("arm.xml"), "joint_position", "tip", Camera("front"), 20.0, 4, Safety(0.1))
SPACE = CommandSpace("joint_velocity", ("a", "b"), "rad/s", (-1.0, -2.0), (1.0, 4.0), (0.5, 0.5), 4, 20.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"control_rate_hz": 0}, "control_rate_hz is 0.0. It must be positive"),
        ({"control_rate_hz": float("nan")}, "embodiment.control_rate_hz is nan"),
        ({"frame_skip": -1}, "frame_skip is -1"),
        ({"interface": "telepathy"}, "embodiment.interface is 'telepathy'. Choose one of: joint_position"),
        ({"interface": "end_effector_velocity"}, "max_speed_m_s is 0.0. Give the top speed"),
        ({"mjcf": "arm.xml"}, "embodiment.mjcf is 'arm.xml'. Give a mapping with the keys of Mjcf"),
        ({"mjcf": {}}, "embodiment.mjcf: 'path' is missing"),
        ({"safety": {}}, "embodiment.safety: 'max_step' is missing"),
        ({"safety": {"max_step": 0}}, "safety: max_step is 0.0. It must be positive"),
        ({"safety": {"max_step": float("inf")}}, "embodiment.safety.max_step is inf"),
        ({"safety": {"max_step": 1, "margin": 0.5}}, "safety: margin is 0.5. It must be in [0, 0.5)"),
        ({"safety": {"max_step": 1, "max_frame_age_s": 0}}, "safety: max_frame_age_s is 0.0"),
        ({"safety": {"max_step": 1, "max_overruns": -1}}, "safety: max_overruns is -1"),
        ({"safety": {"max_step": 1, "max_jerk": 0}}, "safety: max_jerk is 0.0. It must be positive, or left out"),
        ({"safety": {"max_step": 1, "bounds": {"x": [1, 0]}}}, "safety: bounds.x is [1.0, 0.0]. Give [low, high]"),
        ({"safety": {"max_step": 1, "answers": {"fire": "hold"}}}, "answers.fire is hold. Guards are: stale_frame"),
        ({"safety": {"max_step": 1, "answers": {"overrun": "panic"}}}, "is 'panic'. Choose one of: hold, slow_stop"),
        ({"camera": {"name": "top", "height": 0}}, "camera top: 96 x 0 px"),
        ({"camera": {"name": "top", "fovy_deg": 180}}, "fovy_deg 180.0. Give a positive height"),
        ({"camera": {"name": "top", "position_m": [1, 2]}}, "embodiment.camera.position_m has 2 values. Give 3"),
        ({"identifiable": {"damping": [2, 1]}}, "identifiable.damping is [2.0, 1.0]. Give [low, high]"),
        ({"identifiable": {"damping": [1]}}, "embodiment.identifiable.damping has 1 values. Give 2"),
        ({"home": [True]}, "embodiment.home[0] is True (bool)"),
        ({"delay_s": -0.1}, "delay_s is -0.1. Give the seconds from a command to the frame"),
        ({"delay_s": 80}, "delay_s is 80.0"),
        ({"colour": "red"}, "embodiment: unknown key 'colour'. Valid keys: name, mjcf"),
    ],
)
def test_body_that_makes_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        from_mapping(Embodiment, to_mapping(BODY) | changes, "embodiment")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": (), "low": (), "high": (), "max_step": ()}, "lists of [0] entries"),
        ({"low": (-1.0,)}, "lists of [1, 2] entries. Give one entry per command"),
        ({"low": (-1.0, 4.0)}, "Every low must be below its high"),
        ({"low": (-1.0, float("nan"))}, "Every low must be below its high"),
        ({"max_step": (0.5, 0.0)}, "command max_step is (0.5, 0.0). Every step must be positive"),
        ({"control_rate_hz": 0.0}, "control_rate_hz is 0.0, frame_skip 4. Both must be positive"),
        ({"frame_skip": 0}, "control_rate_hz is 20.0, frame_skip 0"),
    ],
)
def test_command_space_that_makes_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        replace(SPACE, **changes)
    assert words in str(caught.value)


def test_model_step_and_what_holds_still() -> None:
    assert BODY.step_s == pytest.approx(0.2)
    away = np.array([9.0, -9.0])
    assert SPACE.hold(away).tolist() == [0, 0]
    assert replace(SPACE, interface="joint_position").hold(away).tolist() == [1, -2], "the last target, within limits"
    assert replace(SPACE, low=(0.5, -2.0)).hold(away).tolist() == [0.5, 0], "zero is outside these limits"


def test_a_measured_delay_makes_no_other_body() -> None:
    assert BODY.digest() == "0f3c0329c67b0172e37ffed7f6434950e391885712302426b7f10e7573186255"
    assert replace(BODY, delay_s=0.04).digest() == BODY.digest()


def test_limit_that_came_later_changes_a_body_only_where_it_is_asked_for() -> None:
    first = {"max_step": 0.1, "margin": 0.0, "max_frame_age_s": 0.5, "max_overruns": 3}
    values = to_mapping(BODY) | {"safety": first}
    assert from_mapping(Embodiment, values, "embodiment").digest() == BODY.digest()
    assert replace(BODY, safety=replace(BODY.safety, max_surprise=2.4)).digest() == BODY.digest(), "written unasked"
    assert replace(BODY, safety=replace(BODY.safety, max_surprise=1.7)).digest() != BODY.digest()
    assert replace(BODY, safety=replace(BODY.safety, max_jerk=1.0)).digest() != BODY.digest()
    assert replace(BODY, safety=replace(BODY.safety, margin=0.1)).digest() != BODY.digest()


def test_plans_beyond_the_limits_become_commands_within() -> None:
    wild_KU = np.array([[9.0, -9.0], [0.0, 0.0]])
    assert SPACE.denormalize(wild_KU, np.zeros(2)).tolist() == [[1, -2], [0, 1]]
    position = replace(SPACE, interface="joint_position")
    assert position.denormalize(np.ones((3, 2)), np.zeros(2)).tolist() == [[0.5, 0.5], [1, 1], [1, 1.5]]
