"""Fitting a body's response to its commands: ridge regression per entry of proprio, over the few numbers it follows.

A log of some seconds moves many joints at once. An entry that may lean on all commands then explains its motion by
those of its neighbours, and is wrong as soon as they part: so an entry that has a command of its own sees that alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from calibration.adapter_fit import Calibrated, Windows
from calibration.ridge import ridge
from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.response import Response

_RIDGE = 1e-3  # share of the mean square of each number that the change is linear in


def own_command(command: CommandSpace, proprio_names: Sequence[str]) -> list[int | None]:
    """Which command each entry of proprio follows by its name: `elbow_position` and `elbow_velocity` follow `elbow`."""
    index = {name: u for u, name in enumerate(command.names)}
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
    inputs = torch.cat([chunk_NKU.flatten(1), reference_NU, proprio_NP], dim=1).double()
    change = (after_NP - proprio_NP).double()
    for entry, command in enumerate(own):
        commands = range(U) if command is None else [command]
        columns = [k * U + u for u in commands for k in range(K)] + [K * U + u for u in commands]
        columns.append(K * U + U + entry)
        found, bias[entry : entry + 1] = ridge(inputs[:, columns], change[:, entry : entry + 1], _RIDGE)
        weight[entry, columns] = found[:, 0]
    response.linear.weight.copy_(weight)
    response.linear.bias.copy_(bias)


@torch.no_grad()
def settle(
    calibrated: Calibrated, names: Sequence[str], latents: Tensor, fitted: Windows, unseen: Windows
) -> list[str]:
    """Fit the response, and use it for the entries of proprio that it tells better on windows not fitted to.

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
    fit_response(
        body.response,
        own_command(body.command, names),
        fitted.chunks[now].unflatten(1, (body.command.frame_skip, -1)),
        body.command_map.share(fitted.reference[now]),
        body.standardize(fitted.proprio[now]),
        body.standardize(fitted.proprio[after]),
    )
    rows = unseen.rows
    proprio, start = body.standardize(unseen.proprio[rows]), rows[:, history - 1]
    errors = []
    for used in (0.0, 1.0):
        body.response.used_P.fill_(used)
        _, states, _ = calibrated.rollout(
            latents[rows], proprio[:, history - 1], unseen.reference[start], unseen.chunks[rows][:, history - 1 : -1]
        )
        errors.append((states - proprio[:, history:]).square().mean(dim=(0, 1)))
    body.response.used_P.copy_(errors[1] < errors[0])
    return [name for name, used in zip(names, body.response.used_P, strict=True) if used]
