"""Crops seen otherwise: mirrored, turned, in other grey values, with the mask of a clumsy hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from napari_slidesam.model.coarse.features import KnownSlices

if TYPE_CHECKING:
    from napari_slidesam.tuning.coarse_pool_files import CropArrays

_BIAS_CELLS = 4
_OUTLINE_CELLS = 8
_LEAST_STEP = 2.0
"""Voxels between two known slices."""
_LEAST_AREA = 0.05
"""Of a further known slice's mask, over the centre slice's."""


@dataclass(frozen=True, slots=True)
class CoarseAugment:
    """How strongly crops are changed.

    ``gamma`` is the deviation of the exponent's logarithm, ``gain`` and ``offset`` are those of
    contrast and brightness, ``noise`` and ``bias`` the largest deviations of white noise and of a
    smooth field, for the ``noise_share`` and ``bias_share`` of the crops; ``inverted`` is a share,
    too. The ``clumsy`` share of the masks gets an outline moved by a smooth field of at most
    the strength ``outline``. ``turned`` mirrors crops along all axes and turns them in plane. In
    the ``several`` share of the crops more slices are known than the centre one: up to four,
    evenly spaced, on one side or on both.
    """

    turned: bool = True
    gamma: float = 0.3
    inverted: float = 0.1
    gain: float = 0.1
    offset: float = 0.05
    noise: float = 0.06
    noise_share: float = 0.4
    bias: float = 0.15
    bias_share: float = 0.3
    clumsy: float = 0.6
    outline: float = 0.35
    several: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class CropBatch:
    """Crops as the network takes them, with the truth.

    Parameters
    ----------
    images, truths : Tensor of float32, shape (B, N, N, N), range [0, 1]
    known : KnownSlices
    inside : Tensor of bool, shape (B, 3, N)
    """

    images: torch.Tensor
    truths: torch.Tensor
    known: KnownSlices
    inside: torch.Tensor

    @classmethod
    def of(cls, arrays: CropArrays, device: torch.device) -> CropBatch:
        """Return a pool's crops on a device."""
        images, truths, masks, inside = (torch.from_numpy(a).to(device) for a in arrays)
        known = KnownSlices.middle(masks.float() / 255)
        return cls(images.float() / 255, truths.float() / 255, known, inside)

    def mirrored(self, axis: int) -> CropBatch:
        """Return all crops mirrored along an axis of the cube."""
        inside = self.inside.clone()
        inside[:, axis] = inside[:, axis].flip(1)
        known = self.known
        if axis == 0:
            known = replace(known, places=self.images.shape[1] - 1 - known.places)
        else:
            known = replace(known, masks=known.masks.flip(axis + 1))
        return CropBatch(self.images.flip(axis + 1), self.truths.flip(axis + 1), known, inside)

    def transposed(self) -> CropBatch:
        """Return all crops with rows and columns exchanged."""
        return CropBatch(
            self.images.transpose(2, 3),
            self.truths.transpose(2, 3),
            replace(self.known, masks=self.known.masks.transpose(2, 3)),
            self.inside[:, [0, 2, 1]],
        )

    def where(self, chosen: torch.Tensor, other: CropBatch) -> CropBatch:
        """Return these crops where ``chosen``, of shape (B,), and else those of ``other``."""
        cube, plane = chosen.view(-1, 1, 1, 1), chosen.view(-1, 1, 1)
        masks = torch.where(cube, self.known.masks, other.known.masks)
        places = torch.where(chosen.view(-1, 1), self.known.places, other.known.places)
        return CropBatch(
            torch.where(cube, self.images, other.images),
            torch.where(cube, self.truths, other.truths),
            KnownSlices(masks, places),
            torch.where(plane, self.inside, other.inside),
        )


class CropAugmenter:
    """Changes crops by chance.

    Parameters
    ----------
    config : CoarseAugment
    generator : torch.Generator
        Source of all choices, on the crops' device.
    """

    def __init__(self, config: CoarseAugment, generator: torch.Generator) -> None:
        self.config, self._generator = config, generator

    def __call__(self, crops: CropBatch) -> CropBatch:
        """Return crops of the same shapes."""
        if self.config.turned:
            crops = self._turned(crops)
        images = self._in_other_greys(crops.images)
        known = self._with_others(crops)
        drawn = self._clumsy(known.masks.flatten(0, 1)).view_as(known.masks)
        return CropBatch(images, crops.truths, replace(known, masks=drawn), crops.inside)

    def _turned(self, crops: CropBatch) -> CropBatch:
        """Mirror along each axis and exchange rows and columns: all turns in plane, too."""
        count = len(crops.images)
        for axis in range(3):
            crops = crops.mirrored(axis).where(self._uniform(count) < 0.5, crops)
        return crops.transposed().where(self._uniform(count) < 0.5, crops)

    def _with_others(self, crops: CropBatch) -> KnownSlices:
        """Let more slices be known, as far as the object is there and the cube goes."""
        known, truths = crops.known, crops.truths
        count, n = truths.shape[:2]
        step = _LEAST_STEP + (n / 2 - _LEAST_STEP) * self._uniform(count, 1)
        offsets = step * torch.tensor([[1.0, -1.0, 2.0, -2.0]], device=truths.device)
        planes = (known.places[:, :1] + offsets).round()
        rows = torch.arange(count, device=truths.device).view(-1, 1)
        masks = truths[rows, planes.clamp(0, n - 1).long()]
        side = (3 * self._uniform(count, 1)).floor() - 1
        wanted = (self._uniform(count, 1) < self.config.several) & (offsets * side >= 0)
        area = masks.sum((2, 3)) / known.masks[:, :1].sum((2, 3)).clamp(min=1e-3)
        usable = wanted & (planes >= 0) & (planes <= n - 1) & (area > _LEAST_AREA)
        places = torch.where(usable, planes, torch.inf)
        return KnownSlices(
            torch.cat([known.masks, masks * usable.view(*usable.shape, 1, 1)], dim=1),
            torch.cat([known.places, places], dim=1),
        )

    def _in_other_greys(self, images: torch.Tensor) -> torch.Tensor:
        config, one = self.config, (len(images), 1, 1, 1)
        images = (images + 1e-4) ** torch.exp(config.gamma * self._normal(*one))
        images = torch.where(self._uniform(*one) < config.inverted, 1 - images, images)
        images = images * (1 + config.gain * self._normal(*one))
        images = images + config.offset * self._normal(*one)
        bias = config.bias * self._uniform(*one) * (self._uniform(*one) < config.bias_share)
        cells = self._normal(len(images), 1, *(_BIAS_CELLS,) * 3)
        field = F.interpolate(cells, images.shape[1:], mode="trilinear", align_corners=False)
        noise = config.noise * self._uniform(*one) * (self._uniform(*one) < config.noise_share)
        return (images + bias * field[:, 0] + noise * self._normal(*images.shape)).clamp(0, 1)

    def _clumsy(self, masks: torch.Tensor) -> torch.Tensor:
        """Move the outlines of some masks, in and out."""
        config, count = self.config, len(masks)
        cells = self._normal(count, 1, _OUTLINE_CELLS, _OUTLINE_CELLS)
        field = F.interpolate(cells, masks.shape[1:], mode="bicubic", align_corners=False)[:, 0]
        smooth = F.avg_pool2d(masks.unsqueeze(1), 3, 1, 1)[:, 0]
        moved = smooth + config.outline * self._uniform(count, 1, 1) * field > 0.5
        is_moved = (self._uniform(count) < config.clumsy) & moved.flatten(1).any(1)
        return torch.where(is_moved.view(-1, 1, 1), moved.to(masks.dtype), masks)

    def _uniform(self, *shape: int) -> torch.Tensor:
        generator = self._generator
        return torch.rand(shape, generator=generator, device=generator.device)

    def _normal(self, *shape: int) -> torch.Tensor:
        generator = self._generator
        return torch.randn(shape, generator=generator, device=generator.device)
