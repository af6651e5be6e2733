"""The plan that a body's response alone would choose: linear in where it is and should be, hence in closed form."""

import torch
from torch import Tensor, nn

from robot_wm.models.body import Problem
from robot_wm.models.command import CommandMap
from robot_wm.models.response import Response


class Feedback(nn.Module):
    """From a planning problem to a whole plan, as `CommandHead` has it, without a search and without training.

    The response tells proprio linearly from commands, so that the plan of least cost is a linear function of proprio,
    of the command in force and of the goal: finite-horizon linear-quadratic control (Anderson and Moore, "Optimal
    Control: Linear Quadratic Methods", 1990, chapter 2). Limits are left out of the solution and applied to it.

    It sees no picture: the goal's proprio says all of it, and what the response does not tell it gets wrong.
    """

    gain_VX: Tensor
    start_V: Tensor

    def __init__(
        self,
        response: Response,
        command_map: CommandMap,
        horizon: int,
        weight_P: Tensor,
        effort: float = 0.01,
        last: bool = False,
    ):
        """Solve once for all problems.

        Args:
            response: as calibration has fitted it.
            command_map: of the body's commands.
            horizon: model steps.
            weight_P: what the squared distance of each entry of proprio (standardised) to the goal's counts.
            effort: weight of the mean squared plan; keeps plans from using more than they need.
            last: distances count at the horizon's end alone, not on average over its steps.
        """
        super().__init__()
        self.horizon, self.command_map = horizon, command_map
        A, B, offset = linear_steps(response, command_map)
        num, dim, wide = len(weight_P), command_map.space.dim, len(A)
        ahead_XX, moved_XV, drift_X = torch.eye(wide).double(), torch.zeros(wide, horizon * dim).double(), 0 * offset
        normal_VV = effort / (horizon * dim) * torch.eye(horizon * dim).double()
        toward_VG, away_VX, bias_V = (torch.zeros(horizon * dim, n).double() for n in (num, wide, 1))
        for step in range(horizon):
            ahead_XX, moved_XV, drift_X = A @ ahead_XX, A @ moved_XV, A @ drift_X + offset
            moved_XV[:, step * dim : (step + 1) * dim] += B
            if last and step < horizon - 1:
                continue
            weighted_VP = (moved_XV[:num] * weight_P.double()[:, None]).T / (num if last else num * horizon)
            normal_VV = normal_VV + weighted_VP @ moved_XV[:num]
            toward_VG = toward_VG + weighted_VP
            away_VX = away_VX + weighted_VP @ ahead_XX[:num]
            bias_V = bias_V + (weighted_VP @ drift_X[:num])[:, None]
        solved = torch.linalg.solve(normal_VV, torch.cat([toward_VG, -away_VX, -bias_V], dim=1)).float()
        self.register_buffer("gain_VX", solved[:, :-1].contiguous())
        self.register_buffer("start_V", solved[:, -1].contiguous())

    def forward(self, problem: Problem) -> Tensor:
        """A plan (B, H, U) in plan units, each entry in [-1, 1]."""
        return self.plan(problem.now.proprio_BP, problem.reference_BU, problem.goal.proprio_BP)

    def plan(self, proprio_BP: Tensor, reference_BU: Tensor, goal_BP: Tensor) -> Tensor:
        """As `forward`, from standardised proprio, the command in force and standardised proprio to reach."""
        seen_BX = torch.cat([goal_BP, proprio_BP, self.command_map.share(reference_BU)], dim=1)
        plan_BV = seen_BX @ self.gain_VX.T + self.start_V
        return plan_BV.clamp(-1, 1).unflatten(1, (self.horizon, -1))


def linear_steps(response: Response, command_map: CommandMap) -> tuple[Tensor, Tensor, Tensor]:
    """One model step as the response tells it, limits aside: x' = A x + B u + offset, float64.

    x is standardised proprio, then the command in force as a share of its limits; u the plan's entry, held over the
    step.
    """
    num, ticks, dim = len(response.used_P), command_map.space.frame_skip, command_map.space.dim
    weight = response.linear.weight.double()
    chunk_PU = weight[:, : ticks * dim].unflatten(1, (ticks, dim)).sum(1)
    share_PU, proprio_PP = weight[:, ticks * dim : (ticks + 1) * dim], weight[:, (ticks + 1) * dim :]
    A = torch.zeros(num + dim, num + dim).double()
    A[:num, :num], A[:num, num:] = torch.eye(num).double() + proprio_PP, share_PU
    B = torch.zeros(num + dim, dim).double()
    B[:num] = chunk_PU
    if command_map.space.is_position:
        A[num:, num:] = torch.eye(dim)
        B[num:] = torch.diag(ticks * command_map.max_step / ((command_map.high - command_map.low) / 2)).double()
    else:
        B[num:] = torch.eye(dim)
    return A, B, torch.cat([response.linear.bias.double(), torch.zeros(dim).double()])
