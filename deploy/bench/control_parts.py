"""Of which parts `bench control` consists, and in which order they are measured: what says most comes first."""

from dataclasses import dataclass
from typing import Literal

from deploy.bench.budget import Tried
from deploy.bench.flights import CARTESIAN, JOINTS, Found

LABELS, ENOUGH, QUICK_LABELS = (100, 300, 1000, 3000), 1000, 300
REACH = (CARTESIAN, "so101", "panda", "heron", "ibis")  # the last two are in no config and were never seen
OBJECTS = (("fetch_push", "push"), ("fetch_pick_and_place", "pick_and_place"), ("so101", "push"))
_SEEDS = 3
_SHIFTED = (CARTESIAN, "heron")  # bodies of the rows about what calibration has not seen, far goals, and the budget
Kind = Literal["references", "nominal", "unseen", "far", "budget"]
_FLIGHT_MINUTES = {"nominal": 4.0, "unseen": 8.0, "far": 14.0, "budget": 40.0}
_ORACLE_MINUTES = {"reach": 3.0, "push": 12.0, "pick_and_place": 20.0}


@dataclass(frozen=True)
class Part:
    """What one process measures.

    Attributes:
        body, task: who does what.
        kind: references without pictures; the ways to decide; conditions that calibration has not seen; far goals;
            sizes of the search.
        labels: labelled transitions of the calibration; 0 for references.
        pretrained: false: from random weights.
        seed: of log, calibration and goals.
    """

    body: str
    task: str
    kind: Kind
    labels: int = 0
    pretrained: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        form = "pretrained" if self.pretrained else "scratch"
        words = (self.body, self.task, self.kind, *((str(self.labels), form) if self.labels else ()))
        return "-".join((*words, f"seed-{self.seed}"))

    @property
    def minutes(self) -> float:
        """About how long it takes on one core, its share of recording and calibration included."""
        if self.kind == "references":
            return _ORACLE_MINUTES[self.task]
        calibration = 3.5 + 2.5 * (not self.pretrained) + 0.002 * self.labels
        return _FLIGHT_MINUTES[self.kind] + calibration * (self.kind == "nominal")


def parts(size: str, seed: int) -> list[Part]:
    """What is measured, in order: every row of the table once, then the curves over labels, then the other seeds."""
    if size == "quick":
        kinds: tuple[Kind, ...] = ("nominal", "references", "unseen", "budget")
        return [Part(CARTESIAN, "reach", k, 0 if k == "references" else QUICK_LABELS, seed=seed) for k in kinds]
    return [part for number in range(_SEEDS) for part in _of_seed(seed + number, studies=number == 0)]


def _of_seed(seed: int, studies: bool) -> list[Part]:
    def labelled(body: str, task: str, kind: Kind, labels: int = ENOUGH, pretrained: bool = True) -> Part:
        return Part(body, task, kind, labels, pretrained, seed)

    def row(body: str, task: str) -> list[Part]:
        return [Part(body, task, "references", seed=seed), labelled(body, task, "nominal")]

    reach = [(body, "reach") for body in REACH]
    found = [part for body, task in (*reach, (JOINTS, "reach")) for part in row(body, task)]
    found += [labelled(body, "reach", "unseen") for body in _SHIFTED]
    found += [labelled(body, "reach", "far") for body in _SHIFTED]
    found += [part for body, task in OBJECTS for part in row(body, task)]
    found += [labelled(body, "reach", "nominal", pretrained=False) for body in REACH]
    found.append(labelled("fetch_pick_and_place", "pick_and_place", "nominal", 3000))
    if studies:
        found += [labelled(body, "reach", "budget") for body in _SHIFTED]
    for labels in LABELS:
        for pretrained in (True, False):
            found += [labelled(body, task, "nominal", labels, pretrained) for body, task in (*reach, *OBJECTS)]
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Outcome:
    """What one part gave."""

    part: Part
    rows: tuple[Found, ...]
    tried: tuple[Tried, ...]
    wall_s: float
    revision: str | None
