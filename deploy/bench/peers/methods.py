"""Who takes part: where each method's code is, what it needs, and about how long it takes."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from deploy.bench.peers.contest import Contest, Outcome
from deploy.bench.peers.environment import SEARCHES, STABLE_WORLDMODEL, Environment

_HERE = "deploy.bench.peers"


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        shown: its name for people.
        function: module and function, a `Contest` to an `Outcome`.
        environment: whose packages it needs; None: ours.
        calibrated: ours that it plans on: `pretrained`, `scratch`, or none at all.
        share: of the labelled transitions that it may use.
        ours: whether it is ours, and not a peer to be measured against.
        minutes: about how long all of it takes on one core in `size=full`.
    """

    shown: str
    function: tuple[str, str]
    environment: Environment | None = None
    calibrated: str = ""
    share: float = 1.0
    ours: bool = False
    minutes: float = 3.0

    def run(self, contest: Contest) -> Outcome:
        """Train and fly, in this process."""
        module, name = self.function
        found: Callable[[Contest], Outcome] = getattr(importlib.import_module(f"{_HERE}.{module}"), name)
        return found(contest)


METHODS = {
    "ours-tenth": Method(
        "ours, a tenth of the labels", ("ours", "search"), calibrated="pretrained", share=0.1, ours=True, minutes=5
    ),
    "ours": Method("ours, all labels", ("ours", "search"), calibrated="pretrained", ours=True, minutes=9),
    "head": Method("ours, command head alone", ("ours", "head"), calibrated="pretrained", ours=True),
    "search": Method("ours, search alone", ("ours", "search_alone"), calibrated="pretrained", ours=True),
    "scratch": Method("ours, from scratch", ("ours", "search"), calibrated="scratch", ours=True, minutes=11),
    "cloning": Method("behaviour cloning, goal-conditioned", ("cloning", "behaviour_cloning"), minutes=7),
    "inverse": Method("goal-conditioned inverse model, our encoder", ("cloning", "inverse_model"), minutes=5),
    "pytorch-mppi": Method(
        "pytorch-mppi 0.9.1 on our model", ("searches", "pytorch_mppi"), SEARCHES, calibrated="pretrained"
    ),
    "pytorch-icem": Method(
        "pytorch-icem 0.1.0 on our model", ("searches", "pytorch_icem"), SEARCHES, calibrated="pretrained"
    ),
    "lewm": Method("LeWM, stable-worldmodel 0.1.1", ("jepa", "lewm"), STABLE_WORLDMODEL, minutes=15),
    "pldm": Method("PLDM, stable-worldmodel 0.1.1", ("jepa", "pldm"), STABLE_WORLDMODEL, minutes=15),
    "gcbc": Method("GCBC, stable-worldmodel 0.1.1", ("goal_conditioned", "gcbc"), STABLE_WORLDMODEL, minutes=8),
    "tdmpc2": Method("TD-MPC2, stable-worldmodel 0.1.1", ("rewards", "tdmpc2"), STABLE_WORLDMODEL, minutes=8),
    "random": Method("random", ("ours", "random"), calibrated="pretrained", ours=True, minutes=1),
    "hold": Method("hold still", ("ours", "hold"), calibrated="pretrained", ours=True, minutes=1),
    "oracle": Method("oracle (sampling in the true simulator)", ("ours", "oracle"), ours=True, minutes=5),
}
TWO_ROOM = {
    "lewm": Method("LeWM, stable-worldmodel 0.1.1", ("two_room", "lewm"), STABLE_WORLDMODEL, minutes=17),
    "pldm": Method("PLDM, stable-worldmodel 0.1.1", ("two_room", "pldm"), STABLE_WORLDMODEL, minutes=17),
    "random": Method("random", ("two_room", "random"), STABLE_WORLDMODEL, ours=True, minutes=2),
}  # in its own environment, with its expert's data
ROOM = "two_room"  # the body whose methods those are
NOT_MEASURED = (
    "two_room: ours: not run: there is no MuJoCo body in it to calibrate to",
    "OGBench cube: not run: a step takes 0.2 s to draw without a GPU, an attempt 400 of them",
    "Push-T: not run: its data lie on a hub, and nothing is downloaded from there",
    "DINO-WM, V-JEPA 2-AC: not run: their encoders lie on a hub, and nothing is downloaded from there",
)
IDENTIFICATION = "sysid"  # a part of its own kind: nothing is flown


def methods_of(body: str) -> dict[str, Method]:
    """Who takes part with this body, by name."""
    return TWO_ROOM if body == ROOM else METHODS
