"""The coarse network: a small 3D U-Net on a cube around the prompted slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.features import N_FEATURES, KnownSlices, features

if TYPE_CHECKING:
    from collections.abc import Mapping


class Block(nn.Module):
    """Two 3x3x3 convolutions with group normalisation, around a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv3d(c_in, c_out, 3, stride, 1)
        self.first_norm = nn.GroupNorm(c_out // 8, c_out)
        self.second = nn.Conv3d(c_out, c_out, 3, 1, 1)
        self.second_norm = nn.GroupNorm(c_out // 8, c_out)
        is_same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if is_same else nn.Conv3d(c_in, c_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return SiLU(f(x) + shortcut(x))."""
        hidden = F.silu(self.first_norm(self.first(x)))
        hidden = self.second_norm(self.second(hidden))
        return F.silu(hidden + self.shortcut(x))


class CoarseNetwork(nn.Module):
    """From a cube of grey values and the masks of some of its slices to the object in the cube.

    Parameters
    ----------
    config : CoarseConfig
    """

    def __init__(self, config: CoarseConfig | None = None) -> None:
        super().__init__()
        self.config = CoarseConfig() if config is None else config
        half, quarter, eighth = self.config.widths
        self.stem = nn.Conv3d(N_FEATURES * 8, half, 1)
        self.down_half = Block(half, half)
        self.down_quarter = Block(half, quarter, 2)
        self.down_eighth = Block(quarter, eighth, 2)
        self.middle = Block(eighth, eighth)
        self.to_quarter = nn.Conv3d(eighth, quarter, 1)
        self.up_quarter = Block(quarter, quarter)
        self.to_half = nn.Conv3d(quarter, half, 1)
        self.up_half = Block(half, half)
        self.head = nn.Conv3d(half, 8, 3, 1, 1)

    def forward(
        self, images: torch.Tensor, known: KnownSlices, inside: torch.Tensor
    ) -> torch.Tensor:
        """Return logits of the object.

        Parameters
        ----------
        images : Tensor of float32, shape (B, N, N, N), range [0, 1]
        known : KnownSlices
        inside : Tensor of bool, shape (B, 3, N)

        Returns
        -------
        Tensor of float32, shape (B, N, N, N)
            The object is where they are > 0.
        """
        with torch.autocast(images.device.type, enabled=False):
            channels = features(images, known, inside)
        x = self.stem(_folded(channels))
        half = self.down_half(x)
        quarter = self.down_quarter(half)
        eighth = self.middle(self.down_eighth(quarter))
        quarter = self.up_quarter(quarter + _doubled(self.to_quarter(eighth)))
        half = self.up_half(half + _doubled(self.to_half(quarter)))
        return _unfolded(self.head(half))


def with_last_feature(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give weights from before the last feature was there zeros for it: they say the same."""
    name = "stem.weight"
    weight = state.get(name)
    if weight is None or weight.shape[1] != (N_FEATURES - 1) * 8:
        return dict(state)
    zeros = weight.new_zeros(weight.shape[0], 8, *weight.shape[2:])
    return {**state, name: torch.cat([weight, zeros], dim=1)}


def _folded(x: torch.Tensor) -> torch.Tensor:
    """Put each 2x2x2 of (B, C, N, N, N) into the channels: (B, 8C, N/2, N/2, N/2)."""
    b, c, *sides = x.shape
    d, h, w = (side // 2 for side in sides)
    parts = x.view(b, c, d, 2, h, 2, w, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return parts.reshape(b, c * 8, d, h, w)


def _unfolded(x: torch.Tensor) -> torch.Tensor:
    """Take (B, 8, n, n, n) apart again: (B, 2n, 2n, 2n)."""
    b, _, d, h, w = x.shape
    parts = x.view(b, 2, 2, 2, d, h, w).permute(0, 4, 1, 5, 2, 6, 3)
    return parts.reshape(b, 2 * d, 2 * h, 2 * w)


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
