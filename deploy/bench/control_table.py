"""The table of `bench control`: seeds put together, references and targets beside rows, and the questions asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deploy.bench import budget
from deploy.bench.control_parts import LABELS, Outcome, Part
from deploy.bench.failure_modes import shares
from deploy.bench.few_shot import times_fewer
from deploy.bench.flights import CARTESIAN, JOINTS, Found, joined
from deploy.bench.result import Row
from robot_wm.evaluation.statistics import difference, wilson

REFERENCES = ("random", "hold", "oracle")
_TARGETS = {  # of search with head and pretraining, by task and number of labels
    ("reach", 1000): 0.95, ("push", 1000): 0.9, ("push", 300): 0.85, ("push", 100): 0.6, ("pick_and_place", 3000): 0.6,
}  # fmt: skip
_FETCH_REACH, _TOLD, _JOINTS = 0.98, 0.99, -0.05
_HEAD, _TIMES_FASTER = -0.03, 20.0
_UNSEEN, _FAR = 0.85, {2: 0.9, 4: 0.8}


@dataclass(frozen=True)
class Line:
    """All seeds of one way to decide: a row of the table before it is printed."""

    body: str
    task: str
    labels: int
    pretrained: bool
    found: Found

    @property
    def where(self) -> str:
        if not self.labels:
            return f"{self.body} {self.task}"
        return f"{self.body} {self.task}, {self.labels} labels" + ", from scratch" * (not self.pretrained)

    @property
    def label(self) -> str:
        return f"{self.where}: {self.found.way}"

    @property
    def success(self) -> float:
        return sum(self.found.reached) / len(self.found.reached)

    @property
    def is_reference(self) -> bool:
        return self.found.way in REFERENCES or self.found.way.endswith("hold")


def lines_of(found: Mapping[Part, Outcome]) -> list[Line]:
    """The rows of all parts, those that differ by their seed alone as one."""
    gathered: dict[tuple[str, str, int, bool, str], list[Found]] = {}
    for part, outcome in found.items():
        for row in outcome.rows:
            gathered.setdefault((part.body, part.task, part.labels, part.pretrained, row.way), []).append(row)
    lines = []
    for (body, task, labels, pretrained, _), rows in gathered.items():
        timed = [row.ms for row in rows if row.ms is not None]
        ms = float(np.median(timed)) if timed else None
        lines.append(Line(body, task, labels, pretrained, replace(joined(rows), ms=ms)))
    return lines


def causes(line: Line, lines: Sequence[Line]) -> dict[str, float]:
    """The share of every failure mode of a row; where the oracle was not asked, the pair counts as one it reaches."""
    reached = oracle_of(line, lines)
    return shares([(each, reached.get(each.pair_seed, True)) for each in line.found.failures])


def table_of(found: Mapping[Part, Outcome], wanted: Sequence[Part]) -> list[Row]:
    """Questions with a target first, then every way to decide, then what failures come from, then sizes of the search.

    Parts that were not measured yet stand there without a value where they have a target: that does not meet it.
    """
    lines = lines_of(found)
    rows = [*_successes(lines, wanted), *_questions(lines)]
    rows += [_row(line, lines) for line in lines if line.found.way != "search" or not line.pretrained]
    for line in lines:
        for mode, share in causes(line, lines).items():
            n = len(line.found.failures)
            interval = wilson(round(share * n), n)
            rows.append(Row(f"{line.label}: failures by {mode}", share, n=n, low=interval.low, high=interval.high))
    for part, outcome in found.items():
        if outcome.tried:
            rows += budget.rows(f"{part.body} {part.task}, {part.labels} labels, validation", outcome.tried)
    return rows


def _successes(lines: Sequence[Line], wanted: Sequence[Part]) -> list[Row]:
    """Search with head, pretrained, of every body, task and number of labels that is to be measured."""
    searched = {(n.body, n.task, n.labels): n for n in lines if n.found.way == "search" and n.pretrained}
    rows = []
    for part in dict.fromkeys(replace(p, seed=0) for p in wanted if p.kind == "nominal" and p.pretrained):
        line = searched.get((part.body, part.task, part.labels))
        if line is not None:
            rows.append(_row(line, lines))
        elif (target := target_of(part.body, part.task, part.labels, "search")) is not None:
            rows.append(Row(f"{part.body} {part.task}, {part.labels} labels: search", None, target=target))
    return rows


def target_of(body: str, task: str, labels: int, way: str) -> float | None:
    """The success to reach; None: there is none for that row."""
    if (task, labels, way) == ("reach", 1000, "told"):
        return _TOLD
    if way != "search":
        return None
    return _FETCH_REACH if (body, task, labels) == (CARTESIAN, "reach", 1000) else _TARGETS.get((task, labels))


def _row(line: Line, lines: Sequence[Line]) -> Row:
    share = wilson(sum(line.found.reached), len(line.found.reached))
    oracle = _line(lines, line.body, line.task, "oracle")
    target = target_of(line.body, line.task, line.labels, line.found.way) if line.pretrained else None
    reference = None if oracle is None or line.found.way == "oracle" else oracle.success
    return Row(line.label, share.value, "1", len(line.found.reached), share.low, share.high, reference, target)


def _questions(lines: Sequence[Line]) -> list[Row]:
    rows = []
    for line in lines:
        if line.found.way == "search" and line.pretrained:
            rows += [*_head(line, lines), *_changed(line, lines), *_far(line, lines)]
    for body, task in dict.fromkeys((line.body, line.task) for line in lines if line.labels and not line.pretrained):
        mine, scratch = (
            {n.labels: n.success for n in lines if (n.body, n.task, n.found.way) == (body, task, "search")
             and n.pretrained is pretrained} for pretrained in (True, False)
        )  # fmt: skip
        label = f"{body} {task}: times fewer labels than from scratch for the same success"
        rows.append(times_fewer(label, mine, scratch, LABELS))
    joints, cartesian = (_line(lines, body, "reach", "search", 1000) for body in (JOINTS, CARTESIAN))
    if joints and cartesian:
        rows.append(_less("fetch reach: by joint positions less by the gripper's velocity", joints, cartesian, _JOINTS))
    return rows


def _head(search: Line, lines: Sequence[Line]) -> list[Row]:
    head = _line(lines, search.body, search.task, "head", search.labels)
    if head is None:
        return []
    rows = [_less(f"{search.where}: head alone less search", head, search, _HEAD)]
    if search.found.ms and head.found.ms:
        label, ratio = f"{search.where}: time of a search over the head's", search.found.ms / head.found.ms
        rows.append(Row(label, ratio, reference=round(search.found.ms, 2), target=_TIMES_FASTER))
    return rows


def _changed(search: Line, lines: Sequence[Line]) -> list[Row]:
    """Success under conditions that calibration has not seen, over that without; the reference is the latter."""
    rows = []
    for condition in ("light", "colours", "camera", "distractors"):
        line = _line(lines, search.body, search.task, condition, search.labels)
        if line is not None and search.success:
            label = f"{search.where}: {condition} unseen, share of nominal"
            rows.append(_ratio(label, line, search.success, _UNSEEN))
    return rows


def _far(search: Line, lines: Sequence[Line]) -> list[Row]:
    """Success of goals several horizons away, over that of goals one horizon away; the reference is the latter."""
    rows = []
    near = _line(lines, search.body, search.task, "1 × horizon, search", search.labels)
    for distance, target in _FAR.items():
        line = _line(lines, search.body, search.task, f"{distance} × horizon, search", search.labels)
        if line is not None and near is not None and near.success:
            label = f"{search.where}: goals {distance} × the horizon away, share of near"
            rows.append(_ratio(label, line, near.success, target))
    return rows


def _ratio(label: str, line: Line, reference: float, target: float) -> Row:
    """The interval is the row's own, taken as a share of the reference as it was measured."""
    share = wilson(sum(line.found.reached), len(line.found.reached))
    value, low, high = (each / reference for each in (share.value, share.low, share.high))
    return Row(label, value, "1", len(line.found.reached), low, high, reference, target)


def _less(label: str, a: Line, b: Line, target: float) -> Row:
    found = difference(sum(a.found.reached), len(a.found.reached), sum(b.found.reached), len(b.found.reached))
    n = len(a.found.reached)
    return Row(label, found.value, n=n, low=found.low, high=found.high, reference=b.success, target=target)


def _line(lines: Sequence[Line], body: str, task: str, way: str, labels: int | None = None) -> Line | None:
    """A pretrained row, or a reference."""
    for line in lines:
        same = (line.body, line.task, line.found.way) == (body, task, way) and line.pretrained
        if same and (labels is None or line.labels == labels):
            return line
    return None


def oracle_of(line: Line, lines: Sequence[Line]) -> dict[int, bool]:
    """Whether the oracle reached them, by the pairs' seeds; goals of their own that are far away were not asked."""
    oracle = _line(lines, line.body, line.task, "oracle")
    if oracle is None or "horizon" in line.found.way:
        return {}
    return dict(zip(oracle.found.pairs, oracle.found.reached, strict=True))
