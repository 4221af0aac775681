"""Image encoder: a convolutional stem to stride 8 and a transformer at stride 16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from napari_slidesam.model.lite.intensity_prior import PRIOR_CHANNELS, intensity_prior
from napari_slidesam.model.lite.layers import ResidualBlock, TransformerBlock, conv_bn_relu
from napari_slidesam.model.lite.prompt_encoder import RASTER_CHANNELS
from napari_slidesam.model.protocol import WINDOW_SLICES
from napari_slidesam.model.recompute import through

if TYPE_CHECKING:
    from napari_slidesam.model.lite.config import LiteConfig

PIXEL_MEAN, PIXEL_STD = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class StemFeatures:
    """Feature maps (B, C, H / stride, W / stride) that the decoder takes up again."""

    stride2: torch.Tensor
    stride4: torch.Tensor
    stride8: torch.Tensor


class ConvStem(nn.Module):
    """Three slices and the drawn prompts to features at strides 2, 4, 8 and 16."""

    recompute = False
    """Gradient checkpointing of the stages."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        c2, c4, c8 = config.stem_channels
        self.to2 = conv_bn_relu(WINDOW_SLICES + PRIOR_CHANNELS + RASTER_CHANNELS, c2, stride=2)
        self.to4 = nn.Sequential(conv_bn_relu(c2, c4, stride=2), ResidualBlock(c4))
        self.to8 = nn.Sequential(
            conv_bn_relu(c4, c8, stride=2), ResidualBlock(c8), ResidualBlock(c8)
        )
        self.to16 = conv_bn_relu(c8, config.embed_dim, stride=2)

    def forward(
        self, windows: torch.Tensor, raster: torch.Tensor
    ) -> tuple[StemFeatures, torch.Tensor]:
        """Return the skips and the map at stride 16, shape (B, C, H / 16, W / 16)."""
        prior = intensity_prior(windows, raster)
        x = torch.cat([(windows - PIXEL_MEAN) / PIXEL_STD, prior, raster], dim=1)
        stride2 = self.to2(x.contiguous(memory_format=torch.channels_last))
        stride4 = through(self.to4, stride2, recompute=self.recompute)
        stride8 = through(self.to8, stride4, recompute=self.recompute)
        return StemFeatures(stride2, stride4, stride8), self.to16(stride8)


class Trunk(nn.Module):
    """Transformer over the patches together with query and prompt tokens."""

    recompute = False
    """Gradient checkpointing of the blocks."""

    def __init__(self, config: LiteConfig) -> None:
        super().__init__()
        dim, grid = config.embed_dim, config.grid_size
        self.position = nn.Parameter(torch.randn(1, dim, grid, grid) * 0.02)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, config.num_heads) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, features: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the blocks over patches and tokens together.

        Parameters
        ----------
        features : Tensor, shape (B, C, h, w)
        tokens : Tensor, shape (B, T, C)

        Returns
        -------
        features, tokens : Tensors of the same shapes
        """
        b, c, h, w = features.shape
        position: torch.Tensor = self.position
        if position.shape[-2:] != (h, w):
            position = F.interpolate(position, size=(h, w), mode="bicubic", align_corners=False)
        patches = (features + position).flatten(2).transpose(1, 2)
        x = torch.cat([tokens.to(patches.dtype), patches], dim=1)
        for block in self.blocks:
            x = through(block, x, recompute=self.recompute)
        x = self.norm(x)
        n = tokens.shape[1]
        return x[:, n:].transpose(1, 2).reshape(b, c, h, w), x[:, :n]
