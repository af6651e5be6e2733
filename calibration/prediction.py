"""Open-loop prediction on the held-out part of a log, beside copying the last frame."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.adapter_fit import Calibrated, Windows, encode_all
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.page.plot import Quantity

ARRAYS = "prediction.npz"


@dataclass(frozen=True)
class Prediction:
    """Errors in the entries of proprio that measure a position [their own unit], k = 1 … K model steps ahead.

    Attributes:
        error_K: of the world model, read through the proprio head: root of the mean squared distance.
        copy_K: of leaving the measured proprio as it was.
        error_by_entry, copy_by_entry: the same one step ahead, of each entry that measures a position.
        square_WK: squared distances of every window, of which `error_K` is the root of the mean.
        read_error: of the proprio head on the true latents: what the encoder cannot tell.
        truth_nKYXC, nearest_nKYXC: frames that came, and the frames of the log nearest to the predicted latents.
    """

    error_K: NDArray[np.float64]
    copy_K: NDArray[np.float64]
    error_by_entry: NDArray[np.float64]
    copy_by_entry: NDArray[np.float64]
    square_WK: NDArray[np.float64]
    read_error: float
    truth_nKYXC: NDArray[np.uint8]
    nearest_nKYXC: NDArray[np.uint8]


@torch.no_grad()
def predict_held_out(calibrated: Calibrated, windows: Windows, shown: int, latents: Tensor | None = None) -> Prediction:
    """Roll every window out and compare with what came; `shown` of them, evenly spaced, as pictures.

    `latents` (F, D) are those of all frames, where they are known.
    """
    latents = encode_all(calibrated.model, windows.frames) if latents is None else latents
    history = calibrated.model.config.history
    rows = windows.rows
    proprio = calibrated.body.standardize(windows.proprio[rows])
    chunks = windows.chunks[rows][:, history - 1 : -1]
    reference = windows.reference[rows[:, history - 1]]
    predicted, states, _ = calibrated.rollout(latents[rows], proprio[:, history - 1], reference, chunks)
    read = calibrated.body.read(latents[rows][:, -history:])
    chosen = torch.linspace(0, len(rows) - 1, min(shown, len(rows))).long()
    nearest = torch.cdist(predicted[chosen].flatten(0, 1), latents).argmin(dim=1)
    position = calibrated.body.position_P.bool()

    def square(difference: Tensor) -> Tensor:
        return (difference * calibrated.body.proprio_std_P)[..., position].square().sum(-1)

    def by_entry(difference: Tensor) -> NDArray[np.float64]:
        each = (difference[:, 0] * calibrated.body.proprio_std_P)[..., position]
        return np.asarray(each.square().mean(0).sqrt().double().numpy())

    def distance(difference: Tensor) -> Tensor:
        return square(difference).mean(0).sqrt()

    shape = (len(chosen), predicted.shape[1], *windows.frames.shape[1:])
    return Prediction(
        distance(states - proprio[:, history:]).double().numpy(),
        distance(proprio[:, history - 1 : history] - proprio[:, history:]).double().numpy(),
        by_entry(states - proprio[:, history:]),
        by_entry(proprio[:, history - 1 : history] - proprio[:, history:]),
        square(states - proprio[:, history:]).double().numpy(),
        float(distance(read - proprio[:, -1])),
        windows.frames[rows[chosen][:, history:]].numpy(),
        windows.frames[nearest].reshape(shape).numpy(),
    )


def save_arrays(path: Path, prediction: Prediction, pictures: Prediction) -> None:
    """Write the frames shown and the errors by step, atomically."""
    arrays: dict[str, NDArray] = {
        "truth_frames": prediction.truth_nKYXC,
        "nearest_frames": prediction.nearest_nKYXC,
        "error_by_step": prediction.error_K,
        "pictures_error_by_step": pictures.error_K,
        "copy_error_by_step": prediction.copy_K,
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    files.write_atomic(path, buffer.getvalue())


def show(prediction: Prediction, pictures: Prediction, quantity: Quantity) -> None:
    """A table on the terminal: as the controller predicts, from pictures alone, and of holding still."""
    errors = zip(prediction.error_K, pictures.error_K, prediction.copy_K, strict=True)
    rows = [(k + 1, *(f"{quantity.per_si * error:.4g}" for error in row)) for k, row in enumerate(errors)]
    console.table(
        f"held-out error of the {quantity.what} [{quantity.unit}]: root of the mean squared distance over all of them",
        ("steps ahead", "as the controller predicts", "from pictures alone", "hold still"),
        rows,
    )
