"""A short soak: faults everywhere, kills, restarts; and the judge of it can tell what is wrong."""

from pathlib import Path

import numpy as np
import pytest

from deploy.bench import soak_flight
from deploy.bench.soak import Tally, endure
from deploy.drivers.monitor import Monitor


@pytest.mark.slow
def test_nothing_leaves_the_limits_and_no_acknowledged_row_is_lost(tmp_path: Path) -> None:
    tally = Tally()
    endure(tmp_path, "joint_position", 1200, (50, 600), seed=7, tally=tally)
    assert tally.commands >= 1200
    assert tally.told == []
    assert tally.logged >= tally.acknowledged > 800
    assert tally.torn == 0
    assert tally.endings["NaN in proprio"]
    assert sum(times for name, times in tally.endings.items() if "restart" in name) >= 2


@pytest.mark.parametrize(
    ("commands", "broken"),
    [
        ([0.05, 0.15, 0.25, 0.30], set()),
        ([0.05, np.nan], {"not finite"}),
        ([0.05, 0.30], {"difference 2", "difference 3"}),  # within the step of 0.4
        ([0.05, 0.20, 0.20], {"difference 3"}),
    ],
)
def test_the_monitor_knows_a_breach(commands: list[float], broken: set[str]) -> None:
    spec = soak_flight.spec("joint_position")  # 0.4 per tick, 0.15 per tick², 0.1 per tick³
    monitor = Monitor(spec.command, spec.safety)
    for tick, left in enumerate(commands):
        monitor.judge(np.array([left, 0.0]), float(tick))
    assert {breach.split(": ")[1] for breach in monitor.breaches} == broken


def test_a_pause_ends_a_motion() -> None:
    spec = soak_flight.spec("joint_position")
    monitor = Monitor(spec.command, spec.safety)
    for now_s, left in ((0, 0.05), (1, 0.15), (2, 0.25), (9, 0.30), (10, 0.40)):
        monitor.judge(np.array([left, 0.0]), float(now_s))
    assert monitor.breaches == []
