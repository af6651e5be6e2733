"""Who plans: the loop itself, which then waits for it, or a thread beside it."""

import queue
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.controller import Plan, Planner
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation

_PATIENCE_S = 1.0  # for a worker to end; a thread that hangs ends with its process


@dataclass(frozen=True)
class Question:
    """What a plan is made from.

    Attributes:
        observation: the newest reading.
        reference_U: the command in force before `pending_SKU`, or now where there is none.
        pending_SKU: see Controller.step.
        fresh: the robot stood still since the plan before: forget its history.
        asked_s: when the observation was read, on this computer's clock.
        robot_s: the same on the robot's clock.
        from_rest: the robot neither moves nor is about to.
    """

    observation: Observation
    reference_U: NDArray[np.float64]
    pending_SKU: NDArray[np.float64] | None
    fresh: bool
    asked_s: float
    robot_s: float
    from_rest: bool


@dataclass(frozen=True)
class Reply:
    """A plan, the question that it answers, and the time from the one to the other on this computer's clock [s]."""

    plan: Plan
    question: Question
    latency_s: float


class PlannerError(Exception):
    """The planner raised something else than a plan."""


class Inline:
    """Plans when it is asked, while the loop waits: for simulated time, where every run must come out the same."""

    def __init__(self, controller: Planner):
        self._controller = controller
        self._question: Question | None = None

    @property
    def waited_s(self) -> float | None:
        """How long a plan has been under way on this computer's clock [s]; None when none is."""
        return None if self._question is None else time.perf_counter() - self._question.asked_s

    def ask(self, question: Question) -> None:
        """Begin a plan; none may be under way."""
        self._question = question

    def reply(self) -> Reply | None:
        """The plan that was asked for, once it is there; raises what the controller raised."""
        question, self._question = self._question, None
        return None if question is None else _plan(self._controller, question)

    def discard(self) -> None:
        """The plan under way, if any, is not wanted any more."""
        self._question = None

    def close(self) -> None:
        """No more plans."""


class Worker(Inline):
    """Plans in a thread of its own: ONNX Runtime lets others work meanwhile, and the loop keeps its rate.

    What the controller raises comes back as PlannerError, but for what the user can mend.
    """

    def __init__(self, controller: Planner):
        super().__init__(controller)
        self._questions: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[Reply | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="planner", daemon=True)
        self._wanted = False
        self._thread.start()

    def ask(self, question: Question) -> None:
        """Begin a plan; none may be under way."""
        self._question, self._wanted = question, True
        self._questions.put(question)

    def reply(self) -> Reply | None:
        """The plan that was asked for, once it is there; raises PlannerError if it failed."""
        try:
            found = self._replies.get_nowait()
        except queue.Empty:
            return None
        self._question = None
        if not self._wanted:
            return None
        if isinstance(found, UserError):
            raise found
        if isinstance(found, Exception):
            raise PlannerError(f"{type(found).__name__}: {found}") from found
        return found

    def discard(self) -> None:
        """The plan under way, if any, is not wanted any more; it stays under way until it is there."""
        self._wanted = False

    def close(self) -> None:
        """End the thread, unless it hangs."""
        self._questions.put(None)
        self._thread.join(_PATIENCE_S)

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            try:
                self._replies.put(_plan(self._controller, question))
            except Exception as error:
                self._replies.put(error)


def _plan(controller: Planner, question: Question) -> Reply:
    if question.fresh:
        controller.reset()
    controller.sent(question.reference_U)
    observation = question.observation
    more = () if question.pending_SKU is None else (question.pending_SKU,)
    plan = controller.step(observation.frame_YXC, observation.proprio_P, *more)
    return Reply(plan, question, time.perf_counter() - question.asked_s)
