"""Frames to latents that keep where things are: spatial-softmax keypoints beside a small grid."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_wm.contracts.errors import UserError
from robot_wm.models.layers import area_matrix


@dataclass(frozen=True)
class EncoderConfig:
    """Size of the encoder.

    Attributes:
        size: side of the square image that the convolutions see [px]; a multiple of 16.
        channels: of the four convolutions; all but the first are multiples of 8.
        keypoints: number of spatial-softmax keypoints; each gives two entries of the latent.
        grid_channels: channels of the 4 × 4 grid; each gives sixteen entries of the latent.
    """

    size: int = 64
    channels: tuple[int, int, int, int] = (24, 48, 64, 64)
    keypoints: int = 32
    grid_channels: int = 4

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 16:
            raise UserError(f"model.encoder.size is {self.size}", "Give a multiple of 16")
        if min(self.channels) < 1 or any(count % 8 for count in self.channels[1:]):
            raise UserError(f"model.encoder.channels is {self.channels}", "Give multiples of 8; the first may be any")
        if min(self.keypoints, self.grid_channels) < 1:
            raise UserError(
                f"model.encoder: keypoints {self.keypoints}, grid_channels {self.grid_channels}",
                "Both must be at least 1",
            )

    @property
    def latent_dim(self) -> int:
        return 2 * self.keypoints + 16 * self.grid_channels


class Encoder(nn.Module):
    """A uint8 frame of any size to a latent of about unit variance per entry.

    Keypoints are expected positions under a softmax over each feature map (Finn et al., arXiv:1509.06113); the grid
    keeps what is not a point. Resizing and normalisation are inside, so that an exported graph takes camera frames.
    """

    coordinates_2YX: Tensor
    cells_S2: Tensor
    rows_SY: Tensor
    columns_XS: Tensor

    def __init__(self, config: EncoderConfig, height: int | None = None, width: int | None = None):
        """`height` and `width` of the incoming frames; None means they already have `config.size`."""
        super().__init__()
        self.config = config
        c1, c2, c3, c4 = config.channels
        self.features = nn.Sequential(
            nn.Conv2d(5, c1, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(c1, c2, 3, stride=2, padding=1),
            nn.GroupNorm(8, c2),
            nn.SiLU(),
            nn.Conv2d(c2, c3, 3, padding=1),
            nn.GroupNorm(8, c3),
            nn.SiLU(),
            nn.Conv2d(c3, c4, 3, padding=1),
            nn.GroupNorm(8, c4),
            nn.SiLU(),
        )
        self.attention = nn.Conv2d(c4, config.keypoints, 1)
        self.grid = nn.Conv2d(c4, config.grid_channels, 1)
        self.pool = nn.AvgPool2d(config.size // 16)
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
        features = self.features(torch.cat([image_BCYX, coordinates], dim=1))
        attention_BKS = self.attention(features).flatten(2).softmax(dim=-1)
        keypoints = (attention_BKS @ self.cells_S2).flatten(1)
        grid = self.pool(self.grid(features)).flatten(1)
        return self.normalize(torch.cat([keypoints, grid], dim=1))
