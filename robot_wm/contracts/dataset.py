"""The dataset contract: LeRobot's feature names and the meaning that robot-wm gives them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robot_wm.contracts.errors import UserError

STATE = "observation.state"
ACTION = "action"
HAND = "simulator.hand_position_m"  # in the first camera's frame; simulated clips only
OBJECT = "simulator.object_position_m"  # of the one that is pushed, in the first camera's frame; simulated clips only
NEAREST = "simulator.nearest_object_position_m"  # of the one nearest to the hand, likewise: a picture tells which
ARM = "simulator.arm_positions_m"  # ARM_POINTS from the shoulder towards the hand, likewise
ARM_POINTS = 4  # at 0, 1/4, 1/2 and 3/4 of the arm's length
FOCAL = "simulator.focal"  # of the first camera, in half heights of its picture; simulated clips only
LATENT_ACTION = "latent_action"
LATENT_ACTION_STD = "latent_action_std"
LATENT_ACTION_VALID = "latent_action_valid"
END_EFFECTOR_MOTION = "end_effector_motion_m"  # in the camera's frame: right, down, along the view
_IMAGE_PREFIX, _DEPTH_PREFIX = "observation.images.", "observation.depth_mm."
_VERSIONS = ("v2.0", "v2.1", "v3.0")


def image_key(camera: str) -> str:
    """The feature name of a camera."""
    return _IMAGE_PREFIX + camera


def depth_key(camera: str) -> str:
    """The column of a camera's depth: uint16 (height, width), millimetres along the view, 0 where nothing is near."""
    return _DEPTH_PREFIX + camera


def is_depth(key: str) -> bool:
    """Whether a feature is a camera's depth."""
    return key.startswith(_DEPTH_PREFIX)


def position_key(position: str, camera: str, cameras: Sequence[str]) -> str:
    """The column of a position, or of FOCAL, that belongs to a camera of a dataset; the first has the plain name."""
    return position if camera == cameras[0] else f"{position}.{camera}"


@dataclass(frozen=True)
class Feature:
    """One column or video of a dataset: numpy dtype name or "video", shape of one row, names of its entries."""

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    @property
    def is_video(self) -> bool:
        return self.dtype in ("video", "image")


@dataclass(frozen=True)
class DatasetInfo:
    """What `meta/info.json` promises."""

    version: str
    fps: float
    total_episodes: int
    total_frames: int
    features: dict[str, Feature]

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(k.removeprefix(_IMAGE_PREFIX) for k, f in self.features.items() if f.is_video)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> "DatasetInfo":
        """Check the parsed `info.json`; raises UserError that names the field."""

        def need(key: str, kinds: tuple[type, ...]) -> Any:
            found = value.get(key) if isinstance(value, Mapping) else value
            if not isinstance(value, Mapping) or not isinstance(found, kinds) or isinstance(found, bool):
                raise UserError(f"{where}: {key} is {found!r}", "This is not a LeRobot info.json; record it again")
            return found

        version = need("codebase_version", (str,))
        if version not in _VERSIONS:
            raise UserError(f"{where}: codebase_version is {version!r}", f"Versions read: {', '.join(_VERSIONS)}")
        fps = float(need("fps", (int, float)))
        if not fps > 0:
            raise UserError(f"{where}: fps is {fps}", "It must be positive")
        episodes, frames = (need(key, (int,)) for key in ("total_episodes", "total_frames"))
        if min(episodes, frames) < 0:
            raise UserError(f"{where}: total_episodes is {episodes}, total_frames {frames}", "Neither may be negative")
        features = {}
        for key, item in need("features", (dict,)).items():
            if not key or set(key) & set("/\\\0") or key in (".", ".."):
                raise UserError(
                    f"{where}: {key!r} cannot be a feature's name", "It names a folder; rename it without / or \\"
                )
            if not isinstance(item, Mapping) or "dtype" not in item or "shape" not in item:
                raise UserError(f"{where}: feature {key!r} has no dtype or shape", "Record the dataset again")
            shape = item["shape"]
            if not isinstance(shape, list | tuple) or not all(isinstance(size, int) and size >= 0 for size in shape):
                raise UserError(f"{where}: shape of {key!r} is {shape!r}", "It must be a list of whole numbers")
            features[key] = Feature(str(item["dtype"]), tuple(shape), _names(item.get("names")))
        return cls(version, fps, episodes, frames, features)


def _names(names: Any) -> tuple[str, ...] | None:
    """LeRobot writes names as a list, as a dict of lists, or nested once: all become one flat tuple."""
    if isinstance(names, Mapping):
        names = [n for group in names.values() for n in (group if isinstance(group, list) else [group])]
    if not isinstance(names, list):
        return None
    return tuple(str(n) for group in names for n in (group if isinstance(group, list) else [group]))
