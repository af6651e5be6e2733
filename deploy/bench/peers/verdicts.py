"""From outcomes to rows: what was measured of every method, and what ours has to reach beside the best peer."""

from collections.abc import Mapping

from deploy.bench.peers.contest import Outcome
from deploy.bench.peers.methods import IDENTIFICATION, METHODS, ROOM, methods_of
from deploy.bench.result import Row
from robot_wm.contracts.errors import UserError

_POINTS, _TIMES_FASTER = 5.0, 8.0  # what ours should be ahead by
Entry = tuple[str, str]  # body and method


def rows_of(found: Mapping[Entry, Outcome], reasons: Mapping[Entry, str], judged: bool = True) -> list[Row]:
    """Verdicts first, then the methods in their order, those that were not measured with the reason.

    Args:
        found: what was measured.
        reasons: why something was not.
        judged: false where it is too little for verdicts.

    Raises:
        UserError: outcomes of different pairs, which cannot be compared.
    """
    bodies = list(dict.fromkeys(body for body, name in [*found, *reasons] if name != IDENTIFICATION))
    rows: list[Row] = []
    for body in bodies:
        flown = {name: outcome for (of, name), outcome in found.items() if of == body and name in methods_of(body)}
        refuse_other_pairs(body, flown)
        rows += _verdicts(body, flown) if judged and body != ROOM else []
        oracle = flown["oracle"].success[0] if "oracle" in flown else None
        for name, method in methods_of(body).items():
            where = f"{body}: {method.shown}"
            if name in flown:
                rows += _measured(where, flown[name], oracle)
            elif (body, name) in reasons:
                rows.append(Row(f"{where}: {reasons[body, name]}", None))
    for (_, name), outcome in found.items():
        if name == IDENTIFICATION:
            rows += [Row(label, value, unit) for label, (value, unit) in outcome.numbers.items()]
    rows += [Row(f"{b}: {n}: {reason}", None) for (b, n), reason in reasons.items() if n == IDENTIFICATION]
    return rows


def refuse_other_pairs(body: str, flown: Mapping[str, Outcome]) -> None:
    """Raise UserError unless all methods had the same starts and goals."""
    by_digest = {outcome.pairs: name for name, outcome in flown.items()}
    if len(by_digest) > 1:
        raise UserError(
            f"{body}: {' and '.join(by_digest.values())} were measured on different pairs",
            "Remove the folder of this benchmark and measure anew",
        )


def _measured(where: str, outcome: Outcome, oracle: float | None) -> list[Row]:
    value, low, high = outcome.success
    remark = f" ({outcome.remark})" if outcome.remark else ""
    rows = [Row(f"{where}{remark}: success", value, n=outcome.trials, low=low, high=high, reference=oracle)]
    for label, number, unit in (
        ("labels", outcome.labels, "1"),
        ("training", outcome.train_s, "s"),
        ("training", outcome.samples_per_s, "samples/s"),
        ("one plan", outcome.plan_ms, "ms"),
        ("memory", outcome.memory_mib, "MiB"),
        ("parameters", outcome.parameters, "1"),
    ):
        if number:
            shown = "training speed" if unit == "samples/s" else label
            rows.append(Row(f"{where}: {shown}", float(number), unit))
    return rows + [Row(f"{where}: {label}", number, unit) for label, (number, unit) in outcome.numbers.items()]


def _verdicts(body: str, flown: Mapping[str, Outcome]) -> list[Row]:
    """Points ahead of the best peer, and how many times faster ours plans than the peers that search."""
    peers = {name: outcome for name, outcome in flown.items() if not METHODS[name].ours}
    rows = []
    best = max(peers, key=lambda name: peers[name].successes, default=None)
    for name, target in (("ours-tenth", _POINTS), ("ours", 0.0)):
        label = f"{body}: {METHODS[name].shown}, ahead of the best peer"
        if best is None or name not in flown:
            rows.append(Row(label, None, "points", target=target))
            continue
        ahead = 100 * (flown[name].success[0] - peers[best].success[0])
        label += f" ({METHODS[best].shown})"
        rows.append(Row(label, ahead, "points", n=flown[name].trials, target=target))
    mine = flown.get("ours")
    for name in ("lewm", "pldm"):
        theirs = peers[name].plan_ms if name in peers else None
        times = theirs / mine.plan_ms if theirs and mine and mine.plan_ms else None
        rows.append(Row(f"{body}: one plan, times faster than {METHODS[name].shown}", times, target=_TIMES_FASTER))
    return rows
