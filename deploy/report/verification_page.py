"""A page about one verification: how often it fails, how little it takes, and the worst of it to watch."""

from pathlib import Path

from deploy.report.media import clip
from deploy.verification.results import Breaking, Tried, Verification
from robot_wm.page.page import write_page

# What an axis is called, its unit as shown, and how many of it make one of ours; logarithms are shown as factors.
_AXES = {
    "exposure": ("light", "×", None), "noise": ("noise of the picture", "of 255", 1.0),
    "occlusion": ("hidden part of the picture", "%", 100.0), "camera_right_m": ("camera shifted sideways", "cm", 100.0),
    "camera_up_m": ("camera shifted up", "cm", 100.0), "camera_pan_rad": ("camera turned sideways", "°", 57.29578),
    "camera_tilt_rad": ("camera tilted", "°", 57.29578), "zoom": ("field of view", "×", None),
    "friction": ("friction", "×", None), "mass": ("masses", "×", None), "gain": ("effect of commands", "×", None),
    "delay_s": ("delay of commands", "ms", 1000.0), "dropped": ("frames lost", "%", 100.0),
    "distractors": ("things in the picture that are not the task's", "", 1.0),
}  # fmt: skip


def write_verification_page(path: Path, found: Verification, folder: Path) -> Path:
    """Write the page atomically; videos are taken from the run `folder`. Returns `path`."""
    return write_page(
        path,
        "deploy.report",
        "verification.html",
        found=found,
        breaking=[_row(item) for item in found.breaking],
        worst=[(item, _told(item), clip(folder / item.video, _told(item))) for item in found.worst if item.video],
        fixed=sum(not item.failed for item in found.replayed),
    )


def shown(axis: str, value: float) -> str:
    """A disturbance in a person's units."""
    _, unit, per = _AXES[axis]
    if per is None:
        return f"× {2.718281828**value:.2f}"
    return f"{value * per:+.3g} {unit}" if value * per else f"0 {unit}"


def _row(item: Breaking) -> tuple[str, str, str, float]:
    """Axis, breaking point, end of the range, and the share of the range that it takes (1: nothing breaks it)."""
    broken = "nothing in the range" if item.value is None else shown(item.axis, item.value)
    share = 1.0 if item.value is None else item.value / item.limit
    return _AXES[item.axis][0], broken, shown(item.axis, item.limit), share


def _told(item: Tried) -> str:
    told = [f"{_AXES[axis][0]} {shown(axis, value)}" for axis, value in item.scenario.disturbance.items()]
    held = f"; held by the guard “{item.held.replace('_', ' ')}”" if item.held else ""
    return f"start and goal {item.scenario.pair}; " + ("; ".join(told) or "undisturbed") + held
