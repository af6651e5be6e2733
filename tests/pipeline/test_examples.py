"""What examples/ shows to a user works."""

from pathlib import Path

import numpy as np

from deploy import compose
from robot_wm.contracts import config
from robot_wm.contracts.embodiment import Embodiment
from sims.robots import load


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
