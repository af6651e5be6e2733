"""Fitting a body's response to its commands: ridge regression per entry of proprio, over the few numbers it follows.

A log of some seconds moves many joints at once. An entry that may lean on all commands then explains its motion by
those of its neighbours, and is wrong as soon as they part: so an entry that has a command of its own sees that alone,
and is told by it, whatever the pictures say. Episodes kept out cannot decide either: they part from the others no more
than those do among themselves. They do decide for an entry without a command, as of a base that floats: whether the
response or the pictures tell it, and whether it sees all commands or all that is measured besides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from calibration.adapter_fit import Calibrated, Windows
from calibration.ridge import ridge
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.response import Response

_RIDGE = 1e-3  # share of the mean square of each number that the change is linear in
_CLEARLY = 0.8  # of the error over all commands, below which an entry without one of its own leans on everything


def own_command(command: CommandSpace, proprio_names: Sequence[str]) -> list[int | None]:
    """Which command each entry of proprio follows: `elbow_position` and `elbow_velocity` that which moves `elbow`."""
    index = {name: u for u, name in enumerate(command.moved)}
    bare = [name.removesuffix("_position").removesuffix("_velocity") for name in proprio_names]
    return [index.get(name, index.get(short)) for name, short in zip(proprio_names, bare, strict=True)]


@torch.no_grad()
def fit_response(
    response: Response,
    own: Sequence[int | None],
    chunk_NKU: Tensor,
    reference_NU: Tensor,
    proprio_NP: Tensor,
    after_NP: Tensor,
) -> None:
    """Fit in place, every entry by itself.

    Args:
        response: changed in place; which entries use it is decided in `settle`.
        own: see own_command; an entry without one sees all commands.
        chunk_NKU: in plan units.
        reference_NU: the command in force before the chunk, as a share of its limits.
        proprio_NP, after_NP: standardised, before and after the chunk.
    """
    K, U = chunk_NKU.shape[1:]
    weight = torch.zeros_like(response.linear.weight, dtype=torch.float64)
    bias = torch.zeros_like(response.linear.bias, dtype=torch.float64)
    inputs, change = _inputs(chunk_NKU, reference_NU, proprio_NP), (after_NP - proprio_NP).double()
    for entry, command in enumerate(own):
        commands = range(U) if command is None else [command]
        columns = [k * U + u for u in commands for k in range(K)] + [K * U + u for u in commands]
        columns.append(K * U + U + entry)
        found, bias[entry : entry + 1] = ridge(inputs[:, columns], change[:, entry : entry + 1], _RIDGE)
        weight[entry, columns] = found[:, 0]
    response.linear.weight.copy_(weight)
    response.linear.bias.copy_(bias)


@torch.no_grad()
def fit_together(
    response: Response, chunk_NKU: Tensor, reference_NU: Tensor, proprio_NP: Tensor, after_NP: Tensor
) -> None:
    """As `fit_response`, every entry over all commands and all of proprio."""
    inputs = _inputs(chunk_NKU, reference_NU, proprio_NP)
    weight, bias = ridge(inputs, (after_NP - proprio_NP).double(), _RIDGE)
    response.linear.weight.copy_(weight.T)
    response.linear.bias.copy_(bias)


def _inputs(chunk_NKU: Tensor, reference_NU: Tensor, proprio_NP: Tensor) -> Tensor:
    return torch.cat([chunk_NKU.flatten(1), reference_NU, proprio_NP], dim=1).double()


@torch.no_grad()
def settle(
    calibrated: Calibrated, names: Sequence[str], latents: Tensor, fitted: Windows, unseen: Windows
) -> list[str]:
    """Fit the response; use it for entries with a command of their own, and for what it tells better on other windows.

    Args:
        calibrated: fitted otherwise; its response is changed in place.
        names: of the entries of proprio.
        latents: of all frames of the log, (F, D).
        fitted, unseen: windows of the episodes that the fit saw, and of others.

    Returns:
        The names of the entries that use it.
    """
    body, history = calibrated.body, calibrated.model.config.history
    now, after = (fitted.rows[:, history - 1 :].unfold(1, 2, 1).flatten(0, 1)).unique(dim=0).unbind(dim=1)
    told = (
        fitted.chunks[now].unflatten(1, (body.command.frame_skip, -1)),
        body.command_map.share(fitted.reference[now]),
        body.standardize(fitted.proprio[now]),
        body.standardize(fitted.proprio[after]),
    )
    response, own = body.response, own_command(body.command, names)
    response.used_P.zero_()
    shown = _errors(calibrated, latents, unseen)
    response.used_P.fill_(1.0)
    fit_together(response, *told)
    together = _errors(calibrated, latents, unseen)
    weight, bias = response.linear.weight.clone(), response.linear.bias.clone()
    fit_response(response, own, *told)
    apart = _errors(calibrated, latents, unseen)
    commanded = torch.tensor([command is not None for command in own])
    joined = (together < _CLEARLY * apart) & ~commanded
    response.linear.weight[joined], response.linear.bias[joined] = weight[joined], bias[joined]
    response.used_P.copy_(commanded | (torch.where(joined, together, apart) < shown))
    return [name for name, used in zip(names, response.used_P, strict=True) if used]


def _errors(calibrated: Calibrated, latents: Tensor, unseen: Windows) -> Tensor:
    """Mean squared error (P,) of standardised proprio along windows."""
    history, rows = calibrated.model.config.history, unseen.rows
    proprio, start = calibrated.body.standardize(unseen.proprio[rows]), rows[:, history - 1]
    chunks = unseen.chunks[rows][:, history - 1 : -1]
    _, states, _ = calibrated.rollout(latents[rows], proprio[:, history - 1], unseen.reference[start], chunks)
    return (states - proprio[:, history:]).square().mean(dim=(0, 1))
