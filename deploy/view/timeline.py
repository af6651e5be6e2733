"""Episodes on a time line: pictures and curves that move together under one slider."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from deploy.report.media import picture
from deploy.view import page

_WIDTH, _HEIGHT = 1000, 100  # of a curve's coordinates; the page stretches them
_COLOURS, _MOST_CURVES, _MOST_TICKS = 6, 6, 5
_QUALITY = 75


@dataclass(frozen=True)
class Film:
    """A picture for every moment shown: a caption, frames (F, Y, X, 3), and what they show in words."""

    caption: str
    frames_FYXC: NDArray[np.uint8]
    alt: str


@dataclass(frozen=True)
class Curve:
    """Values over time; NaN where there is none."""

    name: str
    values_L: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Branch:
    """What was expected at one moment of those after it: times [s] on the rows' clock, and values."""

    times_H: NDArray[np.float64]
    values_H: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Track:
    """Curves that share a plot.

    Attributes:
        title, unit: what they are.
        curves: at most six; more are split by `split`.
        limits: values that they may not pass, drawn as dashed lines.
        note: what they mean, for those who see them the first time.
        branches: expectations, drawn thin beside the curves; they may reach beyond the last row.
    """

    title: str
    unit: str
    curves: tuple[Curve, ...]
    limits: tuple[float, ...] = ()
    note: str = ""
    branches: tuple[Branch, ...] = ()


@dataclass(frozen=True)
class Episode:
    """One stretch of time.

    Attributes:
        title, note: a heading and what is to be known.
        times_L: of the rows [s].
        rows_F: which rows have a picture, ascending.
        films: what is seen in them.
        tracks: what is measured.
        held: stretches [s, s] in which a guard held the robot, with its name.
    """

    title: str
    note: str
    times_L: NDArray[np.float64]
    rows_F: NDArray[np.int64]
    films: tuple[Film, ...] = ()
    tracks: tuple[Track, ...] = ()
    held: tuple[tuple[float, float, str], ...] = field(default=())


def split(title: str, unit: str, names: Sequence[str], values_LK: NDArray[Any], note: str = "") -> Iterator[Track]:
    """A track for every six entries."""
    for first in range(0, len(names), _MOST_CURVES):
        part = range(first, min(first + _MOST_CURVES, len(names)))
        curves = tuple(Curve(names[i], values_LK[:, i]) for i in part)
        more = f", {part.start + 1} to {part.stop}" if len(names) > _MOST_CURVES else ""
        yield Track(title + more, unit, curves, note=note)


def write(
    path: Path, kind: str, title: str, beside: Sequence[str], episodes: Sequence[Episode], refresh_s: int | None = None
) -> Path:
    """Write the page about `episodes`; returns `path`. With `refresh_s` it loads itself again, at the last moment."""
    shown = [_shown(episode) for episode in episodes]
    return page.write(
        path, "timeline.html", "timeline.js", kind=kind, title=title, beside=list(beside), episodes=shown,
        refresh_s=refresh_s,
    )  # fmt: skip


def _shown(episode: Episode) -> dict[str, Any]:
    """An episode as the template takes it; its data for the script are JSON that cannot end its element."""
    started_s = float(episode.times_L[0])
    ends_s = [float(branch.times_H[-1]) for track in episode.tracks for branch in track.branches]
    span_s = max(float(episode.times_L[-1]) - started_s, *(end_s - started_s for end_s in ends_s), 1e-9)

    def x(times: Any) -> Any:
        return _WIDTH * (times - started_s) / span_s

    films: list[dict[str, Any]] = [
        {
            "caption": film.caption,
            "pictures": [picture(frame, film.alt, _QUALITY) for frame in film.frames_FYXC],
            "alt": film.alt,
        }
        for film in episode.films
    ]
    shown_L = np.searchsorted(episode.rows_F, np.arange(len(episode.times_L)), side="right").clip(1) - 1
    data = {
        "times": [round(float(t - started_s), 4) for t in episode.times_L],
        "span": span_s,
        "shown": shown_L.tolist(),
        "films": [[p.uri for p in film["pictures"]] for film in films],
        "curves": [[_rounded(c.values_L) for c in track.curves] for track in episode.tracks],
    }
    return {
        "title": episode.title,
        "note": episode.note,
        "last": len(episode.times_L) - 1,
        "ticks": [(100 * t / span_s, f"{t:g} s") for t in _ticks(span_s)],
        "films": films,
        "tracks": [
            _drawn(track, x(episode.times_L), [x(branch.times_H) for branch in track.branches])
            for track in episode.tracks
        ],
        "held": [(x(a), _WIDTH * max(b - a, 0.004 * span_s) / span_s, name) for a, b, name in episode.held],
        "data": Markup(json.dumps(data, allow_nan=False).replace("</", "<\\/")),  # numbers and our own data URIs
    }


def _ticks(span_s: float) -> list[float]:
    """Round times within the span [s], from 0 on, so many that they fit below a plot on a telephone."""
    power = 10.0 ** np.floor(np.log10(span_s / _MOST_TICKS))
    step_s = next(power * k for k in (1, 2, 5, 10, 20) if span_s / (power * k) < _MOST_TICKS)
    return [round(float(t), 9) for t in np.arange(0, span_s * (1 + 1e-9), step_s)]


def _rounded(values_L: NDArray[Any]) -> list[float | None]:
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values_L.tolist()]


def _drawn(track: Track, x_L: NDArray[np.float64], branches_x: Sequence[NDArray[np.float64]] = ()) -> dict[str, Any]:
    drawn = [c.values_L for c in track.curves] + [branch.values_H for branch in track.branches]
    values = np.concatenate([*drawn, np.asarray(track.limits, dtype=float)])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    extent = f"{low:.3g} (bottom) to {high:.3g} (top)" if high > low else f"always {low:.3g}"
    if high == low:  # a line along the middle
        low, high = low - 1, high + 1
    scale = _HEIGHT / (high - low)

    def points(x: NDArray[np.float64], values: NDArray[Any]) -> str:
        known = np.isfinite(values)
        y = _HEIGHT - scale * (values[known] - low)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[known], y, strict=True))

    spread = "; ".join(
        f"{c.name} {np.nanmin(c.values_L):.3g} to {np.nanmax(c.values_L):.3g}"
        for c in track.curves
        if np.isfinite(c.values_L).any()
    )
    return {
        "title": track.title,
        "unit": track.unit,
        "note": track.note,
        "extent": extent if len(finite) else "no values",
        "limits": [_HEIGHT - scale * (v - low) for v in track.limits],
        "lines": [
            {"name": c.name, "points": points(x_L, c.values_L), "style": f"c{i % _COLOURS} d{i % 3}"}
            for i, c in enumerate(track.curves)
        ],
        "branches": [points(x, branch.values_H) for x, branch in zip(branches_x, track.branches, strict=True)],
        "alt": f"Line plot of {track.title} over time: {spread or 'no values'}.",
    }
