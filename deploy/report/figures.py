"""The plots of the report."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from deploy.report import words
from robot_wm.evaluation.results import ControllerResult, Evaluation
from robot_wm.page.plot import COLOURS, DASHES, INK, MARKERS, Figure, svg


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
            colour = COLOURS.get(controller.name, INK)
            if controller.name == "model":
                low, high = np.nanpercentile(distance_cm, (25, 75), axis=0)
                axes.fill_between(time_s, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                time_s,
                np.nanmedian(distance_cm, axis=0),
                color=colour,
                linestyle=DASHES.get(controller.name, "-"),
                marker=MARKERS.get(controller.name),
                markevery=max(1, len(time_s) // 6),
                markersize=5,
                label=names.get(controller.name, controller.name),
            )
        axes.axhline(threshold_cm, color=INK, linewidth=1, linestyle=(0, (2, 2)))
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
        svg("distances", draw, height=3.9),
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
        axes.hist(samples_ms, bins=np.linspace(0, limit, 60).tolist(), color=COLOURS["model"])
        axes.axvline(1000 * deadline_s, color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
        axes.annotate(
            "deadline", (1000 * deadline_s, 0.95), (-4, 0), ("data", "axes fraction"),
            textcoords="offset points", ha="right", va="top", fontsize=10,
        )  # fmt: skip
        axes.set(xlabel="time for one decision [ms]", ylabel="decisions", xlim=(0, limit))

    return Figure(
        svg("latencies", draw, height=2.6),
        f"Histogram of decision times: half are below {p50:.0f} ms, 95 % below {p95:.0f} ms; "
        f"the deadline is {1000 * deadline_s:.0f} ms.",
        "How long each decision took, from image to commands.",
    )


def durations(lengths_s: Sequence[float]) -> Figure:
    """Duration of every episode of a dataset, in order."""
    seconds = np.asarray(lengths_s)

    def draw(axes: Axes) -> None:
        axes.bar(np.arange(len(seconds)), seconds, width=1.0, color=COLOURS["model"])
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set(xlabel="episode", ylabel="duration [s]", ylim=(0, None), xlim=(-0.5, len(seconds) - 0.5))

    return Figure(
        svg("durations", draw, height=2.6),
        f"Bar plot of the duration of {len(seconds)} episodes: {seconds.min():.1f} to {seconds.max():.1f} s, "
        f"half of them below {np.median(seconds):.1f} s.",
        "How long each episode is, in the order of the dataset.",
    )


def curve(key: str, title: str, steps: Sequence[float], values: Sequence[float], explanation: str) -> Figure:
    """One training curve; logarithmic where all values are positive and span more than a factor of ten."""
    values_n = np.asarray(values, dtype=float)
    logarithmic = bool((values_n > 0).all()) and values_n.max() > 10 * values_n.min()

    def draw(axes: Axes) -> None:
        axes.plot(steps, values_n, color=COLOURS["model"], linewidth=1.6)
        axes.set(xlabel="training step", yscale="log" if logarithmic else "linear")
        if logarithmic:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(4))

    return Figure(
        svg(key, draw, width=3.2, height=2.0),
        f"Line plot of {title}: {values_n[0]:.3g} at step {steps[0]:g}, {values_n[-1]:.3g} at step {steps[-1]:g}.",
        f"{title}: {explanation}" if explanation else title,
    )


def _stack(controller: ControllerResult) -> NDArray[np.float64]:
    """Distances (episodes, ticks), shorter episodes continued by what they ended with."""
    longest = max(len(e.distances_m) for e in controller.episodes)
    rows = [np.pad(e.distances_m, (0, longest - len(e.distances_m)), mode="edge") for e in controller.episodes]
    return np.stack(rows)
