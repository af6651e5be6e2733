"""Ridge regression in closed form, for every part of a calibration that is linear in few numbers."""

import torch
from torch import Tensor


@torch.no_grad()
def ridge(x_NX: Tensor, y_NY: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weight (X, Y) and bias (Y,), float64, of `y` as a linear function of `x`.

    Args:
        x_NX, y_NY: N rows; each column of `x` counts in units of its own deviation.
        penalty: on the weights, as a share of N; the bias is free.
    """
    x_NX, y_NY = x_NX.double(), y_NY.double()
    mean_X, mean_Y = x_NX.mean(0), y_NY.mean(0)
    x_NX, y_NY = x_NX - mean_X, y_NY - mean_Y
    scale_X = x_NX.square().mean(0).sqrt().clamp(min=1e-9)
    x_NX = x_NX / scale_X
    square_XX = x_NX.T @ x_NX / len(x_NX) + penalty * torch.eye(x_NX.shape[1], dtype=x_NX.dtype)
    weight_XY = torch.linalg.solve(square_XX, x_NX.T @ y_NY / len(x_NX)) / scale_X[:, None]
    return weight_XY, mean_Y - mean_X @ weight_XY
