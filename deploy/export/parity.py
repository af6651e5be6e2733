"""Numeric parity: what the robot will run against what was trained, on inputs that were really recorded."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploy.runtime.graph import CPU, Graph, encode_signature, head_signature, plan_signature
from robot_wm import console
from robot_wm.contracts.bundle import ENCODE_FILE, HEAD_FILE, PLAN_FILE, TIPPED, ControllerSpec
from robot_wm.contracts.errors import UserError

PLAN_OUTPUTS = ("command", "cost", "uncertainty", "next_warm", "imagined")
MOST_TIPPED = 0.1
_SUSPECT = 1e-5  # a difference above this is looked into
_TRIALS = 24
_ROUNDING = 16 * torch.finfo(torch.float32).eps  # relative; what a few layers of float32 accumulate


@dataclass(frozen=True)
class Recorded:
    """Inputs taken from a log of the body, one row per model step.

    Attributes:
        frames_NYXC: uint8 frames of the bundle's camera.
        proprio_NP: proprio with each frame, in its own units, float32.
        reference_NU: the command in force when each frame was taken [the command's unit], float32.
    """

    frames_NYXC: NDArray[np.uint8]
    proprio_NP: NDArray[np.float32]
    reference_NU: NDArray[np.float32]

    def __post_init__(self) -> None:
        sizes = {len(self.frames_NYXC), len(self.proprio_NP), len(self.reference_NU)}
        if len(sizes) != 1 or sizes == {0}:
            raise UserError(f"recorded inputs have {sorted(sizes)} rows", "Give the same number of each, at least one")


def measure(
    encoder: nn.Module,
    planner: nn.Module,
    folder: Path,
    spec: ControllerSpec,
    recorded: Recorded,
    seed: int,
    one_shot: nn.Module | None = None,
) -> dict[str, float]:
    """Largest absolute difference per output between PyTorch and the graphs in `folder`.

    Every recorded frame is encoded, and every recorded row planned from twice: cold, and warm-started from what the
    cold plan returned. Both sides of a plan get the same latents and the same noise. Differences are absolute, in the
    outputs' own units.

    The search keeps the best candidates. Where two of them cost the same to within rounding, either choice is right and
    the plans part: PyTorch itself then answers differently to inputs that are a few rounding steps away. Such plans are
    set aside and counted: none of their outputs enters the figures.

    Returns:
        `latent`, `command`, `cost`, `uncertainty`, `next_warm` and `imagined`; infinite where a side is not finite. And
        `tipped`, the share of plans set aside. With `one_shot` also `head_command`, `head_cost`, … of the command head
        on the same problems.
    """
    encode = Graph(folder / ENCODE_FILE, encode_signature(spec), [CPU])
    plan = Graph(folder / PLAN_FILE, plan_signature(spec), [CPU])
    head = Graph(folder / HEAD_FILE, head_signature(spec), [CPU]) if one_shot is not None else None
    worst = dict.fromkeys(("latent", *PLAN_OUTPUTS), 0.0)
    latents = []
    for row in range(len(recorded.frames_NYXC)):
        frame = torch.from_numpy(recorded.frames_NYXC[row : row + 1])
        expected, found = _compare(encoder, encode, {"frame": frame})
        latents.append(expected["latent"])
        worst["latent"] = max(worst["latent"], found["latent"])
    tipped = 0
    problems = _plan_inputs(torch.cat(latents), recorded, spec, seed)
    for cold in console.track(problems, "export (compare with PyTorch)", len(latents)):
        if one_shot is not None and head is not None:
            _, found = _compare(one_shot, head, {name: cold[name] for name in head.inputs})
            worst |= {f"head_{name}": max(worst.get(f"head_{name}", 0.0), value) for name, value in found.items()}
        inputs = cold
        for _ in ("cold", "warm"):
            expected, found = _compare(planner, plan, inputs)
            if _SUSPECT < max(found.values()) < float("inf") and _tips(planner, inputs, expected, found):
                tipped += 1
            else:
                worst |= {name: max(worst[name], value) for name, value in found.items()}
            inputs = {**cold, "warm": expected["next_warm"]}
    return worst | {TIPPED: tipped / (2 * len(latents))}


def _plan_inputs(z_ND: Tensor, recorded: Recorded, spec: ControllerSpec, seed: int) -> Iterator[dict[str, Tensor]]:
    """One planning problem per recorded row: its own history, and another row's latent as the goal."""
    num = len(z_ND)
    generator = torch.Generator().manual_seed(seed)
    goals = torch.randperm(num, generator=generator)
    signature, _ = plan_signature(spec)
    for row in range(num):
        past = [max(0, row - age) for age in reversed(range(spec.history))]
        inputs = {
            "history": z_ND[past][None],
            "goal": z_ND[goals[row]][None],
            "proprio": torch.from_numpy(recorded.proprio_NP[row : row + 1]),
            "reference": torch.from_numpy(recorded.reference_NU[row : row + 1]),
            "warm": torch.zeros(signature["warm"][1]),
            "noise": torch.randn(signature["noise"][1], generator=generator),
        }
        if "target" in signature:  # proprio to reach is given for every other problem, for half of its entries
            target = torch.from_numpy(recorded.proprio_NP)[goals[row]][None].clone()
            target[:, :: 2 if row % 2 else 1] = float("nan")
            inputs["target"] = target
        if spec.ahead:  # each pending chunk holds the command that was in force at another row
            others = torch.randint(num, (spec.ahead,), generator=generator)
            chunks = torch.from_numpy(recorded.reference_NU)[others][:, None]
            inputs["pending"] = chunks.expand(signature["pending"][1]).contiguous()
        yield inputs


@torch.no_grad()
def _tips(
    planner: nn.Module, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor], found: Mapping[str, float]
) -> bool:
    """Whether PyTorch parts from itself about as far when the latents move by rounding alone."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(_TRIALS):
        rounding = _ROUNDING * torch.randn(inputs["history"].shape, generator=generator)
        again = planner(*{**inputs, "history": inputs["history"] * (1 + rounding)}.values())
        moved = {name: float((a - b).abs().max()) for (name, a), b in zip(expected.items(), again, strict=True)}
        if all(moved[name] >= 0.5 * value for name, value in found.items() if value > _SUSPECT):
            return True
    return False


@torch.no_grad()
def _compare(
    module: nn.Module, graph: Graph, inputs: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Run both sides: PyTorch's outputs by name, and the largest difference of each."""
    results = module(*inputs.values())
    expected = dict(zip(graph.outputs, results if isinstance(results, tuple) else (results,), strict=True))
    differences = {}
    for name, value in inputs.items():
        graph.inputs[name][:] = value.numpy()
    graph.run()
    for name, value in expected.items():
        difference = np.abs(graph.outputs[name].astype(np.float64) - value.numpy())
        differences[name] = float(difference.max()) if np.isfinite(difference).all() else float("inf")
    return expected, differences
