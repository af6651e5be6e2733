"""A recorded controller: what it saw and imagined, what it asked for, and what the guards made of it."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.lineage import locate
from deploy.report import words
from deploy.runtime.controller import Controller
from deploy.runtime.recorder import FlightEpisode, read_episodes, read_goal
from deploy.runtime.safety import INTERVENTIONS
from deploy.view import timeline
from deploy.view.timeline import Branch, Curve, Episode, Film, Track
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.bundle import ControllerSpec, read_bundle
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import CONFIG, MANIFEST, read_run

FLIGHT = "flight"
_MOST_ROWS = 600  # of a flight under way, whose page is written again and again
_SIGNS = {"Imagination missed by": "imagination_error", "Unusual picture": "surprise", "Unusual step": "miss"}
_MEANING = {
    "Latent distance to the goal": "How far the camera's frame is from the goal image, as the model sees them (mean "
    "squared difference of their latents). Falling is good; 0 would be the same picture.",
    "Predicted cost of the plan": "What each plan is expected to leave of the way to the goal. Lower is better.",
    "Uncertainty": "How wrong the model expects its own imagination to be. Lower is surer.",
    "Imagination missed by": "How far the frame's latent was from what the plan one model step before expected, in the "
    "units of the uncertainty, as the robot reckoned it.",
    "Unusual picture": "How far the image was from those of the calibration log; 1 is the farthest of its own.",
    "Unusual step": "How far the last model step ended from what the log makes expect; 1 is the log's largest miss.",
    "Time for a decision": "From image to commands.",
}


@dataclass(frozen=True)
class _Behind:
    """The bundle behind a flight, as far as it is still there."""

    spec: ControllerSpec | None
    controller: Controller | None


def is_flight(path: Path) -> bool:
    """Whether a folder is a flight log, or a run that holds one."""
    return any((folder / name) for folder in (path / FLIGHT, path) for name in _logs(folder))


def write(path: Path, target: Path, most: int) -> Path:
    """Write the page about the first `most` episodes of a flight; returns `path`.

    Raises:
        UserError: no episode in it.
    """
    folder = target / FLIGHT if (target / FLIGHT).is_dir() else target
    flown = read_episodes(folder)
    if not flown:
        raise UserError(f"{folder} holds no episode", "Give a run of robot-wm run that got as far as one")
    behind = _behind(target)
    shown = console.track(flown[:most], "view")
    episodes = [_episode(number, episode, behind) for number, episode in enumerate(shown)]
    reached = [e.outcome["success"] for e in flown if e.outcome and "success" in e.outcome]
    sentences = [f"{target.name}: {len(flown)} episodes, {len(episodes)} of them shown."]
    title = f"It reached its goal in {sum(reached)} of {len(reached)} episodes." if reached else target.name
    if behind.controller is None:
        sentences.append("The bundle behind it is not here, so what the model saw and imagined is left out.")
    return timeline.write(path, "A controller's flight", title, sentences, episodes)


def write_latest(path: Path, run: Path, refresh_s: int) -> Path:
    """Write a page about the newest part of the flight under way, which loads itself again; returns `path`.

    Raises:
        UserError: nothing has been flown yet.
    """
    flown = read_episodes(run / FLIGHT) if (run / FLIGHT).is_dir() else []
    if not flown:
        raise UserError(f"{run} holds no episode", "Wait for the first frame")
    latest = replace(flown[-1], rows_L=flown[-1].rows_L[-_MOST_ROWS:])
    episode = _episode(len(flown) - 1, latest, _behind(run), "It is under way.")
    sentences = [f"Flight {len(flown)}, under way; the newest frame is shown, and this page follows it."]
    return timeline.write(path, "A controller in flight", run.name, sentences, [episode], refresh_s)


def _logs(folder: Path) -> Iterator[Path]:
    return folder.glob("episode_[0-9]*.flight")


def _behind(target: Path) -> _Behind:
    """Follow the manifest back to the bundle, if it has not gone."""
    bundle = _bundle(target)
    if bundle is not None:
        with contextlib.suppress(UserError):  # of another version: the log itself can still be seen
            found = read_bundle(bundle)
            return _Behind(found.spec, Controller(found, num_threads=1))
    return _Behind(None, None)


def _bundle(target: Path) -> Path | None:
    """What flew; a run that has not ended has no manifest, but its configuration."""
    if (target / MANIFEST).is_file():
        item = read_run(target).inputs.get("bundle")
        return locate(Path(item.path), target) if item is not None else None
    path = files.read_json(target / CONFIG).get("bundle") if (target / CONFIG).is_file() else None
    return locate(Path(path), target) if isinstance(path, str) else None


def _episode(number: int, flown: FlightEpisode, behind: _Behind, note: str | None = None) -> Episode:
    rows = flown.rows_L
    goal_YXC = read_goal(flown.path)
    films = [Film("What the camera saw", rows["frame"], f"Camera frame of episode {number}")]
    if goal_YXC is not None:
        films.append(Film("The goal image", goal_YXC[None], f"Goal image of episode {number}"))
    tracks = list(_commands(rows, behind.spec))
    tracks.append(_sparse("Predicted cost of the plan", "", "cost", rows["cost"]))
    tracks.append(_sparse("Uncertainty", "", "uncertainty", rows["uncertainty"]))
    for title, name in _SIGNS.items():
        if name in (rows.dtype.names or ()) and np.isfinite(rows[name]).any():
            tracks.append(_sparse(title, "", name, rows[name]))
    tracks.append(_sparse("Time for a decision", "ms", "latency", 1e3 * rows["latency_s"]))
    if behind.controller is not None and behind.spec is not None:
        z_LD = np.stack([behind.controller.encode(frame) for frame in rows["frame"]])
        told = (behind.spec.horizon, behind.spec.latent_dim)
        imagined = "imagined" in (rows.dtype.names or ()) and rows["imagined"].shape[1:] == told
        if imagined:
            films.append(_leads(rows, z_LD))
        if goal_YXC is not None:
            goal_D = behind.controller.encode(goal_YXC)
            branches = tuple(_branches(rows, z_LD, goal_D, behind.spec)) if imagined else ()
            track = _sparse("Latent distance to the goal", "", "seen", _away(z_LD, goal_D))
            tracks.insert(0, replace(track, branches=branches))
    tracks.extend(_proprio(_names(behind.spec, rows["state"].shape[1]), rows["state"]))
    return Episode(
        f"Episode {number}", note or _outcome(flown.outcome), rows["time_s"], np.arange(len(rows)), tuple(films),
        tuple(tracks), tuple(_held(rows)),
    )  # fmt: skip


def _commands(rows: NDArray[np.void], spec: ControllerSpec | None) -> Iterator[Track]:
    """What was asked for and what was sent, one track per command."""
    space = spec.command if spec else None
    names = space.names if space else [f"command {i}" for i in range(rows["command"].shape[1])]
    for i, name in enumerate(names[:8]):
        curves = Curve("asked", rows["command"][:, i]), Curve("sent", rows["action"][:, i])
        limits = (space.low[i], space.high[i]) if space else ()
        note = "Asked: what the controller wants. Sent: what was left of it after the guards." if i == 0 else ""
        yield Track(f"Command {name}", space.unit if space else "", curves, limits, note)


def _proprio(names: Sequence[str], state_LP: NDArray[np.floating[Any]]) -> Iterator[Track]:
    """Positions, velocities and the rest apart: what shares a plot shares a scale."""
    kinds = {"_position": "rad or m", "_velocity": "rad/s or m/s"}
    of = [next((kind for kind in kinds if name.endswith(kind)), "") for name in names]
    for kind in dict.fromkeys(of):
        chosen = [i for i, found in enumerate(of) if found == kind]
        title = f"Proprio, {kind[1:]}" if kind else "Proprio"
        shown = [names[i].removesuffix(kind) for i in chosen]
        yield from timeline.split(title, kinds.get(kind, ""), shown, state_LP[:, chosen])


def _sparse(title: str, unit: str, name: str, values_L: NDArray[Any]) -> Track:
    return Track(title, unit, (Curve(name, np.asarray(values_L, dtype=float)),), note=_MEANING.get(title, ""))


def _leads(rows: NDArray[np.void], z_LD: NDArray[np.float32]) -> Film:
    """What the plan in force imagines at its end.

    Nothing is decoded to pixels: the latent is shown by the frame of this flight whose own is nearest.
    """
    nearest = np.arange(len(rows))
    for row in np.flatnonzero(np.isfinite(rows["imagined"][:, -1]).all(1)):
        nearest[row:] = int(_away(z_LD, rows["imagined"][row, -1]).argmin())
    caption = "Where the plan is meant to lead (the frame of this flight whose latent is nearest to its end)"
    return Film(caption, rows["frame"][nearest], "Frame nearest to what the plan imagines at its end")


def _branches(
    rows: NDArray[np.void], z_LD: NDArray[np.float32], goal_D: NDArray[np.float32], spec: ControllerSpec
) -> Iterator[Branch]:
    """From the frame of every plan on: how far from the goal it expects to be after each of its model steps."""
    step_s = spec.command.frame_skip / spec.command.control_rate_hz
    after_s = step_s * (spec.ahead + 1 + np.arange(spec.horizon))
    for row in np.flatnonzero(np.isfinite(rows["imagined"]).all((1, 2))):
        away = np.append(_away(z_LD[row], goal_D), _away(rows["imagined"][row], goal_D))
        yield Branch(rows["time_s"][row] + np.append(0.0, after_s), away)


def _away(z_ND: NDArray[Any], goal_D: NDArray[Any]) -> NDArray[np.float32]:
    """Mean squared difference of latents."""
    away_N: NDArray[np.float32] = np.square(z_ND.astype(np.float32) - goal_D).mean(-1)
    return away_N


def _names(spec: ControllerSpec | None, count: int) -> Sequence[str]:
    return spec.proprio if spec else [f"entry {i}" for i in range(count)]


def _held(rows: NDArray[np.void]) -> Iterator[tuple[float, float, str]]:
    """Stretches of time in which the same guard held."""
    held, times = rows["held"], rows["time_s"]
    edges = np.flatnonzero(np.diff(held, prepend=-1, append=-1)).tolist()
    for first, last in itertools.pairwise(edges):
        if held[first] >= 0:
            name = INTERVENTIONS[held[first]]
            yield float(times[first]), float(times[min(last, len(times) - 1)]), words.GUARDS.get(name, name)


def _outcome(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return "It was cut short."
    told = []
    if "success" in outcome:
        told.append("It reached its goal." if outcome["success"] else "It did not reach its goal.")
    if "distance_m" in outcome:
        told.append(f"{100 * outcome['distance_m']:.1f} cm were left.")
    guards = {words.GUARDS.get(name, name): count for name, count in outcome.get("guards", {}).items() if count}
    told.append(
        "Guards: " + ", ".join(f"{k} on {v} tick{'s' * (v > 1)}" for k, v in guards.items()) + "."
        if guards
        else "No guard stepped in."
    )
    return " ".join(told)
