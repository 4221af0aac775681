"""The image encoder: segment-anything's ViT with `RelPosAttention`, under its parameter names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from segment_anything.modeling.common import LayerNorm2d, MLPBlock
from segment_anything.modeling.image_encoder import PatchEmbed
from torch import nn

from napari_slidesam.model.protocol import WINDOW_SLICES
from napari_slidesam.model.recompute import through
from napari_slidesam.model.sam.attention import RelPosAttention

if TYPE_CHECKING:
    from napari_slidesam.model.sam.config import SamConfig

_NORM_EPS = 1e-6
_MLP_RATIO = 4


class EncoderBlock(nn.Module):
    """Pre-norm attention and MLP over patches (B, H, W, C)."""

    def __init__(self, config: SamConfig, *, window_size: int) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = RelPosAttention(
            dim, config.num_heads, window_size=window_size, grid_size=config.grid_size
        )
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = MLPBlock(embedding_dim=dim, mlp_dim=_MLP_RATIO * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the patches after one block, same shape."""
        x = x + self.attn(self.norm1(x))
        out: torch.Tensor = x + self.mlp(self.norm2(x))
        return out


class ImageEncoder(nn.Module):
    """Three slices, taken for an image's three channels, to one embedding (paper 2.2)."""

    recompute = False
    """Gradient checkpointing of the blocks."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        dim, out = config.embed_dim, config.prompt_embed_dim
        patch = (config.patch_size, config.patch_size)
        self.patch_embed = PatchEmbed(
            kernel_size=patch, stride=patch, in_chans=WINDOW_SLICES, embed_dim=dim
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid_size, config.grid_size, dim))
        self.blocks = nn.ModuleList(
            EncoderBlock(
                config, window_size=0 if i in config.global_attn_indexes else config.window_size
            )
            for i in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(dim, out, 1, bias=False),
            LayerNorm2d(out),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            LayerNorm2d(out),
        )

    def set_layout(self, memory_format: torch.memory_format) -> None:
        """Lay the convolutions' weights out in this order."""
        for part in (self.patch_embed, self.neck):
            part.to(memory_format=memory_format)

    def forward(self, images: torch.Tensor, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Encode.

        Parameters
        ----------
        images : Tensor of float32, shape (B, 3, H, W)
            Normalised by the pixel mean and standard deviation.
        dtype : torch.dtype
            The blocks' products are computed in it; the sums between them, the patches and the
            neck stay in float32.

        Returns
        -------
        Tensor of float32, shape (B, C, H / patch, W / patch)
        """
        x = self.patch_embed(images) + self.pos_embed
        reduced = dtype != torch.float32
        with torch.autocast(images.device.type, dtype if reduced else None, enabled=reduced):
            for block in self.blocks:
                x = through(block, x, recompute=self.recompute)
        out: torch.Tensor = self.neck(x.float().permute(0, 3, 1, 2))
        return out
