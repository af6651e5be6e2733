"""Commands by tick: what a plan is told to be under way is what was sent, and it begins behind that."""

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from deploy.runtime import safety as guards
from deploy.runtime.controller import Plan
from deploy.runtime.flight import Tick
from deploy.runtime.loop import LoopResult, run_loop
from deploy.runtime.safety import Safety
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from tests.handmade_bundle import colour, make_spec

PERIOD_S, SKIP = 0.05, 4
TIMEOUT_S = 10.0
BLACK = colour(0, 0, 0)


class Asked:
    """One question: the tick of its frame, and what was said to be under way."""

    def __init__(self, tick: int, reference_U: np.ndarray, pending_SKU: np.ndarray | None):
        self.tick, self.reference_U, self.pending_SKU = tick, reference_U, pending_SKU


class Counting:
    """A controller whose nth plan is n hundredths and its row thousandths, so that commands tell where they are from.

    Proprio carries the tick of the frame. `before` runs within each step.
    """

    def __init__(self, spec: ControllerSpec, before: Callable[[int], None] = lambda tick: None):
        self.spec, self.before = spec, before
        self.asked: list[Asked] = []
        self.resets = 0
        self.reference_U = np.zeros(2)

    def reset(self, reference_U: np.ndarray | None = None, seed: int | None = None) -> None:
        self.resets += 1

    def sent(self, command_U: np.ndarray) -> None:
        self.reference_U = np.array(command_U)

    def step(self, frame: np.ndarray, proprio_P: np.ndarray, pending_SKU: np.ndarray | None = None) -> Plan:
        tick = int(proprio_P[0])
        self.before(tick)
        self.asked.append(Asked(tick, self.reference_U.copy(), pending_SKU))
        rows = len(self.asked) / 100 + np.arange(3 * SKIP) / 1000
        rows_LU = np.stack([rows, rows], axis=1)
        return Plan(rows_LU[:SKIP], 0.0, 0.0, 0.0, 0.0, np.zeros(0, np.float32), rows_LU[SKIP:])


class Ticking:
    """Simulated time; proprio tells the tick."""

    def __init__(self, before_read: Callable[[int], None] = lambda tick: None):
        self.sent: list[np.ndarray] = []
        self.before_read = before_read

    def read(self) -> Observation:
        self.before_read(len(self.sent))
        return Observation(BLACK, np.full(4, len(self.sent), np.float32), self.now())

    def write(self, command_U: np.ndarray) -> np.ndarray:
        self.sent.append(command_U.copy())
        return command_U

    def now(self) -> float:
        return len(self.sent) * PERIOD_S


def fly(controller: Counting, robot: Ticking, num_ticks: int, **more: object) -> tuple[LoopResult, list[Tick]]:
    ticks: list[Tick] = []
    result = run_loop(controller, robot, num_ticks, Safety(controller.spec), on_step=ticks.append, **more)  # type: ignore[arg-type]
    return result, ticks


def origins(sent: list[np.ndarray]) -> list[tuple[int, int]]:
    """Which plan and which of its rows each command is."""
    return [divmod(round(command_U[0] * 1000), 10) for command_U in sent]


@pytest.mark.parametrize("interface", ["joint_velocity", "joint_position"])
@pytest.mark.parametrize(("ahead", "delay"), [(1, 0), (1, 1), (1, 3), (1, 4), (2, 3), (2, 5)])
def test_what_a_plan_is_told_is_what_was_sent(interface: str, ahead: int, delay: int) -> None:
    controller, robot = Counting(make_spec(interface, ahead=ahead, delay_s=delay * PERIOD_S)), Ticking()
    fly(controller, robot, 40)
    start_U = np.zeros(2)
    sent = [start_U] * 100 + robot.sent
    lead = ahead * SKIP - delay
    for number, asked in enumerate(controller.asked[:-3]):
        first = 100 + asked.tick - delay
        assert asked.pending_SKU is not None
        pending = asked.pending_SKU.reshape(-1, 2)
        assert np.array_equal(asked.reference_U, sent[first - 1])
        if number:  # the first plan, from rest, begins at once
            assert np.array_equal(pending, sent[first : first + ahead * SKIP])
            assert sent[100 + asked.tick + lead][0] == pytest.approx((number + 1) / 100)
    assert [origin for origin in origins(robot.sent) if origin[0] == 2] == [(2, row) for row in range(SKIP)]


def test_without_a_look_ahead_a_plan_begins_with_its_frame() -> None:
    controller, robot = Counting(make_spec()), Ticking()
    fly(controller, robot, 8)
    assert origins(robot.sent) == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert all(asked.pending_SKU is None for asked in controller.asked)


def test_delay_that_is_longer_than_the_look_ahead_is_refused() -> None:
    with pytest.raises(UserError, match=r"delay_s is 0.25, and the controller looks 0.2 s ahead. Export it"):
        fly(Counting(make_spec(ahead=1)), Ticking(), 8, delay_s=0.25)


class Held:
    """Keeps a plan back until the loop has come to a given tick, and lets the loop see it at once after that."""

    def __init__(self, until: dict[int, int]):
        self.until, self.go, self.done = until, {tick: threading.Event() for tick in until}, threading.Event()

    def in_step(self, tick: int) -> None:
        if tick in self.until:
            assert self.go[tick].wait(TIMEOUT_S)

    def in_read(self, controller: Counting) -> Callable[[int], None]:
        def before_read(now: int) -> None:
            for tick, until in self.until.items():
                if now == until:
                    before = len(controller.asked)
                    self.go[tick].set()
                    deadline = threading.Event()
                    for _ in range(int(TIMEOUT_S / 0.005)):
                        if len(controller.asked) > before:
                            break
                        deadline.wait(0.005)
                    deadline.wait(0.05)  # from the step's end to the reply

        return before_read


def test_a_late_plan_finds_the_robot_on_the_rest_of_the_one_before() -> None:
    """Planning from tick 0 takes until tick 2; the next one is asked for at tick 4 and comes at tick 9, not at 6."""
    held = Held({0: 2, 4: 9})
    controller = Counting(make_spec(ahead=1, delay_s=2 * PERIOD_S), held.in_step)
    robot = Ticking(held.in_read(controller))
    result, _ = fly(controller, robot, 11, in_worker=True)
    assert origins(robot.sent)[2:6] == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert [round(1000 * command_U[0]) for command_U in robot.sent[6:9]] == [14, 15, 16], (
        "what it had in mind for later"
    )
    assert origins(robot.sent)[9:] == [(2, 3), (2, 4)], "the rows before are over"
    assert result.buffered_ticks == 4
    assert not result.interventions.get(guards.OVERRUN)


def test_when_the_rest_is_over_as_well_the_robot_brakes_and_starts_anew() -> None:
    held = Held({0: 1, 3: 18})
    controller = Counting(make_spec(ahead=1, delay_s=2 * PERIOD_S), held.in_step)
    robot = Ticking(held.in_read(controller))
    result, ticks = fly(controller, robot, 22, in_worker=True)
    assert [tick.index for tick in ticks if tick.held == guards.OVERRUN] == [13], "12 rows from tick 1"
    assert all(not tick.sent_U.any() for tick in ticks[13:18])
    assert len(controller.asked) >= 2
    assert controller.resets >= 2, "history is forgotten"
    assert result.ended_by is None


def test_a_planner_that_raises_ends_the_flight_and_says_why() -> None:
    def fail(tick: int) -> None:
        if tick >= 4:
            raise ZeroDivisionError("no plan")

    controller = Counting(make_spec(), fail)
    robot = Ticking(lambda now: threading.Event().wait(0.02))
    result, _ = fly(controller, robot, 200, in_worker=True)
    assert result.ended_by == guards.PLANNER_ERROR
    assert result.error == "ZeroDivisionError: no plan"
    assert not robot.sent[-1].any()
    with pytest.raises(ZeroDivisionError):
        fly(Counting(make_spec(), fail), Ticking(), 20)


def test_a_planner_that_hangs_ends_the_flight() -> None:
    go = threading.Event()
    spec = make_spec()
    spec = replace(spec, safety=replace(spec.safety, max_stall_s=0.05))
    controller = Counting(spec, lambda tick: go.wait(TIMEOUT_S) if tick >= 1 else None)  # type: ignore[arg-type]
    robot = Ticking(lambda now: threading.Event().wait(0.01))
    try:
        result, _ = fly(controller, robot, 500, in_worker=True)
    finally:
        go.set()
    assert result.ended_by == guards.PLANNER_STALL
    assert not robot.sent[-1].any()


def test_a_wrong_frame_is_the_users_to_mend_also_in_a_worker() -> None:
    def refuse(tick: int) -> None:
        raise UserError("frame is wrong", "Give another")

    with pytest.raises(UserError, match="frame is wrong"):
        fly(Counting(make_spec(), refuse), Ticking(lambda now: threading.Event().wait(0.01)), 100, in_worker=True)
