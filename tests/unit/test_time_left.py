"""The time that calibrate says is left is what its own steps have taken, times those still to come."""

import pytest

from calibration.time_left import Step, TimeLeft
from robot_wm.page.page import duration


class Clock:
    """Seconds that pass when somebody works."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def spend(left: TimeLeft, clock: Clock, kind: Step, steps: int, step_s: float) -> float | None:
    with left.spending(kind, steps):
        clock.now_s += steps * step_s
    return left.seconds


def test_it_is_told_by_the_steps_that_were_taken(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    left = TimeLeft(encoder=0, fit=120 + 500 + 300, head=200, clock=clock)
    assert left.seconds is None, "nothing was measured yet"
    assert spend(left, clock, "fit", 120, 0.05) == pytest.approx(800 * 0.05 + 200 * 0.05)
    assert spend(left, clock, "fit", 500, 0.1) == pytest.approx(500 * 0.1), "the machine has become slower"
    assert spend(left, clock, "head", 200, 0.02) == pytest.approx(30)
    assert spend(left, clock, "fit", 300, 0.1) == pytest.approx(0)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and said[-1] == f"calibrate: about {duration(30)} left", "at the end there is nothing to say"


def test_a_step_with_the_encoder_tells_nothing_of_one_without(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    left = TimeLeft(encoder=300, fit=500, head=0, clock=clock)
    assert spend(left, clock, "fit", 100, 0.05) is None
    assert capsys.readouterr().err == ""
    assert spend(left, clock, "encoder", 300, 1.0) == pytest.approx(400 * 0.05)
