"""Views of boxes seen otherwise: mirrored, in other grey values."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_slidesam.model.outline.features import view_ticks
from napari_slidesam.tuning.labelled import MAX_VALUE
from napari_slidesam.tuning.outline_views import MASK_VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.outline_views import OutlineSample

_MIRRORED_BOX = ((2, 1, 0, 3), (0, 3, 2, 1))
"""Which of a box's y0, x0, y1, x1 come where, mirrored along y and along x."""


@dataclass(frozen=True, slots=True)
class OutlineAugment:
    """How strongly views are changed.

    ``turned`` mirrors views along both axes, exchanges rows and columns and reverses the slices,
    each in half of them. In the ``changed_share`` of the views ``gamma`` is the deviation of the
    exponent's logarithm and ``slope`` that of the brightness along each axis; ``inverted`` is a
    share of all, and the ``noise_share`` gets white noise of at most ``noise``.
    """

    turned: bool = True
    gamma: float = 0.35
    slope: float = 0.2
    changed_share: float = 0.6
    inverted: float = 0.15
    noise: float = 0.05
    noise_share: float = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class OutlineBatch:
    """Views as the network takes them, with the truth.

    Parameters
    ----------
    images : Tensor of float32, shape (B, slices, side, side)
    truths : Tensor of float32, shape (B, side, side), range [0, 1]
        How much of a sample is the object.
    inside : Tensor of bool, shape (B, side, side)
    boxes : Tensor of float32, shape (B, 4)
    """

    images: torch.Tensor
    truths: torch.Tensor
    inside: torch.Tensor
    boxes: torch.Tensor

    @classmethod
    def of(cls, views: Sequence[OutlineSample], device: torch.device) -> OutlineBatch:
        """Return views on a device."""
        batch = cls(
            images=_stacked([v.images for v in views]).float() / MAX_VALUE,
            truths=_stacked([v.truth for v in views]).float() / MASK_VALUE,
            inside=_stacked([v.inside for v in views]),
            boxes=_stacked([v.box for v in views]),
        )
        return cls(**{f.name: getattr(batch, f.name).to(device) for f in fields(batch)})

    def __len__(self) -> int:
        return len(self.images)

    def mirrored(self, axis: int) -> OutlineBatch:
        """Return all views mirrored along y (0) or x (1)."""
        sign = self.boxes.new_ones(4)
        sign[axis::2] = -1
        flipped = {k: getattr(self, k).flip(axis - 2) for k in _PLANES}
        boxes = self.boxes[:, _MIRRORED_BOX[axis]] * sign
        return OutlineBatch(boxes=boxes, **flipped)

    def transposed(self) -> OutlineBatch:
        """Return all views with rows and columns exchanged."""
        turned = {k: getattr(self, k).transpose(-2, -1) for k in _PLANES}
        return OutlineBatch(boxes=self.boxes[:, [1, 0, 3, 2]], **turned)

    def reversed(self) -> OutlineBatch:
        """Return all views with the slices before and after exchanged."""
        return replace(self, images=self.images.flip(1))

    def where(self, chosen: torch.Tensor, other: OutlineBatch) -> OutlineBatch:
        """Return these views where ``chosen``, of shape (B,), and else those of ``other``."""
        mixed = {}
        for field in fields(self):
            mine: torch.Tensor = getattr(self, field.name)
            shape = (-1, *(1,) * (mine.ndim - 1))
            mixed[field.name] = torch.where(chosen.view(shape), mine, getattr(other, field.name))
        return OutlineBatch(**mixed)


_PLANES = ("images", "truths", "inside")
"""Tensors whose last axes are a view's rows and columns."""


class OutlineAugmenter:
    """Changes views by chance.

    Parameters
    ----------
    config : OutlineAugment
    generator : torch.Generator
        Source of all choices, on the views' device.
    """

    def __init__(self, config: OutlineAugment, generator: torch.Generator) -> None:
        self.config, self._generator = config, generator

    def __call__(self, views: OutlineBatch) -> OutlineBatch:
        """Return views of the same shapes."""
        if self.config.turned:
            views = self._turned(views)
        return replace(views, images=self._in_other_greys(views.images))

    def _turned(self, views: OutlineBatch) -> OutlineBatch:
        """Mirror along each axis and exchange rows and columns: all right angles, too."""
        count = len(views)
        for axis in (0, 1):
            views = views.mirrored(axis).where(self._uniform(count) < 0.5, views)
        views = views.transposed().where(self._uniform(count) < 0.5, views)
        return views.reversed().where(self._uniform(count) < 0.5, views)

    def _in_other_greys(self, images: torch.Tensor) -> torch.Tensor:
        config, one, side = self.config, (len(images), 1, 1, 1), images.shape[-1]
        is_changed = (self._uniform(*one) < config.changed_share).to(images.dtype)
        images = (images + 1e-4) ** torch.exp(config.gamma * is_changed * self._normal(*one))
        images = torch.where(self._uniform(*one) < config.inverted, 1 - images, images)
        ticks = view_ticks(side, images)
        slope_y, slope_x = (config.slope * is_changed * self._normal(*one) for _ in range(2))
        images = images * (1 + slope_y * ticks[:, None] + slope_x * ticks)
        noise = config.noise * self._uniform(*one) * (self._uniform(*one) < config.noise_share)
        return images + noise * self._normal(*images.shape)

    def _uniform(self, *shape: int) -> torch.Tensor:
        generator = self._generator
        return torch.rand(shape, generator=generator, device=generator.device)

    def _normal(self, *shape: int) -> torch.Tensor:
        generator = self._generator
        return torch.randn(shape, generator=generator, device=generator.device)


def _stacked(arrays: Sequence[NDArray[Any]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))
