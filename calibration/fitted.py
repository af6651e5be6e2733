"""A fit that waits in the run folder until what follows is done: an interrupted run does not fit again."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from calibration.adapter_fit import Calibrated, encode_all
from calibration.candidate import Candidate, Ground, Kind, assemble
from calibration.choice import choose
from calibration.practice import Stills
from calibration.reading_fit import Reading, ReadingConfig, learn_to_read, with_encoder
from calibration.time_left import TimeLeft
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.config import from_mapping, to_mapping
from robot_wm.contracts.run import Run
from robot_wm.training.checkpoint import load_into, load_weights, save_weights

_WEIGHTS, _CHOICE = "fitted.safetensors", "fitted.json"


def fit_or_find(
    run: Run,
    ground: Ground,
    asked: Kind | Literal["auto"],
    config: ReadingConfig,
    practise: Callable[[NDArray[np.floating], int, int], Stills | None],
    used: NDArray[np.int64],
    held_out: NDArray[np.int64],
    left: TimeLeft,
) -> tuple[Ground, Candidate, dict[str, float], Reading | None]:
    """The fit, or the one that an interrupted run left: reading is learned first, then all that is chosen by `choose`.

    `practise` draws practice pictures, given the log's positions, how many and their size. Returns the ground with the
    encoder that reads best, the adapter chosen, the error of each, and what learning to read brought.
    """
    found = kept(run.path, ground, used)
    if found is None:
        reading, taught = None, ground
        if config.steps:
            positions_FQ = ground.transitions.proprio_FP[:, ground.body.position_P]
            practice = practise(positions_FQ, config.practice, ground.model.config.encoder.size)
            taught, reading = learn_to_read(ground, practice, config, used, held_out, run.log)
        found = *choose(taught, asked, used, held_out, run.log, left), reading
    chosen, errors, reading = found
    if reading is not None and reading.kept:
        ground = with_encoder(ground, chosen.calibrated.model.encoder)
    return ground, chosen, errors, reading


def keep(folder: Path, chosen: Candidate, errors: dict[str, float], reading: Reading | None) -> None:
    """Write the weights, then which adapter they are of and what the choice rests on."""
    save_weights(folder / _WEIGHTS, _tensors(chosen.calibrated))
    files.write_json(
        folder / _CHOICE,
        {"kind": chosen.kind, "errors": errors, "reading": None if reading is None else to_mapping(reading)},
    )


def kept(
    folder: Path, ground: Ground, used: NDArray[np.int64]
) -> tuple[Candidate, dict[str, float], Reading | None] | None:
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
    told = choice["reading"]
    reading = None if told is None else from_mapping(Reading, told, str(folder / _CHOICE))
    same = ground.fit.encoder_steps == 0 and not (reading and reading.kept)
    latents = ground.latents if same else encode_all(calibrated.model, ground.frames)
    return Candidate(kind, calibrated.eval(), latents), choice["errors"], reading


def drop(folder: Path) -> None:
    """Remove it: the run is about to be finished."""
    for name in (_CHOICE, _WEIGHTS):
        (folder / name).unlink(missing_ok=True)


def _tensors(calibrated: Calibrated) -> dict[str, Tensor]:
    """All weights; those of the dynamics, which model and body share, are written twice."""
    parts = (("model.", calibrated.model), ("body.", calibrated.body))
    return {prefix + k: v.clone() for prefix, module in parts for k, v in module.state_dict().items()}
