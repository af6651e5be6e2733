"""Plots as inline SVG whose colours follow the page: drawn once, right in light and in dark."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from deploy.report import words
from robot_wm.evaluation.results import ControllerResult, Evaluation

# Colours stand for CSS variables (style.css): matplotlib draws with the key, the page shows the variable.
_INK, _FAINT = "#010203", "#010204"
_VARIABLES = {
    _INK: "currentColor",
    _FAINT: "var(--line)",
    "#010211": "var(--model)",
    "#010212": "var(--scratch)",
    "#010213": "var(--random)",
    "#010214": "var(--hold)",
    "#010215": "var(--oracle)",
    "#010216": "var(--head)",
}
_COLOURS = dict(zip(("model", "scratch", "random", "hold", "oracle", "head"), list(_VARIABLES)[2:], strict=True))
_DASHES = {
    "model": "-",
    "scratch": (0, (6, 2)),
    "random": (0, (1, 1.5)),
    "hold": (0, (3, 2, 1, 2)),
    "oracle": (0, (4, 1)),
    "head": (0, (8, 1.5)),
}
_MARKERS = {"model": "o", "scratch": "s", "random": "v", "hold": "D", "oracle": "^", "head": "P"}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "robot-wm",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2.0,
}


@dataclass(frozen=True)
class Figure:
    """An SVG to be set into the page, what it shows (for those who cannot see it), and a caption."""

    svg: Markup
    alt: str
    caption: str


def distances(evaluation: Evaluation, names: Mapping[str, str]) -> Figure:
    """Median distance to the goal over time, one line per controller; `names` are their plain names."""
    threshold_cm = 100 * evaluation.threshold_m
    # Random commands may stray far; what the plot is about happens below the distance at the start.
    top_cm = 100 * max(
        1.4 * float(np.median([e.distances_m[0] for c in evaluation.controllers for e in c.episodes])), 0.1
    )

    def draw(axes: Axes) -> None:
        for controller in evaluation.controllers:
            distance_cm = 100 * _stack(controller)
            time_s = evaluation.step_s * np.arange(distance_cm.shape[1])
            colour = _COLOURS.get(controller.name, _INK)
            if controller.name == "model":
                low, high = np.nanpercentile(distance_cm, (25, 75), axis=0)
                axes.fill_between(time_s, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                time_s,
                np.nanmedian(distance_cm, axis=0),
                color=colour,
                linestyle=_DASHES.get(controller.name, "-"),
                marker=_MARKERS.get(controller.name),
                markevery=max(1, len(time_s) // 6),
                markersize=5,
                label=names.get(controller.name, controller.name),
            )
        axes.axhline(threshold_cm, color=_INK, linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate(
            f"reached: within {threshold_cm:g} cm", (0, threshold_cm), (4, -4), ("axes fraction", "data"),
            textcoords="offset points", va="top", fontsize=10,
        )  # fmt: skip
        axes.set(xlabel="time [s]", ylabel="distance to goal [cm]", ylim=(0, top_cm), xlim=(0, None))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)

    finals = "; ".join(
        f"{names.get(c.name, c.name)} ends at {100 * c.final_distance_m.median:.1f} cm" for c in evaluation.controllers
    )
    _, thing = words.TASKS.get(evaluation.task, ("", "robot"))
    return Figure(
        _svg("distances", draw, height=3.9),
        f"Line plot of the median distance to the goal over time. {finals}.",
        f"Distance between {thing} and goal during the attempt: median over all goals. The band holds the middle half "
        "of the learned controller’s attempts. A line that leaves the plot goes on above it.",
    )


def latencies(controller: ControllerResult, deadline_s: float) -> Figure:
    """Histogram of decision times beside the time that one decision may take."""
    samples_ms = 1000 * np.concatenate([e.latencies_s for e in controller.episodes])
    assert controller.latency is not None
    p50, p95 = controller.latency.p50_ms.value, controller.latency.p95_ms.value

    def draw(axes: Axes) -> None:
        limit = max(1.15 * 1000 * deadline_s, np.percentile(samples_ms, 99.5))
        axes.hist(samples_ms, bins=np.linspace(0, limit, 60).tolist(), color=_COLOURS["model"])
        axes.axvline(1000 * deadline_s, color=_INK, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.annotate(
            "deadline", (1000 * deadline_s, 0.95), (-4, 0), ("data", "axes fraction"),
            textcoords="offset points", ha="right", va="top", fontsize=10,
        )  # fmt: skip
        axes.set(xlabel="time for one decision [ms]", ylabel="decisions", xlim=(0, limit))

    return Figure(
        _svg("latencies", draw, height=2.6),
        f"Histogram of decision times: half are below {p50:.0f} ms, 95 % below {p95:.0f} ms; "
        f"the deadline is {1000 * deadline_s:.0f} ms.",
        "How long each decision took, from image to commands.",
    )


def durations(lengths_s: Sequence[float]) -> Figure:
    """Duration of every episode of a dataset, in order."""
    seconds = np.asarray(lengths_s)

    def draw(axes: Axes) -> None:
        axes.bar(np.arange(len(seconds)), seconds, width=1.0, color=_COLOURS["model"])
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(xlabel="episode", ylabel="duration [s]", ylim=(0, None), xlim=(-0.5, len(seconds) - 0.5))

    return Figure(
        _svg("durations", draw, height=2.6),
        f"Bar plot of the duration of {len(seconds)} episodes: {seconds.min():.1f} to {seconds.max():.1f} s, "
        f"half of them below {np.median(seconds):.1f} s.",
        "How long each episode is, in the order of the dataset.",
    )


@dataclass(frozen=True)
class Quantity:
    """What a body feels of its own place: in words, with the unit shown and how many of it make one SI unit."""

    what: str
    unit: str
    per_si: float


HAND = Quantity("hand", "cm", 100.0)
JOINTS = Quantity("joints", "rad", 1.0)


def prediction_error(
    model_k: NDArray[np.floating], copy_k: NDArray[np.floating], step_s: float, quantity: Quantity
) -> Figure:
    """Error of the predicted `quantity` by time ahead, (k,) [SI], beside repeating what was last felt."""
    ahead_s = step_s * np.arange(1, len(model_k) + 1)
    predicted, copied = quantity.per_si * model_k, quantity.per_si * copy_k

    def draw(axes: Axes) -> None:
        axes.plot(ahead_s, copied, color=_COLOURS["random"], linestyle=_DASHES["random"], marker="v", ms=5)
        axes.plot(ahead_s, predicted, color=_COLOURS["model"], marker="o", ms=5)
        for values, text, colour in ((copied, "if nothing moved", "random"), (predicted, "predicted", "model")):
            axes.annotate(
                text, (ahead_s[-1], values[-1]), (9, 0), textcoords="offset points",
                va="center", fontsize=10, color=_COLOURS[colour],
            )  # fmt: skip
        axes.margins(x=0.05, y=0.15)
        axes.set_xlim(right=1.45 * ahead_s[-1])
        axes.set_xticks(ahead_s)
        axes.set(xlabel="seconds ahead", ylabel=f"error of the {quantity.what} [{quantity.unit}]", ylim=(0, None))

    return Figure(
        _svg("prediction", draw, height=2.8),
        f"Line plot: {ahead_s[-1]:.1f} s ahead the predicted position of the {quantity.what} is off by "
        f"{predicted[-1]:.2g} {quantity.unit}, against {copied[-1]:.2g} {quantity.unit} if nothing moved.",
        f"How far the predicted position of the {quantity.what} is from the true one, by how far ahead the model looks,"
        " on data it was not fitted to; beside it the error of assuming that nothing moves.",
    )


def curve(key: str, title: str, steps: Sequence[float], values: Sequence[float], explanation: str) -> Figure:
    """One training curve; logarithmic where all values are positive and span more than a factor of ten."""
    values_n = np.asarray(values, dtype=float)
    logarithmic = bool((values_n > 0).all()) and values_n.max() > 10 * values_n.min()

    def draw(axes: Axes) -> None:
        axes.plot(steps, values_n, color=_COLOURS["model"], linewidth=1.6)
        axes.set(xlabel="training step", yscale="log" if logarithmic else "linear")
        if logarithmic:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(4))

    return Figure(
        _svg(key, draw, width=3.2, height=2.0),
        f"Line plot of {title}: {values_n[0]:.3g} at step {steps[0]:g}, {values_n[-1]:.3g} at step {steps[-1]:g}.",
        f"{title}: {explanation}" if explanation else title,
    )


def _stack(controller: ControllerResult) -> NDArray[np.float64]:
    """Distances (episodes, ticks), shorter episodes continued by what they ended with."""
    longest = max(len(e.distances_m) for e in controller.episodes)
    rows = [np.pad(e.distances_m, (0, longest - len(e.distances_m)), mode="edge") for e in controller.episodes]
    return np.stack(rows)


def _svg(key: str, draw: Callable[[Axes], None], width: float = 4.6, height: float = 3.0) -> Markup:
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        canvas.patch.set_alpha(0)
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        text = StringIO()
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Markup(_page_ready(text.getvalue(), key))  # drawn here, from numbers and our own words


def _page_ready(svg: str, key: str) -> str:
    """From a file of its own to a part of a page: no prologue or metadata, unique ids, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", svg)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg)
    svg = svg.replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
