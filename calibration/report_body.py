"""What the page says of the log's faults, the MuJoCo model and the camera."""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.body_model import FoundCamera, FoundModel, FoundParameter
from calibration.summary import Summary

_MANY = 24  # parameters shown; the rest is in identified.json
_SEEN = 1e-5  # an error below it is none [rad or m]


@dataclass(frozen=True)
class Tracking:
    """How far the simulation, driven by the log's commands alone, strays from one joint: words, and a share.

    Attributes:
        joint: its name.
        before, after: the error with the MJCF as it was and as identified, with its unit.
        share: of the error that is left, 0 to 1; None where the MJCF was as good.
    """

    joint: str
    before: str
    after: str
    share: float | None


def tracking(model: FoundModel, units: tuple[str, ...]) -> list[Tracking]:
    """Of every joint, on the part of the log that was not fitted."""
    each = zip(model.joints, units, model.before_by_joint, model.after_by_joint, strict=True)
    return [
        Tracking(joint, small(before, unit), small(after, unit), after / before if after < before else None)
        for joint, unit, before, after in each
    ]


def parameters(model: FoundModel) -> list[tuple[str, str, str, str, str]]:
    """Rows of the table: name, the MJCF's value, what was found with its interval, the bounds, and a remark."""
    return [
        (p.name, _value(p.nominal, p.unit), _found(p), f"{p.low:.3g} to {p.high:.3g}", _remark(p))
        for p in model.parameters[:_MANY]
    ]


def more_parameters(model: FoundModel) -> int:
    """How many rows `parameters` leaves out."""
    return max(0, len(model.parameters) - _MANY)


def camera_words(found: FoundCamera) -> str:
    """Where the camera is, and how surely."""
    place_mm, turn_deg = 1e3 * found.interval_m, float(np.rad2deg(found.interval_rad))
    return (
        f"From {found.views} pictures of the board: its corners are off by {found.error_px:.2f} px; the camera's place "
        f"is known to {place_mm:.1f} mm and its direction to {turn_deg:.2f} degrees (95 %)."
    )


def picture(path: Path) -> str:
    """A PNG file, for the page itself."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def body_advice(summary: Summary) -> list[str]:
    """What to do next about log, model and camera."""
    lines = []
    if summary.faults:
        lines.append("The log has faults (What is wrong with the log): mend what can be mended before recording more.")
    model = summary.model
    if model is not None:
        bounded = [p.name for p in model.parameters if p.bound and not _is_none(p)]
        silent = [p.name for p in model.parameters if not p.identifiable and not p.bound]
        if bounded:
            lines.append(
                f"{_names(bounded)} ended on a bound: widen it in the body's yaml (identifiable), or the model lacks "
                "something there."
            )
        if len(silent) > len(model.parameters) / 3:
            lines.append(
                f"The log says too little about {len(silent)} of {len(model.parameters)} parameters: play the motion "
                "that robot-wm calibrate plan plans, and identify from that log."
            )
    return lines


def _names(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def small(error: float, unit: str) -> str:
    """An error [SI] in thousandths; what no encoder could see is not spelt out."""
    return f"{1e3 * error:.3g} m{unit}" if error >= _SEEN else f"less than {1e3 * _SEEN:g} m{unit}"


def _value(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".rstrip()


def _found(p: FoundParameter) -> str:
    interval = "" if p.interval is None else f" ± {p.interval:.2g}"
    return f"{p.value:.3g}{interval} {p.unit}".rstrip()


def _is_none(p: FoundParameter) -> bool:
    """Whether the log speaks for none of something that cannot be negative: no bound could be wider."""
    return p.bound == "low" and p.low == 0


def _remark(p: FoundParameter) -> str:
    if _is_none(p):
        return "none found"
    if p.bound:
        return f"on its {p.bound} bound"
    return "" if p.identifiable else "the log says too little"
