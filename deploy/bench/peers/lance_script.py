"""Runs in the environment of stable-worldmodel, which has none of our packages: prints windows per second as JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

_ROUNDS, _ROUND_S = 9, 0.8


def main() -> None:
    from stable_worldmodel.data import LanceDataset, LanceWriter  # type: ignore[import-not-found]

    request = json.loads(sys.argv[1])
    folder, rates = Path(request["folder"]), {}
    for size in request["sizes"]:
        table = folder / f"film{size}.lance"
        with LanceWriter(table) as writer:
            writer.write_episodes({"pixels": list(frames)} for frames in np.load(folder / f"film{size}.npy"))
        dataset = LanceDataset(table, num_steps=request["window"])
        found = [_rates(dataset, request["batch"], workers) for workers in (0, 2)]
        rates[size] = max(found, key=lambda values: float(np.median(values)))  # whichever way is the faster
    print(json.dumps(rates))


def _rates(dataset: Any, batch: int, workers: int) -> list[float]:
    """Windows per second, round by round, through torch's loader as its documentation shows."""
    torch.set_num_threads(2)
    sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=1_000_000)
    loader = torch.utils.data.DataLoader(
        dataset, batch, sampler=sampler, num_workers=workers, prefetch_factor=None if workers == 0 else 4
    )
    batches, values = iter(loader), []
    for _ in range(4):
        next(batches)
    for _ in range(_ROUNDS):
        count, started_s = 0, time.perf_counter()
        while (passed_s := time.perf_counter() - started_s) < _ROUND_S:
            count += len(next(batches)["pixels"])
        values.append(count / passed_s)
    return values


if __name__ == "__main__":
    main()
