"""The outline network: a small 2D U-Net on a view stretched to its box."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.features import FEATURES_BESIDE_SLICES, features


class Block(nn.Module):
    """Two convolutions with group normalisation, around a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out, 3, stride, 1)
        self.first_norm = nn.GroupNorm(c_out // 16, c_out)
        self.second = nn.Conv2d(c_out, c_out, 3, 1, 1)
        self.second_norm = nn.GroupNorm(c_out // 16, c_out)
        is_same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if is_same else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return SiLU(f(x) + shortcut(x))."""
        hidden = F.silu(self.first_norm(self.first(x)))
        hidden = self.second_norm(self.second(hidden))
        return F.silu(hidden + self.shortcut(x))


class OutlineNetwork(nn.Module):
    """From slices around a box to the object on the middle one.

    Parameters
    ----------
    config : OutlineConfig
    """

    def __init__(self, config: OutlineConfig | None = None) -> None:
        super().__init__()
        self.config = OutlineConfig() if config is None else config
        widths = self.config.widths
        channels = FEATURES_BESIDE_SLICES + self.config.slices
        self.stem = nn.Conv2d(channels * 4, widths[0], 3, 1, 1)
        sizes = list(zip((widths[0], *widths[:-1]), widths, strict=True))
        self.down = nn.ModuleList(
            Block(c_in, c_out, 1 if k == 0 else 2) for k, (c_in, c_out) in enumerate(sizes)
        )
        self.middle = Block(widths[-1], widths[-1])
        self.across = nn.ModuleList(nn.Conv2d(c_out, c_in, 1) for c_in, c_out in sizes[:0:-1])
        self.up = nn.ModuleList(Block(c_in, c_in) for c_in, _ in sizes[:0:-1])
        self.head = nn.Conv2d(widths[0], 4, 3, 1, 1)
        self.quality = nn.Linear(widths[-1], 1)

    def forward(
        self,
        images: torch.Tensor,
        inside: torch.Tensor,
        boxes: torch.Tensor,
        clicks: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits of the object and of their own quality.

        Parameters
        ----------
        images, inside, boxes, clicks : Tensors
            As for `napari_slidesam.model.outline.features.features`.

        Returns
        -------
        logits : Tensor, shape (B, side, side)
            The object is where they are > 0.
        quality : Tensor, shape (B,)
            Logits of the Dice that is expected of them.
        """
        with torch.autocast(images.device.type, enabled=False):
            channels = features(images, inside, boxes, clicks)
        x = self.stem(F.pixel_unshuffle(channels, 2))
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.middle(x)
        quality: torch.Tensor = self.quality(x.mean((2, 3)))[:, 0]
        for across, block, skip in zip(self.across, self.up, skips[-2::-1], strict=True):
            x = block(skip + F.interpolate(across(x), scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.head(x), 2)[:, 0], quality
