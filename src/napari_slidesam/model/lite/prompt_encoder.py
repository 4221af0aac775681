"""Prompts as tokens and as images.

Sparse prompts become tokens (positional encoding plus a learned type, as in SAM and Slide-SAM
2.2) and, because this network sees a viewport cut around them, also channels drawn into the
image: early fusion lets the first convolution know what is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

PAD, NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
"""Types of a prompt point; the corners of a box are two points, as in SAM."""

RASTER_CHANNELS = 6
"""Box, positive points, negative points, and the mask prompt of the three slices."""

POINT_SIGMA = 0.025
"""Standard deviation of the Gaussian drawn for a point, as a share of the viewport's side."""


@dataclass(frozen=True, slots=True)
class PromptTensors:
    """The prompts of B windows, padded to a common number of points N.

    Parameters
    ----------
    points_xy : Tensor of float32, shape (B, N, 2)
        Share of the viewport's side: 0 is its start, 1 its stop.
    point_types : Tensor of int64, shape (B, N)
        ``PAD``, ``NEGATIVE``, ``POSITIVE``, ``TOP_LEFT`` or ``BOTTOM_RIGHT``.
    masks : Tensor of float32, shape (B, 3, H, W), range [-1, 1]
        Mask prompt: 1 inside, -1 outside, 0 where nothing is known.
    """

    points_xy: torch.Tensor
    point_types: torch.Tensor
    masks: torch.Tensor


def rasterise(prompts: PromptTensors) -> torch.Tensor:
    """Draw the prompts; returns float32, shape (B, 6, H, W), mask channels as they came."""
    xy, types = prompts.points_xy, prompts.point_types
    height, width = prompts.masks.shape[-2:]
    b = xy.shape[0]
    ys = ((torch.arange(height, device=xy.device) + 0.5) / height).view(1, 1, height, 1)
    xs = ((torch.arange(width, device=xy.device) + 0.5) / width).view(1, 1, 1, width)
    is_start, is_stop = types == TOP_LEFT, types == BOTTOM_RIGHT
    has_box = is_start.any(dim=1).float().view(b, 1, 1, 1)
    start = (xy * is_start.unsqueeze(-1)).sum(dim=1).view(b, 2, 1, 1)
    stop = (xy * is_stop.unsqueeze(-1)).sum(dim=1).view(b, 2, 1, 1)
    sharpness = float(width)
    box = (
        torch.sigmoid((xs - start[:, :1]) * sharpness)
        * torch.sigmoid((stop[:, :1] - xs) * sharpness)
        * torch.sigmoid((ys - start[:, 1:]) * sharpness)
        * torch.sigmoid((stop[:, 1:] - ys) * sharpness)
    ) * has_box
    # A Gaussian of a distance is the product of those along x and y.
    along_x = torch.exp(-((xs.view(1, 1, -1) - xy[..., :1]) ** 2) / (2 * POINT_SIGMA**2))
    along_y = torch.exp(-((ys.view(1, 1, -1) - xy[..., 1:]) ** 2) / (2 * POINT_SIGMA**2))
    positive = _strongest(along_y * (types == POSITIVE).unsqueeze(-1), along_x)
    negative = _strongest(along_y * (types == NEGATIVE).unsqueeze(-1), along_x)
    return torch.cat([box, positive, negative, prompts.masks], dim=1)


def _strongest(along_y: torch.Tensor, along_x: torch.Tensor) -> torch.Tensor:
    """Return the greatest of N products (B, N, H) x (B, N, W) at each pixel: (B, 1, H, W)."""
    out = along_y[:, 0, :, None] * along_x[:, 0, None, :]
    for i in range(1, along_y.shape[1]):
        out = torch.maximum(out, along_y[:, i, :, None] * along_x[:, i, None, :])
    return out.unsqueeze(1)


class PromptTokens(nn.Module):
    """Points and box corners as tokens: random Fourier features plus a learned type."""

    frequencies: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, dim // 2))
        self.types = nn.Embedding(5, dim)

    def encode(self, xy: torch.Tensor) -> torch.Tensor:
        """Return (..., C) features of positions (..., 2) given as shares of the viewport."""
        angles = 2 * math.pi * ((2 * xy - 1) @ self.frequencies)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, prompts: PromptTensors) -> torch.Tensor:
        """Return tokens of shape (B, N, C); padding has its own learned type."""
        known = (prompts.point_types != PAD).unsqueeze(-1)
        out: torch.Tensor = self.encode(prompts.points_xy) * known + self.types(
            prompts.point_types + 1
        )
        return out
