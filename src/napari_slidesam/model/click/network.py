"""The click network: a small 2D U-Net on a log-polar image, closed along its angles."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.features import N_FEATURES, features


class RingConv(nn.Conv2d):
    """A 3x3 convolution whose image is closed along its columns, the angles."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, 3, stride, 0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the convolution; the first and last ring are repeated."""
        closed = F.pad(input, (1, 1, 0, 0), mode="circular")
        return super().forward(F.pad(closed, (0, 0, 1, 1), mode="replicate"))


class Block(nn.Module):
    """Two convolutions with group normalisation, around a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = RingConv(c_in, c_out, stride)
        self.first_norm = nn.GroupNorm(c_out // 8, c_out)
        self.second = RingConv(c_out, c_out)
        self.second_norm = nn.GroupNorm(c_out // 8, c_out)
        is_same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if is_same else nn.Conv2d(c_in, c_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return SiLU(f(x) + shortcut(x))."""
        hidden = F.silu(self.first_norm(self.first(x)))
        hidden = self.second_norm(self.second(hidden))
        return F.silu(hidden + self.shortcut(x))


class ClickNetwork(nn.Module):
    """From a log-polar image around a click to the object in it.

    Parameters
    ----------
    config : ClickConfig
    """

    def __init__(self, config: ClickConfig | None = None) -> None:
        super().__init__()
        self.config = ClickConfig() if config is None else config
        widths = self.config.widths
        self.stem = nn.Conv2d(N_FEATURES * 4, widths[0], 1)
        sizes = list(zip((widths[0], *widths[:-1]), widths, strict=True))
        self.down = nn.ModuleList(
            Block(c_in, c_out, 1 if k == 0 else 2) for k, (c_in, c_out) in enumerate(sizes)
        )
        self.middle = Block(widths[-1], widths[-1])
        self.across = nn.ModuleList(nn.Conv2d(c_out, c_in, 1) for c_in, c_out in sizes[:0:-1])
        self.up = nn.ModuleList(Block(c_in, c_in) for c_in, _ in sizes[:0:-1])
        self.head = RingConv(widths[0], 4)

    def forward(self, images: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Return logits of the object.

        Parameters
        ----------
        images : Tensor of float32, shape (B, rings, angles)
            Stored values.
        inside : Tensor of bool, shape (B, rings, angles)

        Returns
        -------
        Tensor of float32, shape (B, rings, angles)
            The object is where they are > 0.
        """
        with torch.autocast(images.device.type, enabled=False):
            channels = features(images, inside)
        x = self.stem(F.pixel_unshuffle(channels, 2))
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.middle(x)
        for across, block, skip in zip(self.across, self.up, skips[-2::-1], strict=True):
            x = block(skip + F.interpolate(across(x), scale_factor=2.0, mode="nearest"))
        logits: torch.Tensor = F.pixel_shuffle(self.head(x), 2)[:, 0]
        return logits
