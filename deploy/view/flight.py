"""A recorded controller: what it saw and imagined, what it asked for, and what the guards made of it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from deploy.view.timeline import Curve, Episode, Film, Track
from robot_wm import api, console
from robot_wm.contracts import files
from robot_wm.contracts.bundle import ControllerSpec, read_bundle
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import CONFIG, MANIFEST, read_run

FLIGHT = "flight"
_AHEAD = 2  # model steps imagined
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
    "Surprise": "How far what came was from what had been predicted one step before (mean squared difference of the "
    "latents). Lower is better; a peak is something that the model did not expect.",
}


@dataclass(frozen=True)
class _Behind:
    """What stands behind a flight, as far as it is still there: bundle and calibrated model."""

    spec: ControllerSpec | None
    controller: Controller | None
    model: api.CalibratedModel | None


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
    if behind.model is None:
        sentences.append("The calibration behind it is not here, so what the model expected is left out.")
    return timeline.write(path, "A controller's flight", title, sentences, episodes)


def write_latest(path: Path, run: Path, refresh_s: int) -> Path:
    """Write a page about the flight under way that loads itself again every so many seconds; returns `path`.

    Raises:
        UserError: nothing has been flown yet.
    """
    flown = read_episodes(run / FLIGHT) if (run / FLIGHT).is_dir() else []
    if not flown:
        raise UserError(f"{run} holds no episode", "Wait for the first frame")
    episode = _episode(len(flown) - 1, flown[-1], _behind(run), "It is under way.")
    sentences = [f"Flight {len(flown)}, under way; the newest frame is shown, and this page follows it."]
    return timeline.write(path, "A controller in flight", run.name, sentences, [episode], refresh_s)


def _logs(folder: Path) -> Iterator[Path]:
    return folder.glob("episode_[0-9]*.flight")


def _behind(target: Path) -> _Behind:
    """Follow the manifests back to the bundle and the calibration; what has gone is left out."""
    spec = controller = model = None
    bundle = _bundle(target)
    if bundle is not None:
        try:
            found = read_bundle(bundle)
            spec, controller = found.spec, Controller(found, num_threads=1)
            run = bundle if (bundle / MANIFEST).is_file() else bundle.parent
            calibration = _input(run, "calibration") if (run / MANIFEST).is_file() else None
            model = api.load_calibrated(calibration) if calibration is not None else None
        except UserError:
            pass  # a bundle or calibration of another version: the log itself can still be seen
    return _Behind(spec, controller, model)


def _bundle(target: Path) -> Path | None:
    """What flew; a run that has not ended has no manifest, but its configuration."""
    if (target / MANIFEST).is_file():
        return _input(target, "bundle")
    path = files.read_json(target / CONFIG).get("bundle") if (target / CONFIG).is_file() else None
    return locate(Path(path), target) if isinstance(path, str) else None


def _input(run: Path, name: str) -> Path | None:
    item = read_run(run).inputs.get(name)
    return locate(Path(item.path), run) if item is not None else None


def _episode(number: int, flown: FlightEpisode, behind: _Behind, note: str | None = None) -> Episode:
    rows = flown.rows_L
    goal_YXC = read_goal(flown.path)
    films = [Film("What the camera saw", rows["frame"], f"Camera frame of episode {number}")]
    if goal_YXC is not None:
        films.append(Film("The goal image", goal_YXC[None], f"Goal image of episode {number}"))
    tracks = list(_commands(rows, behind.spec))
    planned = np.flatnonzero(np.isfinite(rows["cost"]))
    tracks.append(_sparse("Predicted cost of the plan", "", "cost", rows["cost"]))
    tracks.append(_sparse("Uncertainty", "", "uncertainty", rows["uncertainty"]))
    for title, name in _SIGNS.items():
        if name in (rows.dtype.names or ()) and np.isfinite(rows[name]).any():
            tracks.append(_sparse(title, "", name, rows[name]))
    tracks.append(_sparse("Time for a decision", "ms", "latency", 1e3 * rows["latency_s"]))
    if behind.controller is not None:
        z_LD = np.stack([behind.controller.encode(frame) for frame in rows["frame"]])
        if goal_YXC is not None:
            away = np.square(z_LD - behind.controller.encode(goal_YXC)).mean(1)
            tracks.insert(0, _sparse("Latent distance to the goal", "", "distance", away))
        if behind.model is not None and len(planned) > _AHEAD:
            film, track = _imagined(rows, z_LD, planned, behind.model)
            films.append(film)
            tracks.append(track)
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


def _imagined(
    rows: NDArray[np.void], z_LD: NDArray[np.float32], planned: NDArray[np.int64], model: api.CalibratedModel
) -> tuple[Film, Track]:
    """From every plan on: the frames nearest to what the model expects of the commands that were sent, and surprise.

    Nothing is decoded to pixels: each predicted latent is shown by the frame of this flight whose latent is nearest.
    """
    skip, nearest, surprise = model.command.frame_skip, np.zeros(len(rows), int), np.full(len(rows), np.nan)
    for row in planned:
        last = row + _AHEAD * skip
        if last >= len(rows):
            break
        seen = z_LD[max(row - skip, 0) : row + 1 : skip]
        chunks_HKU = rows["action"][row:last].reshape(_AHEAD, skip, -1)
        reference_U = rows["action"][row - 1] if row else None
        expected_HD = model.predict(seen, chunks_HKU, rows["state"][row], reference_U)
        nearest[row:] = int(np.square(z_LD - expected_HD[-1]).mean(1).argmin())
        surprise[row + skip] = float(np.square(z_LD[row + skip] - expected_HD[0]).mean())
    ahead_s = _AHEAD * skip / model.command.control_rate_hz
    film = Film(
        f"What it expected {ahead_s:.1f} s ahead (the frame of this flight whose latent is nearest)",
        rows["frame"][nearest],
        "Frame nearest to the model's prediction",
    )
    return film, _sparse("Surprise", "", "surprise", surprise)


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
