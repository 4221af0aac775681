"""Mask decoder: one upscaling branch per slice, hypernetwork heads shared by the branches.

Slide-SAM 2.2: the feature map is expanded from one to three (one per slice), "followed with the
same heads": candidate j on slice i is F_i . H_sj (equation 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from napari_slidesam.model.lite.layers import ResidualBlock, conv_bn_relu
from napari_slidesam.model.protocol import WINDOW_SLICES

if TYPE_CHECKING:
    from napari_slidesam.model.lite.config import LiteConfig
    from napari_slidesam.model.lite.encoder import StemFeatures


def _mlp(dim: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, out))


class SliceBranch(nn.Module):
    """Features at stride 4 and the skip at stride 2 to one slice's features at stride 2."""

    def __init__(self, c4: int, c2: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(c4, c2, 2, 2)
        self.skip = nn.Conv2d(c2, c2, 1)
        self.norm = nn.BatchNorm2d(c2)
        self.fuse = conv_bn_relu(c2, c2)

    def forward(self, stride4: torch.Tensor, stride2: torch.Tensor) -> torch.Tensor:
        """Return (B, C, H / 2, W / 2)."""
        x = torch.relu(self.norm(self.up(stride4) + self.skip(stride2)))
        out: torch.Tensor = self.fuse(x)
        return out


class MaskDecoder(nn.Module):
    """Trunk features, skips and query tokens to mask logits, predicted IoU and presence."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c2, c4, c8 = config.stem_channels
        dim = config.embed_dim
        self.reduce8 = nn.Conv2d(dim, c8, 1)
        self.fuse8 = ResidualBlock(c8)
        self.reduce4 = nn.Conv2d(c8, c4, 1)
        self.skip4 = nn.Conv2d(c4, c4, 1)
        self.fuse4 = ResidualBlock(c4)
        self.branches = nn.ModuleList(SliceBranch(c4, c2) for _ in range(WINDOW_SLICES))
        self.heads = nn.ModuleList(_mlp(dim, c2) for _ in range(config.num_candidates))
        self.bias = nn.Parameter(torch.zeros(1))
        self.iou_head = _mlp(dim, config.num_candidates)
        self.presence_head = _mlp(dim, WINDOW_SLICES)

    def forward(
        self, features: torch.Tensor, skips: StemFeatures, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decode.

        Parameters
        ----------
        features : Tensor, shape (B, C, H / 16, W / 16)
        skips : StemFeatures
        tokens : Tensor, shape (B, 1 + M, C)
            The quality token and one token per candidate.

        Returns
        -------
        mask_logits : Tensor, shape (B, M, 3, H / 2, W / 2)
        iou_logits : Tensor, shape (B, M)
        presence_logits : Tensor, shape (B, 3)
        """
        x = F.interpolate(self.reduce8(features), scale_factor=2, mode="nearest")
        x = self.fuse8(x + skips.stride8)
        x = F.interpolate(self.reduce4(x), scale_factor=2, mode="nearest")
        x = self.fuse4(x + self.skip4(skips.stride4))
        heads = torch.stack([head(tokens[:, 1 + j]) for j, head in enumerate(self.heads)], dim=1)
        slices = torch.stack([branch(x, skips.stride2) for branch in self.branches], dim=1)
        scale = 2 * heads.shape[-1] ** -0.5
        logits = torch.einsum("bmc,bschw->bmshw", heads * scale, slices.to(heads.dtype))
        return logits + self.bias, self.iou_head(tokens[:, 0]), self.presence_head(tokens[:, 0])
