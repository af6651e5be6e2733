"""Plots as inline SVG whose colours follow the page: drawn once, right in light and in dark."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

# Colours stand for CSS variables (style.css): matplotlib draws with the key, the page shows the variable.
INK, _FAINT = "#010203", "#010204"
_VARIABLES = {
    INK: "currentColor",
    _FAINT: "var(--line)",
    "#010211": "var(--model)",
    "#010212": "var(--scratch)",
    "#010213": "var(--random)",
    "#010214": "var(--hold)",
    "#010215": "var(--oracle)",
    "#010216": "var(--head)",
}
COLOURS = dict(zip(("model", "scratch", "random", "hold", "oracle", "head"), list(_VARIABLES)[2:], strict=True))
DASHES = {
    "model": "-",
    "scratch": (0, (6, 2)),
    "random": (0, (1, 1.5)),
    "hold": (0, (3, 2, 1, 2)),
    "oracle": (0, (4, 1)),
    "head": (0, (8, 1.5)),
}
MARKERS = {"model": "o", "scratch": "s", "random": "v", "hold": "D", "oracle": "^", "head": "P"}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "robot-wm",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": _FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
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


@dataclass(frozen=True)
class Quantity:
    """What a body feels of its own place: in words, with the unit shown and how many of it make one SI unit."""

    what: str
    unit: str
    per_si: float

    def shown(self, value: float) -> str:
        """A value [SI] in words."""
        return f"{self.per_si * value:.3g} {self.unit}"


HAND = Quantity("hand", "cm", 100.0)
JOINTS = Quantity("joints", "rad", 1.0)
_SLIDES, _MIXED = Quantity("joints", "cm", 100.0), Quantity("joints", "rad and m", 1.0)


def quantity_of(position_units: Sequence[str], hand: bool) -> Quantity:
    """What a body's positions are together, by the unit of each (rad or m): a hand's place, or its joints."""
    units = set(position_units)
    if hand:
        return HAND
    return _SLIDES if units == {"m"} else _MIXED if "m" in units else JOINTS


def prediction_error(
    model_k: NDArray[np.floating],
    copy_k: NDArray[np.floating],
    step_s: float,
    quantity: Quantity,
    pictures_k: NDArray[np.floating] | None = None,
) -> Figure:
    """Error of the predicted `quantity` by time ahead, (k,) [SI], beside repeating what was last felt.

    `pictures_k` is the error of what is read from predicted latents alone, where commands tell some of it.
    """
    ahead_s = step_s * np.arange(1, len(model_k) + 1)
    predicted, copied = quantity.per_si * model_k, quantity.per_si * copy_k
    lines = [("random", "if nothing moved", copied), ("model", "predicted", predicted)]
    if pictures_k is not None:
        lines.insert(0, ("scratch", "from pictures", quantity.per_si * pictures_k))

    def draw(axes: Axes) -> None:
        for key, _, values in lines:
            axes.plot(ahead_s, values, color=COLOURS[key], linestyle=DASHES[key], marker=MARKERS[key], ms=5)
        axes.margins(x=0.05, y=0.15)
        axes.set_xlim(right=1.45 * ahead_s[-1])
        axes.set_xticks(ahead_s)
        axes.set(xlabel="seconds ahead", ylabel=f"error of the {quantity.what} [{quantity.unit}]", ylim=(0, None))
        _label_ends(axes, ahead_s[-1], [(text, float(values[-1])) for _, text, values in lines])

    alone = " and, from pictures alone, the error without the commands' help" if pictures_k is not None else ""
    return Figure(
        svg("prediction", draw, height=2.8),
        f"Line plot: {ahead_s[-1]:.1f} s ahead the predicted position of the {quantity.what} is off by "
        f"{predicted[-1]:.2g} {quantity.unit}, against {copied[-1]:.2g} {quantity.unit} if nothing moved.",
        f"How far the predicted position of the {quantity.what} is from the true one, by how far ahead the model looks,"
        " on data it was not fitted to; beside it the error of assuming that nothing moves"
        f"{alone}. Lower is better.",
    )


def _label_ends(axes: Axes, x: float, ends: Sequence[tuple[str, float]]) -> None:
    """Name lines at their ends, from the lowest up, none so near the one below that they overlap."""
    apart, lowest = 0.09 * axes.get_ylim()[1], -np.inf
    for text, value in sorted(ends, key=lambda end: end[1]):
        lowest = max(value, lowest + apart)
        axes.annotate(text, (x, lowest), (9, 0), textcoords="offset points", va="center", fontsize=10)


def svg(key: str, draw: Callable[[Axes], None], width: float = 4.6, height: float = 3.0) -> Markup:
    """What `draw` draws, of that size [inch at 72 px]; `key` makes its ids unique in the page."""
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
