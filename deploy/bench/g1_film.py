"""What the calibrated model imagines of a real robot, to look at: the nearest real picture to every predicted latent.

    python -m deploy.bench.g1_film FOLDER

writes `g1_prediction.jpg` and `g1_prediction.mp4`: above what came, below what was foretold from the first picture and
the commands alone, as the nearest picture among those that the fit saw. The episodes are none of those.
"""

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.adapter_fit import FitConfig, Windows
from calibration.candidate import Candidate, fit_candidate
from deploy.bench.g1_log import LOG, Bench, encode_rows
from robot_wm.data import encoder

_STEPS, _SHOWN, _TRANSITIONS = 8, 3, 1000
_WIDTH_PX, _GAP_PX, _FPS = 128, 6, 5.0


@torch.no_grad()
def imagined(bench: Bench, candidate: Candidate, windows: Windows) -> Tensor:
    """Predicted latents (W, H, D) of windows."""
    calibrated, history = candidate.calibrated, bench.model.config.history
    rows, latents = windows.rows, encode_rows(candidate.calibrated.model, windows)
    start = rows[:, history - 1]
    proprio = calibrated.body.standardize(windows.proprio[start])
    chunks = windows.chunks[rows][:, history - 1 : -1]
    predicted, _, _ = calibrated.rollout(latents[rows], proprio, windows.reference[start], chunks)
    return predicted


def liveliest(bench: Bench) -> Windows:
    """The windows of the judged episodes in which the joints move most, one of an episode."""
    windows, history = bench.windows(_STEPS), bench.model.config.history
    ends = windows.proprio[windows.rows[:, [history - 1, -1]]][..., bench.moving_P]
    moved = (ends[:, 1] - ends[:, 0]).square().mean(-1)
    chosen: dict[int, int] = {}
    for index in moved.argsort(descending=True).tolist():
        chosen.setdefault(int(bench.log.episode_F[int(windows.rows[index, 0])]), index)
    kept = torch.tensor(list(chosen.values())[:_SHOWN])
    return Windows(windows.frames, windows.proprio, windows.chunks, windows.reference, windows.rows[kept])


def sheet(bench: Bench, windows: Windows, predicted_WHD: Tensor, seen: Tensor) -> NDArray[np.uint8]:
    """For each window a row of what came and one of what was foretold; `seen` are the latents of the fit's frames."""
    history, frames = bench.model.config.history, bench.log.frames_FYXC
    lines = []
    for rows, predicted in zip(windows.rows, predicted_WHD, strict=True):
        came = frames[rows[history - 1 :].numpy()]
        foretold = [came[0], *frames[torch.cdist(predicted, seen).argmin(1).numpy()]]
        lines += [_line(list(came)), _line(foretold), np.full((_GAP_PX, _line(foretold).shape[1], 3), 255, np.uint8)]
    return np.concatenate(lines[:-1])


def _line(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.concatenate([_large(picture) for picture in pictures], axis=1)


def _large(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (_WIDTH_PX, _WIDTH_PX), interpolation=cv2.INTER_CUBIC), np.uint8)


def main(folder: Path) -> None:
    """Fit to 1,000 transitions, draw the sheet, and film it column by column."""
    bench = Bench.open(Path(os.environ.get("ROBOT_WM_TEST_DATA", "../shared/data")) / LOG, folder / "cache", False)
    part = bench.first(_TRANSITIONS)
    ground = bench.ground(part, FitConfig(), 0)
    candidate = fit_candidate(ground, "learned", np.unique(part.episode_F), lambda **_: None)
    windows = liveliest(bench)
    drawn = sheet(bench, windows, imagined(bench, candidate, windows), candidate.latents)
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "g1_prediction.jpg"), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    columns = [drawn[:, i * _WIDTH_PX : (i + 1) * _WIDTH_PX] for i in range(_STEPS + 1)]
    even = [column[: len(column) // 2 * 2] for column in columns]
    encoder.encode(folder / "g1_prediction.mp4", np.stack(even), _FPS)
    print(folder / "g1_prediction.jpg")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
