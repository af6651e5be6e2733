"""From two pictures of a log, some model steps apart, to the commands that led from one to the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from calibration.adapter_fit import Windows
from calibration.ridge import ridge
from deploy.bench.result import Row
from robot_wm.models.body import Body
from robot_wm.planning.feedback import linear_steps

_BELOW = 0.7  # to be reached: error as a share of the nearest neighbour's
_BATCH = 512
_RIDGES = (1.0, 10.0, 100.0, 1e6)  # the last says nothing but the mean
_DOUBTS = (1.0, 4.0, 16.0, 64.0, 1e6)  # factors of a covariance that some seconds of a log show
_OWN = 0.1  # see _covariance
_CHANGE_WEIGHT = 2.0  # of the change between two pictures, against the pictures themselves, in what makes them alike


@dataclass(frozen=True)
class Pairs:
    """Starts and goals, `ahead` model steps apart, and the commands that were sent between them.

    Attributes:
        history_WTD, goal_WD: latents of the pictures up to the start, and of the goal's.
        proprio_WP, before_WP, came_WP: measured at the start, a model step before, and at the goal, in their own units.
        reference_WU: in force at the start.
        lately_WU: mean change of the command over the last half step before the start, in plan units.
        plan_WHU, sent_WCU: the commands between in plan units, and those of the C control ticks in physical ones.
    """

    history_WTD: Tensor
    goal_WD: Tensor
    proprio_WP: Tensor
    before_WP: Tensor
    came_WP: Tensor
    reference_WU: Tensor
    lately_WU: Tensor
    plan_WHU: Tensor
    sent_WCU: Tensor

    @property
    def alike_WD(self) -> Tensor:
        """What two pairs are compared by: both pictures, and what changed between them."""
        now = self.history_WTD[:, -1]
        return torch.cat([now, self.goal_WD, _CHANGE_WEIGHT * (self.goal_WD - now)], dim=1)

    def of(self, rows: Tensor) -> "Pairs":
        """Some of them."""
        return Pairs(*(x[rows] for x in vars(self).values()))


def joined(*parts: Pairs) -> Pairs:
    """All of them."""
    return Pairs(*(torch.cat(same) for same in zip(*(vars(part).values() for part in parts), strict=True)))


def pairs(windows: Windows, latents_FD: Tensor, body: Body, ahead: int) -> Pairs:
    """Those of windows of `body.history + ahead` model steps or more."""
    rows, history = windows.rows, body.history
    start, ticks = rows[:, history - 1], body.command.frame_skip
    chunks = windows.chunks[rows[:, history - 1 : history - 1 + ahead]].unflatten(2, (ticks, -1))
    lately = windows.chunks[rows[:, history - 2]].unflatten(1, (ticks, -1))
    reference = windows.reference[start]
    changes = chunks.flatten(1, 2) * body.command_map.max_step
    return Pairs(
        latents_FD[rows[:, :history]],
        latents_FD[rows[:, history - 1 + ahead]],
        windows.proprio[start],
        windows.proprio[rows[:, history - 2]],
        windows.proprio[rows[:, history - 1 + ahead]],
        reference,
        lately[:, ticks // 2 :].mean(1),
        chunks.mean(2),
        reference[:, None] + changes.cumsum(dim=1),
    )


@torch.no_grad()
def planned(body: Body, known: Pairs, unfitted: Pairs, asked: Pairs) -> tuple[Tensor, Tensor]:
    """The likeliest plans (W, H, U) to be at the goal's picture, and those that are likely before it is looked at.

    A log shows what its commands are like: a linear guess from what the robot does now, and how plans spread about it.
    Its goal is known as well as pictures are read and the response foretells: within what both were off by on one half
    of the pairs that nothing was fitted to, times the doubt that suits the other half best. All taken as normal, the
    likeliest plan follows in closed form.

    Args:
        body: calibrated.
        known: pairs of the episodes that the body was fitted to.
        unfitted: pairs of others with labels.
        asked: what to plan.
    """
    shape, num = known.plan_WHU.shape[1:], body.proprio_dim
    weight, bias, off_WV = _habit(body, known, unfitted)
    spread_VV, habit_WV = _covariance(off_WV), _stimulus(body, asked) @ weight + bias
    ahead_XX, moved_XV, drift_X = _ahead(body, shape[0])
    moved_PV = moved_XV[:num]

    def foretold(pairs: Pairs, plan_WV: Tensor) -> Tensor:
        seen = torch.cat([body.standardize(pairs.proprio_WP), body.command_map.share(pairs.reference_WU)], 1).double()
        return (seen @ ahead_XX.T + plan_WV @ moved_XV.T + drift_X)[:, :num]

    estimating, choosing = (unfitted.of(half) for half in torch.arange(len(unfitted.goal_WD)).tensor_split(2))
    share_P = _share(body, estimating)
    wrong_PP = _covariance(
        _shown(body, estimating, share_P) - foretold(estimating, estimating.plan_WHU.flatten(1).double())
    )

    def correct(pairs: Pairs, habit_WV: Tensor, doubt: float) -> Tensor:
        gain = spread_VV @ moved_PV.T @ torch.linalg.inv(moved_PV @ spread_VV @ moved_PV.T + doubt * wrong_PP)
        return habit_WV + (_shown(body, pairs, share_P) - foretold(pairs, habit_WV)) @ gain.T

    came, usually = choosing.plan_WHU.flatten(1), _stimulus(body, choosing) @ weight + bias
    doubt = min(_DOUBTS, key=lambda d: float((correct(choosing, usually, d) - came).square().mean()))
    found_WV = correct(asked, habit_WV, doubt)
    return found_WV.float().unflatten(1, shape), habit_WV.float().unflatten(1, shape)


def _habit(body: Body, known: Pairs, unfitted: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and bias of plans as a linear function of the stimulus, and what it is off by on unfitted pairs."""
    tried = [ridge(_stimulus(body, known), known.plan_WHU.flatten(1), penalty) for penalty in _RIDGES]
    came, stimulus = unfitted.plan_WHU.flatten(1).double(), _stimulus(body, unfitted)
    off = [came - stimulus @ weight - bias for weight, bias in tried]
    best = min(range(len(off)), key=lambda i: float(off[i].square().mean()))
    return *tried[best], off[best]


def _stimulus(body: Body, pairs: Pairs) -> Tensor:
    """What a guess at the next commands is linear in."""
    now, before = body.standardize(pairs.proprio_WP), body.standardize(pairs.before_WP)
    return torch.cat([now, before, body.command_map.share(pairs.reference_WU), pairs.lately_WU], dim=1).double()


def _shown(body: Body, pairs: Pairs, share_P: Tensor) -> Tensor:
    """Proprio (W, P) that the goals' pictures show, less a share of what the starts' are misread by."""
    now = body.observe(pairs.history_WTD, body.standardize(pairs.proprio_WP))
    return (_read(body, pairs) + share_P * now.offset_BP).double()


def _read(body: Body, pairs: Pairs) -> Tensor:
    return body.read(pairs.goal_WD[:, None].expand(-1, body.history, -1))


def _share(body: Body, pairs: Pairs) -> Tensor:
    """The share (P,) of what a start is misread by that its goal is misread by as well, from 0 to 1; least squares."""
    before = body.observe(pairs.history_WTD, body.standardize(pairs.proprio_WP)).offset_BP
    after = body.standardize(pairs.came_WP) - _read(body, pairs)
    return ((before * after).sum(0) / before.square().sum(0).clamp(min=1e-9)).clamp(0, 1)


def _covariance(off_WV: Tensor) -> Tensor:
    """Mean outer product; every number counts a share more for itself, so that few rows are not believed."""
    found = off_WV.T @ off_WV / len(off_WV)
    return found + _OWN * found.diag().diag() + 1e-4 * found.diag().mean() * torch.eye(len(found)).double()


def _ahead(body: Body, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Proprio and command in force after so many steps, as x, plan and 1 tell it: see `linear_steps`."""
    A, B, offset = linear_steps(body.response, body.command_map)
    ahead, moved, drift = torch.eye(len(A)).double(), torch.zeros(len(A), steps * B.shape[1]).double(), 0 * offset
    for step in range(steps):
        ahead, moved, drift = A @ ahead, A @ moved, A @ drift + offset
        moved[:, step * B.shape[1] : (step + 1) * B.shape[1]] += B
    return ahead, moved, drift


def commanded(body: Body, plan_WHU: Tensor, reference_WU: Tensor) -> Tensor:
    """The commands (W, C, U) of a whole plan."""
    chunks = []
    for plan_WU in plan_WHU.unbind(dim=1):
        chunk_WKU, _ = body.command_map(plan_WU, reference_WU)
        chunks.append(chunk_WKU)
        reference_WU = chunk_WKU[:, -1]
    return torch.cat(chunks, dim=1)


def copied_from(known: Pairs, asked: Pairs, changes: bool) -> Tensor:
    """The commands (W, C, U) of the pair of `known` whose pictures are nearest.

    `changes` carries over by how much they changed from the command in force, which knows where the robot is.
    """
    there = known.alike_WD
    nearest = torch.cat([torch.cdist(part, there).argmin(dim=1) for part in asked.alike_WD.split(_BATCH)])
    sent = known.sent_WCU[nearest]
    return sent - known.reference_WU[nearest][:, None] + asked.reference_WU[:, None] if changes else sent


def usual(known: Pairs, asked: Pairs) -> Tensor:
    """The mean command of every tick (W, C, U)."""
    return known.sent_WCU.mean(0).expand_as(asked.sent_WCU)


def held(asked: Pairs) -> Tensor:
    """The command in force, (W, C, U)."""
    return asked.reference_WU[:, None].expand_as(asked.sent_WCU)


def error_rad(found_WCU: Tensor, asked: Pairs, moving_U: Tensor) -> float:
    """Root of the mean square over ticks and the joints that move."""
    return float((found_WCU - asked.sent_WCU)[..., moving_U].square().mean().sqrt())


def rows(ahead: int, moving_U: Tensor, tried: Sequence[tuple[Pairs, Pairs, Tensor, Tensor]]) -> list[Row]:
    """What plans are off by, beside the references; the targets are shares of the nearest neighbours'.

    Args:
        ahead: model steps between two pictures.
        moving_U: joints that count.
        tried: of every seed, the pairs known and asked, and the commands (W, C, U) planned and those of habit.
    """

    def mean(key: str, found: Sequence[Tensor]) -> Row:
        errors = [error_rad(sent, asked, moving_U) for sent, (_, asked, _, _) in zip(found, tried, strict=True)]
        several = {"low": min(errors), "high": max(errors)} if len(errors) > 1 else {}
        label = f"G1 commands between pictures {ahead} steps apart, {key}"
        return Row(label, float(np.mean(errors)), "rad", n=len(errors), better="lower", **several)

    found = [
        mean("mean command", [usual(known, asked) for known, asked, _, _ in tried]),
        mean("hold", [held(asked) for _, asked, _, _ in tried]),
        mean("what the log's commands are like", [habit for *_, habit in tried]),
    ]
    plan = mean("planned", [sent for _, _, sent, _ in tried])
    for key, changes in (("nearest neighbour", False), ("nearest neighbour, its changes", True)):
        other = mean(key, [copied_from(known, asked, changes) for known, asked, _, _ in tried])
        beside = replace(plan, metric=f"{plan.metric} (beside {key})", reference=other.value)
        assert other.value is not None
        found += [other, replace(beside, target=_BELOW * other.value if ahead == 4 else None)]
    return found
