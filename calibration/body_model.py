"""A body's MuJoCo model and camera as a calibration uses them: identified and placed, where the logs allow it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from calibration import kinematics, mjcf
from calibration.board import Board
from calibration.camera_placement import BEFORE, OVERLAY, CameraConfig, calibrate_camera
from calibration.camera_placement import MODEL as PLACED
from calibration.camera_placement import REPORT as PLACE
from calibration.identification import IdentifyConfig, identify_body
from calibration.log_faults import Examined
from calibration.sysid import FitConfig
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.embodiment import Embodiment, Mjcf
from robot_wm.contracts.errors import UserError
from robot_wm.models.kinematics import Kinematics
from sims.render import focal
from sims.robots import load

_BIAS = "bias:"
_FIT = FitConfig(starts=1, iterations=12)  # `identify` alone searches for longer


@dataclass(frozen=True)
class BodyModelConfig:
    """What is measured of the body beside its pictures.

    Attributes:
        identify: fit the MJCF's parameters to the log, where a MJCF simulates the body.
        most_s: longest part of the log that this takes, from its beginning; 0 takes it whole.
        board_data: a log in which the hand holds the board: it places the camera; None believes the camera.
        board: as printed.
    """

    identify: bool = True
    most_s: float = 8.0
    board_data: str | None = None
    board: Board = field(default_factory=Board)


@dataclass(frozen=True)
class FoundParameter:
    """One identified parameter [unit]; `interval` is the half-width of its 95 % interval, None where it is unknown."""

    name: str
    unit: str
    nominal: float
    value: float
    interval: float | None
    low: float
    high: float
    bound: str
    identifiable: bool


@dataclass(frozen=True)
class FoundModel:
    """Identified parameters, and the open-loop error [rad or m] on the part of the log that the fit did not see.

    Attributes:
        parameters: all of them.
        error_before, error_after: over all joints, with the MJCF as it was and as identified.
        joints, before_by_joint, after_by_joint: the same of each joint.
        warnings: what to know before trusting them.
    """

    parameters: tuple[FoundParameter, ...]
    error_before: float
    error_after: float
    joints: tuple[str, ...]
    before_by_joint: tuple[float, ...]
    after_by_joint: tuple[float, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FoundCamera:
    """Where the camera is: error of the reprojection, and the 95 % intervals of its place and direction."""

    views: int
    error_px: float
    interval_m: float
    interval_rad: float


@dataclass(frozen=True)
class BodyModel:
    """What is known of a body's model.

    Attributes:
        embodiment: with the identified MJCF and the placed camera, where there are such; for its geometry alone.
        bias: by how much each joint's encoder reads too much [rad or m].
        model, camera: what was found; None where it was not.
        runs: the runs that found it.
        notes: why the model was not identified, where that was tried in vain.
    """

    embodiment: Embodiment
    bias: dict[str, float]
    model: FoundModel | None
    camera: FoundCamera | None
    runs: dict[str, Path]
    notes: tuple[str, ...]

    def copy_to(self, folder: Path) -> list[str]:
        """Patch, MJCF, camera and overlay beside the calibration that used them; returns their names."""
        names = {"identified": (mjcf.PATCH, mjcf.MODEL), "camera": (PLACE, PLACED, BEFORE, OVERLAY)}
        copied = [(run / name, name) for kind, run in self.runs.items() for name in names[kind]]
        for source, name in copied:
            files.write_atomic(folder / name, source.read_bytes())
        return [name for _, name in copied]


def measure_body(
    embodiment: Embodiment, data: Path, examined: Examined, config: BodyModelConfig, out: Path, seed: int
) -> BodyModel:
    """Identify the body and place its camera, each in a run of its own that is found again.

    What the log does not allow is left out and noted: a world model can be calibrated without.
    """
    runs: dict[str, Path] = {}
    notes: list[str] = []
    bias: dict[str, float] = {}
    model, camera, known = None, None, embodiment
    if config.identify:
        try:
            asked = IdentifyConfig(embodiment, str(data), fit=_FIT, most_s=config.most_s, out=str(out), seed=seed)
            runs["identified"] = identify_body(asked, examined)
        except (UserError, np.linalg.LinAlgError, mujoco.FatalError) as error:
            why = error.problem if isinstance(error, UserError) else f"its simulation came to no result ({error})"
            notes.append(why)
            console.say(f"calibrate: the MuJoCo model is as it was: {why}")
        else:
            model = _model(files.read_json(runs["identified"] / mjcf.PATCH), examined.log.joints)
            known = replace(known, mjcf=Mjcf(str(runs["identified"] / mjcf.MODEL)))
            bias = {p.name.removeprefix(_BIAS): p.value for p in model.parameters if p.name.startswith(_BIAS)}
    if config.board_data is not None:
        look = CameraConfig(known, config.board_data, board=config.board, bias=bias, out=str(out), seed=seed)
        runs["camera"] = calibrate_camera(look)
        found = files.read_json(runs["camera"] / PLACE)
        camera = FoundCamera(*(found[k] for k in ("views", "placement_error_px", "interval_m", "interval_rad")))
        seen = replace(known.camera, position_m=None, target_m=None)
        known = replace(known, mjcf=Mjcf(str(runs["camera"] / PLACED)), camera=seen)
    return BodyModel(known, bias, model, camera, runs, tuple(notes))


def geometry(measured: BodyModel, kind: str) -> tuple[Kinematics | None, float]:
    """What a kinematic adapter needs to know of the body (None: not asked for, or not to be had), and the focal length.

    Both by the model as it was identified and the camera as it was placed.
    """
    with load(measured.embodiment) as simulation:
        lens = focal(simulation.model, simulation.camera)
        try:
            return None if kind == "learned" else kinematics.of_body(simulation, measured.bias), lens
        except UserError as error:
            if kind == "kinematic":
                raise
            console.say(f"{error.problem}: the adapter is learned")
            return None, lens


def _model(found: dict[str, Any], joints: tuple[str, ...]) -> FoundModel:
    parameters = tuple(
        FoundParameter(
            name, p["unit"], p["nominal"], p["value"], p["interval"], p["low"], p["high"], p["bound"] or "",
            p["identifiable"],
        )
        for name, p in found["parameters"].items()
    )  # fmt: skip
    rmse = found["rmse"]
    return FoundModel(
        parameters, rmse["held_out_before"], rmse["held_out"], joints, tuple(found["held_out_rmse_per_joint_before"]),
        tuple(found["held_out_rmse_per_joint"]), tuple(found["warnings"]),
    )  # fmt: skip
