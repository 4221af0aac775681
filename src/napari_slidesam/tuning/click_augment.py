"""Views of clicks seen otherwise: turned, mirrored, in other grey values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.tuning.click_views import ClickSample


@dataclass(frozen=True, slots=True)
class ClickAugment:
    """How strongly views are changed.

    ``gamma`` is the deviation of the exponent's logarithm, ``bias`` the largest slope of
    brightness from the click to the last ring, ``inverted`` a share of the views. ``turned``
    turns views by any angle and mirrors half of them.
    """

    turned: bool = True
    gamma: float = 0.3
    bias: float = 0.3
    inverted: float = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class ClickBatch:
    """Views as the network takes them, with the truth.

    Parameters
    ----------
    images, truths : Tensor of float32, shape (B, rings, angles)
        Grey values, and how much of a sample is the object, range [0, 1].
    inside : Tensor of bool, shape (B, rings, angles)
    """

    images: torch.Tensor
    truths: torch.Tensor
    inside: torch.Tensor

    @classmethod
    def of(cls, views: Sequence[ClickSample], device: torch.device) -> ClickBatch:
        """Return views on a device."""
        arrays = (np.stack([getattr(v, k) for v in views]) for k in ("image", "truth", "inside"))
        return cls(*(torch.from_numpy(a).to(device) for a in arrays))

    def __len__(self) -> int:
        return len(self.images)


class ClickAugmenter:
    """Changes views by chance.

    Parameters
    ----------
    config : ClickAugment
    octaves : float
        As in `napari_slidesam.model.click.config.ClickConfig`.
    generator : torch.Generator
        Source of all choices, on the views' device.
    """

    def __init__(self, config: ClickAugment, octaves: float, generator: torch.Generator) -> None:
        self.config, self._octaves, self._generator = config, octaves, generator

    def __call__(self, views: ClickBatch) -> ClickBatch:
        """Return views of the same shapes."""
        images = self._in_other_greys(views.images)
        if not self.config.turned:
            return ClickBatch(images, views.truths, views.inside)
        count, _, angles = images.shape
        places = torch.arange(angles, device=images.device) + self._integers(angles, count, 1)
        places = places % angles
        places = torch.where(self._uniform(count, 1) < 0.5, places.flip(1), places)
        index = places[:, None].expand(images.shape)
        return ClickBatch(*(t.gather(2, index) for t in (images, views.truths, views.inside)))

    def _in_other_greys(self, images: torch.Tensor) -> torch.Tensor:
        config, one = self.config, (len(images), 1, 1)
        low, high = images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True)
        images = (images - low) / (high - low).clamp(min=1e-6)
        images = (images + 1e-4) ** torch.exp(config.gamma * self._normal(*one))
        images = torch.where(self._uniform(*one) < config.inverted, 1 - images, images)
        _, rings, angles = images.shape
        ring = torch.arange(rings, device=images.device)[:, None] / rings - 1
        turn = torch.arange(angles, device=images.device) / angles + self._uniform(*one)
        slope = config.bias * self._uniform(*one) * 2 ** (ring * self._octaves)
        return images * (1 + slope * torch.cos(turn * 2 * math.pi))

    def _uniform(self, *shape: int) -> torch.Tensor:
        generator = self._generator
        return torch.rand(shape, generator=generator, device=generator.device)

    def _normal(self, *shape: int) -> torch.Tensor:
        generator = self._generator
        return torch.randn(shape, generator=generator, device=generator.device)

    def _integers(self, stop: int, *shape: int) -> torch.Tensor:
        generator = self._generator
        return torch.randint(stop, shape, generator=generator, device=generator.device)
