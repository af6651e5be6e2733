"""A fit that waits in the run folder until what follows is done: an interrupted run does not fit again."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from calibration.adapter_fit import Calibrated, encode_all
from calibration.candidate import Candidate, Ground, Kind, assemble
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.training.checkpoint import load_into, load_weights, save_weights

_WEIGHTS, _CHOICE = "fitted.safetensors", "fitted.json"


def keep(folder: Path, chosen: Candidate, errors: dict[str, float]) -> None:
    """Write the weights, then which adapter they are of and what the choice rests on."""
    save_weights(folder / _WEIGHTS, _tensors(chosen.calibrated))
    files.write_json(folder / _CHOICE, {"kind": chosen.kind, "errors": errors})


def kept(folder: Path, ground: Ground, used: NDArray[np.int64]) -> tuple[Candidate, dict[str, float]] | None:
    """What `keep` wrote before the run was interrupted, if it came to that."""
    if not (folder / _CHOICE).is_file():
        return None
    choice = files.read_json(folder / _CHOICE)
    kind: Kind = choice["kind"]
    calibrated = assemble(ground, kind, used)
    tensors = load_weights(folder / _WEIGHTS)
    for prefix, module in (("model.", calibrated.model), ("body.", calibrated.body)):
        load_into(module, {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}, folder)
    console.say(f"calibrate: goes on behind the fit ({kind} adapter)")
    latents = encode_all(calibrated.model, ground.frames) if ground.fit.encoder_steps else ground.latents
    return Candidate(kind, calibrated.eval(), latents), choice["errors"]


def drop(folder: Path) -> None:
    """Remove it: the run is about to be finished."""
    for name in (_CHOICE, _WEIGHTS):
        (folder / name).unlink(missing_ok=True)


def _tensors(calibrated: Calibrated) -> dict[str, Tensor]:
    """All weights; those of the dynamics, which model and body share, are written twice."""
    parts = (("model.", calibrated.model), ("body.", calibrated.body))
    return {prefix + k: v.clone() for prefix, module in parts for k, v in module.state_dict().items()}
