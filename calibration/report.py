"""One page about a calibration, in the words of whoever has to decide what to do with the robot next."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from calibration.camera_placement import BEFORE, OVERLAY
from calibration.learning_curve import LearningCurve
from calibration.log_timing import LogTiming
from calibration.posterior_fit import Certainty
from calibration.prediction import Prediction
from calibration.reading_fit import Reading
from calibration.report_body import body_advice, camera_words, more_parameters, parameters, picture, small, tracking
from calibration.signals import Fault
from calibration.summary import Summary
from calibration.timing import Delay
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.page.page import write_page
from robot_wm.page.plot import COLOURS, DASHES, INK, Figure, Quantity, prediction_error, quantity_of, svg

REPORT, REFUSED = "report.html", "refused.html"
_POOR, _GOOD = 0.6, 0.3  # error over that of holding still


def write_report(
    folder: Path,
    embodiment: Embodiment,
    names: tuple[str, ...],
    found: Prediction,
    pictures: Prediction,
    summary: Summary,
) -> str:
    """Write `report.html` atomically; returns its name.

    Args:
        folder: of the run.
        embodiment: as calibrated, its delay included.
        names: of the entries of proprio that measure a position.
        found: errors on held-out episodes, as the controller predicts.
        pictures: errors of what is read from predicted latents alone, commands left out.
        summary: everything else.
    """
    hand = embodiment.interface == "end_effector_velocity"
    quantity, step_s = quantity_of(summary.position_units, hand), embodiment.step_s
    shown = quantity.shown
    ahead = zip(found.error_K, pictures.error_K, found.copy_K, strict=True)
    still = np.maximum(found.copy_by_entry, 1e-9)
    write_page(
        folder / REPORT,
        "calibration",
        "report.html",
        body=embodiment.name,
        headline=_headline(found, step_s, quantity),
        beside=f"From {summary.transitions:,} labelled transitions ({summary.transitions * step_s / 60:.1f} minutes); "
        f"{_adapters(summary, quantity)}",
        advice=_advice(found, pictures, summary, embodiment),
        summary=summary,
        steps=[(f"{step_s * (k + 1):.2g} s", *map(shown, errors)) for k, errors in enumerate(ahead)],
        told=_grouped(summary.told_by_commands),
        prediction=prediction_error(
            found.error_K, found.copy_K, step_s, quantity, pictures.error_K if summary.told_by_commands else None
        ),
        residuals=[
            (n.removesuffix("_position"), quantity_of([unit], hand).shown(float(e)), float(e / s))
            for n, unit, e, s in zip(names, summary.position_units, found.error_by_entry, still, strict=True)
        ],
        curve=_curve(summary.curve, quantity) if summary.curve is not None else None,
        timing=_timing(summary.timing, embodiment) if summary.timing is not None else None,
        certainty=_certainty(summary.certainty),
        reading=_reading(summary.reading, pictures.read_error, quantity),
        **_body(folder, summary),
    )
    return REPORT


def write_refusal(folder: Path, body: str, faults: Sequence[Fault]) -> Path:
    """Write `refused.html`, atomically: every fault of a log that is not calibrated from; returns its path."""
    return write_page(folder / REFUSED, "calibration", REFUSED, body=body, faults=faults)


def _body(folder: Path, summary: Summary) -> dict[str, Any]:
    """What the page says of the MuJoCo model and the camera."""
    model, camera = summary.model, summary.camera
    said: dict[str, Any] = {"model": model, "camera": None}
    if model is not None:
        errors = f"{small(model.error_before, 'rad')} and {small(model.error_after, 'rad')} (or mm)"
        said |= {"model_error": errors, "tracking": tracking(model, summary.position_units)}
        said |= {"parameters": parameters(model), "more": more_parameters(model)}
    if camera is not None:
        said |= {"camera": camera_words(camera), "overlays": (picture(folder / BEFORE), picture(folder / OVERLAY))}
    return said


def _headline(found: Prediction, step_s: float, quantity: Quantity) -> str:
    last = len(found.error_K) * step_s
    error, copied = (quantity.per_si * float(e[-1]) for e in (found.error_K, found.copy_K))
    unit = quantity.unit
    return (
        f"{last:.1f} s ahead the prediction of the {quantity.what} is {error:.2g} {unit} off, "
        f"of {copied:.2g} {unit} of motion"
    )


def _adapters(summary: Summary, quantity: Quantity) -> str:
    tried = ", ".join(f"{k} {quantity.per_si * e:.3g} {quantity.unit}" for k, e in summary.error_by_adapter.items())
    kept = (
        "the adapter knows the arm's kinematics and its camera"
        if summary.adapter == "kinematic"
        else "the adapter is learned"
    )
    return f"{kept} (mean held-out error{' after short fits' * (len(summary.error_by_adapter) > 1)}: {tried})."


def _grouped(names: tuple[str, ...]) -> str:
    """`shoulder_position, elbow_position, elbow_velocity` as people say it."""
    kinds = dict.fromkeys(name.rpartition("_")[2] for name in names)
    joints = {kind: [n.removesuffix(f"_{kind}") for n in names if n.endswith(f"_{kind}")] for kind in kinds}
    return " and the ".join(f"{kind} of {', '.join(joints[kind])}" for kind in kinds)


def _advice(found: Prediction, pictures: Prediction, summary: Summary, embodiment: Embodiment) -> list[str]:
    share, seen = (float(f.error_K[-1] / max(float(f.copy_K[-1]), 1e-9)) for f in (found, pictures))
    lines = []
    if seen > _POOR:
        lines.append(
            "The prediction from pictures is hardly better than standing still. Before recording more, check that "
            "pictures and commands belong together (Clocks and delays) and that the camera sees the arm."
        )
    elif share < _GOOD:
        lines.append(
            "The model predicts this robot well. Export it and try it on a few goals: robot-wm export, evaluate."
        )
    else:
        lines.append("The model predicts this robot, with room for better: see how much more data would help.")
    lines += body_advice(summary)
    if summary.curve is not None:
        lines.append(summary.curve.advice)
    worst = int(np.argmax(found.error_by_entry / np.maximum(found.copy_by_entry, 1e-9)))
    ratio = float(found.error_by_entry[worst] / max(float(found.copy_by_entry[worst]), 1e-9))
    if ratio > 1:
        lines.append(
            "Some positions are predicted worse than if they stood still (Where the error is): they hardly move in "
            "the log, or the camera does not see them. Record motions that use them."
        )
    timing = summary.timing
    if timing is not None and timing.delay_s is None:
        lines.append("The log does not tell the delay from command to picture; measure it, and give it as delay_s.")
    if embodiment.delay_s > 0.5 * embodiment.step_s:
        lines.append(
            f"Commands show after {1e3 * embodiment.delay_s:.0f} ms, a large part of a model step: the controller "
            "allows for it, but a shorter way from command to picture makes it quicker to react."
        )
    return lines


_AFTER = "below 0, since its rows hold what was measured after their command was sent"
_FIRST = "below 0, since a row's picture is newer than its joint positions"


def _timing(found: LogTiming, embodiment: Embodiment) -> list[tuple[str, str]]:
    def words(delay: Delay | None, if_negative: str) -> str:
        if delay is None:
            return "the log does not tell"
        found_ms, within_ms = 1e3 * delay.seconds, 1e3 * delay.interval_s
        early = f": {if_negative}" if found_ms < -max(within_ms, 1.0) else ""
        return f"{found_ms:.1f} ms ± {within_ms:.1f} (95 %), explains {100 * delay.explained:.0f} %{early}"

    rows = []
    if found.stream is not None:
        stream = found.stream
        rows.append(
            ("Rows", f"{stream.rate_hz:.4g} Hz, jitter {1e3 * stream.jitter_s:.1f} ms, {stream.dropped} lost; longest "
             f"gap {1e3 * stream.longest_gap_s:.0f} ms")
        )  # fmt: skip
    rows.append(("Command to motion", words(found.command_to_motion, _AFTER)))
    rows.append(("Motion to picture", words(found.motion_to_frame, _FIRST)))
    rows.append(("Taken out of the log", f"{1e3 * embodiment.delay_s:.0f} ms"))
    return rows + [("Note", note) for note in found.notes]


def _certainty(found: Certainty) -> str:
    times, below, pairs = found.least_sure / max(found.surest, 1e-9), 100 * found.coverage, 100 * found.tells
    return (
        f"On {found.windows:,} predictions of episodes that the fit did not see: of the errors that were to stay below "
        f"their bound in nine cases of ten, {below:.0f} % did. Where the model was least sure, errors were {times:.1f} "
        f"times those where it was surest; in {pairs:.0f} % of pairs it was less sure of one of its worst predictions "
        "than of another (50 % would be chance). It is unsure where commands and pictures lead away from those of the "
        "log."
    )


def _reading(found: Reading | None, error: float, quantity: Quantity) -> str:
    """What a picture says of where the body is, which is all that a goal picture says."""
    what = f"the {quantity.what} read from them: {quantity.shown(error)} off."
    known = f"On pictures of episodes that the fit did not see, {what}"
    if found is None:
        return f"{known} reading.steps=200 teaches the encoder this body."
    seen = f"the log and {found.practice:,} practice pictures" if found.practice else "the log alone"
    told = f"before {quantity.shown(found.before)}, after {quantity.shown(found.after)}"
    kept = "" if found.kept else " It was dropped: the encoder is as pretraining left it."
    return f"{known} An encoder was taught this body from {seen} ({told}, each read by a head of its own).{kept}"


def _curve(curve: LearningCurve, quantity: Quantity) -> Figure:
    num, error = np.array(curve.transitions), quantity.per_si * np.array(curve.error)
    ahead = np.array([f.transitions for f in curve.forecasts])
    expected, low, high = (
        quantity.per_si * np.array([getattr(f, key) for f in curve.forecasts]) for key in ("error", "low", "high")
    )

    def draw(axes: Axes) -> None:
        axes.plot(num, error, color=COLOURS["model"], marker="o", ms=5)
        axes.plot(
            [num[-1], *ahead], [error[-1], *expected], color=COLOURS["model"], linestyle=DASHES["random"], marker="o",
            ms=5, markerfacecolor="none",
        )  # fmt: skip
        axes.vlines(ahead, low, high, color=INK, linewidth=1.2)
        axes.set(xlabel="labelled transitions", ylabel=f"error of the {quantity.what} [{quantity.unit}]", xscale="log")
        axes.set_xticks([*num, *ahead], [f"{n:,}" for n in (*num, *ahead)])
        axes.minorticks_off()
        axes.set_ylim(0, 1.1 * max(*error, *high))

    forecast = curve.forecasts[0]
    return Figure(
        svg("curve", draw, height=2.8),
        f"Line plot: with {num[-1]:,} transitions the error is {error[-1]:.2g} {quantity.unit}; with {ahead[0]:,} it "
        f"would be {quantity.per_si * forecast.error:.2g}, between {low[0]:.2g} and {high[0]:.2g}.",
        "Error on held-out episodes by the number of transitions: measured (filled), and to be expected (open, with "
        "95 % interval).",
    )
