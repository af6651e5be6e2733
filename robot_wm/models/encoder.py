"""Frames to latents that keep where things are: spatial-softmax keypoints beside a small grid."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError
from robot_wm.models.layers import ResidualConv, area_matrix, conv


@dataclass(frozen=True)
class EncoderConfig:
    """Size of the encoder.

    Attributes:
        size: side of the square image that the convolutions see [px]; a multiple of 32.
        channels: at half, a quarter and an eighth of the size; multiples of 8.
        blocks: residual blocks at an eighth of the size, where one feature sees much of the picture.
        keypoints: number of spatial-softmax keypoints; each gives two entries of the latent.
        grid_channels: channels of the 4 × 4 grid; each gives sixteen entries of the latent.
    """

    size: int = 64
    channels: tuple[int, int, int] = (32, 64, 128)
    blocks: int = 3
    keypoints: int = 32
    grid_channels: int = 4

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("channels", max(self.channels)), ("keypoints", self.keypoints)):
            limits.refuse_over(f"model.encoder.{name}", value, limits.LAYER_WIDTH)
        limits.refuse_over("model.encoder.size squared", self.size**2, limits.PIXELS)
        limits.refuse_over("model.encoder.grid_channels", self.grid_channels, limits.LAYER_WIDTH)
        limits.refuse_over("model.encoder.blocks", self.blocks, limits.LAYERS)
        if self.size < 32 or self.size % 32:
            raise UserError(f"model.encoder.size is {self.size}", "Give a multiple of 32")
        if min(self.channels) < 8 or any(count % 8 for count in self.channels):
            raise UserError(f"model.encoder.channels is {self.channels}", "Give three multiples of 8")
        if min(self.keypoints, self.grid_channels) < 1 or self.blocks < 0:
            raise UserError(
                f"model.encoder: keypoints {self.keypoints}, grid_channels {self.grid_channels}, blocks {self.blocks}",
                "Give 1 or more of each; blocks may be 0",
            )

    @property
    def latent_dim(self) -> int:
        return 2 * self.keypoints + 16 * self.grid_channels


class Encoder(nn.Module):
    """A uint8 frame of any size to a latent of about unit variance per entry.

    Keypoints are expected positions under a softmax over each feature map (Finn et al., arXiv:1509.06113); the grid
    keeps what is not a point. Keypoint maps join what is near (a quarter of the size) with what the deepest features
    saw of the whole picture: which of several things is the hand shows only in its surroundings. Resizing and
    normalisation are inside, so that an exported graph takes camera frames.
    """

    coordinates_2YX: Tensor
    cells_S2: Tensor
    rows_SY: Tensor
    columns_XS: Tensor

    def __init__(self, config: EncoderConfig, height: int | None = None, width: int | None = None):
        """`height` and `width` of the incoming frames; None means they already have `config.size`."""
        super().__init__()
        self.config = config
        half, quarter, eighth = config.channels
        self.stem = conv(5, half, stride=2)
        self.near = conv(half, quarter, stride=2)
        self.far = nn.Sequential(conv(quarter, eighth, stride=2), *(ResidualConv(eighth) for _ in range(config.blocks)))
        self.join = conv(eighth + quarter, quarter)
        self.attention = nn.Conv2d(quarter, config.keypoints, 1)
        self.grid = nn.Conv2d(eighth, config.grid_channels, 1)
        self.pool = nn.AvgPool2d(config.size // 32)
        # eps: an entry that hardly varies is not blown up until rounding shows
        self.normalize = nn.BatchNorm1d(config.latent_dim, eps=1e-4, affine=False, momentum=0.05)
        axis = torch.linspace(-1, 1, config.size)
        self.register_buffer(
            "coordinates_2YX", torch.stack(torch.meshgrid(axis, axis, indexing="ij")), persistent=False
        )
        cell = torch.linspace(-1, 1, config.size // 4)
        cells = torch.stack(torch.meshgrid(cell, cell, indexing="ij")).flatten(1).T
        self.register_buffer("cells_S2", cells.contiguous(), persistent=False)
        self.resize_from(height or config.size, width or config.size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # halves a training step on the CPU

    def resize_from(self, height: int, width: int) -> None:
        """Set the size of the incoming frames."""
        device = self.attention.weight.device
        self.register_buffer("rows_SY", area_matrix(height, self.config.size).to(device), persistent=False)
        columns = area_matrix(width, self.config.size).T.contiguous()
        self.register_buffer("columns_XS", columns.to(device), persistent=False)

    def forward(self, frames_BYXC: Tensor) -> Tensor:
        """uint8 (or float in 0 to 255) frames (B, Y, X, 3) to latents (B, D)."""
        image_BCYX = frames_BYXC.permute(0, 3, 1, 2).to(self.cells_S2.dtype) / 127.5 - 1
        if image_BCYX.shape[-2:] != self.coordinates_2YX.shape[-2:]:
            image_BCYX = self.rows_SY @ image_BCYX @ self.columns_XS
        coordinates = self.coordinates_2YX.expand(image_BCYX.shape[0], -1, -1, -1)
        near = self.near(self.stem(torch.cat([image_BCYX, coordinates], dim=1)))
        far = self.far(near)
        joined = self.join(torch.cat([F.interpolate(far, scale_factor=2.0, mode="nearest"), near], dim=1))
        keypoints, grid = self._keypoints(joined), self.pool(self.grid(far)).flatten(1)
        return self.normalize(torch.cat([keypoints, grid.to(keypoints.dtype)], dim=1))

    def _keypoints(self, features_BCYX: Tensor) -> Tensor:
        """(B, 2 · keypoints) in [-1, 1], in full precision whatever the features have: half of it is a pixel apart.

        A matrix product would be cast down under autocast, so products are summed instead.
        """
        attention_BKS = self.attention(features_BCYX).flatten(2).float().softmax(dim=-1)
        return torch.stack([(attention_BKS * axis_S).sum(-1) for axis_S in self.cells_S2.T], dim=-1).flatten(1)
