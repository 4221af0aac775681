"""Random views of whole planes, before prompts are drawn on them and networks look at them.

All slices of a run change alike, but for a small difference of brightness and for noise, so
that they stay in register. Whoever looks at the planes afterwards does so as inference does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from numpy.typing import NDArray


_STRIDE = 4
"""Of the pixels whose percentiles are taken."""


@dataclass(frozen=True, slots=True)
class PlaneAugmentConfig:
    """Shares and sizes of the random changes.

    Grey values change in units of what 98 % of the planes' values span.

    Parameters
    ----------
    mirror : bool
        Flips and quarter turns of the plane, and slices in the opposite order.
    rotate_share, rotate_std_rad, scale_std : float
        Small turns and scalings, of a share of the windows.
    gamma_share, gamma_std : float
    invert_share : float
        Dark for bright; useful only where images of both kinds come.
    contrast_std, brightness_std, slice_std : float
        Of all slices alike, and of each slice's brightness.
    noise_share, noise_max : float
        Gaussian noise of up to this standard deviation.
    """

    mirror: bool = True
    rotate_share: float = 0.3
    rotate_std_rad: float = 0.2
    scale_std: float = 0.1
    gamma_share: float = 0.4
    gamma_std: float = 0.3
    invert_share: float = 0.0
    contrast_std: float = 0.1
    brightness_std: float = 0.05
    slice_std: float = 0.015
    noise_share: float = 0.3
    noise_max: float = 0.06

    def __post_init__(self) -> None:
        for name in ("rotate_share", "gamma_share", "invert_share", "noise_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise TuningError(f"{name} is a share from 0 to 1; got {getattr(self, name)}.")


NO_AUGMENTATION = PlaneAugmentConfig(
    mirror=False,
    rotate_share=0.0,
    gamma_share=0.0,
    contrast_std=0.0,
    brightness_std=0.0,
    slice_std=0.0,
    noise_share=0.0,
)
"""Planes as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceRun:
    """Adjacent slices with the masks of one object.

    Parameters
    ----------
    images : ndarray of float32, shape (S, Y, X), range about [0, 1]
    masks : ndarray of bool, shape (S, Y, X)
    """

    images: NDArray[np.float32]
    masks: NDArray[np.bool_]


def augmented(
    run: SliceRun, config: PlaneAugmentConfig, rng: np.random.Generator
) -> tuple[SliceRun, bool]:
    """Return a random view of the slices, and whether their order was turned around."""
    images, masks, is_reversed = run.images, run.masks, False
    if config.mirror:
        quarters, flips = int(rng.integers(4)), rng.random(2) < 0.5
        images = np.rot90(images, quarters, axes=(1, 2))
        masks = np.rot90(masks, quarters, axes=(1, 2))
        if flips[0]:
            images, masks = images[:, ::-1], masks[:, ::-1]
        is_reversed = bool(flips[1])
        if is_reversed:
            images, masks = images[::-1], masks[::-1]
    out = SliceRun(np.ascontiguousarray(images), np.ascontiguousarray(masks))
    if rng.random() < config.rotate_share:
        angle = float(rng.normal(0, config.rotate_std_rad))
        out = _turned(out, angle, math.exp(float(rng.normal(0, config.scale_std))))
    return SliceRun(_intensities(out.images, config, rng), out.masks), is_reversed


def _turned(run: SliceRun, angle: float, scale: float) -> SliceRun:
    """Rotate and scale around the object; as they were where a mask would be lost by it."""
    n, height, width = run.images.shape
    rows, cols = np.nonzero(run.masks.any(axis=0))
    if rows.size == 0:
        return run
    centre = torch.tensor([cols.mean() + 0.5, rows.mean() + 0.5], dtype=torch.float32)
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float32)
    ys, xs = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1) - centre
    places = grid @ turn.T + centre
    places = 2 * places / torch.tensor([width, height], dtype=torch.float32) - 1
    both = torch.from_numpy(np.concatenate([run.images, run.masks.astype(np.float32)]))
    inside = (places.abs() <= 1).all(dim=-1).numpy()
    found = F.grid_sample(both[None], places[None], padding_mode="border", align_corners=False)
    images, masks = found[0, :n].numpy(), (found[0, n:].numpy() > 0.5) & inside
    if (run.masks.any(axis=(1, 2)) != masks.any(axis=(1, 2))).any():
        return run
    return SliceRun(images, masks)


def _intensities(
    images: NDArray[np.float32], config: PlaneAugmentConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    if config == NO_AUGMENTATION:
        return images
    low, high = _range_of(images)
    x = (images - low) / (high - low)
    if rng.random() < config.gamma_share:
        exponent = math.exp(float(rng.normal(0, config.gamma_std)))
        x = np.where((x > 0) & (x < 1), np.abs(x) ** np.float32(exponent), x)
    if rng.random() < config.invert_share:
        x = 1 - x
    contrast, brightness = rng.normal(0, (config.contrast_std, config.brightness_std))
    each = brightness + rng.normal(0, config.slice_std, len(images))
    x = x * np.float32(1 + contrast) + each.astype(np.float32)[:, None, None]
    if rng.random() < config.noise_share:
        level = np.float32(rng.random() * config.noise_max)
        x = x + level * rng.standard_normal(x.shape, dtype=np.float32)
    out: NDArray[np.float32] = (low + x * (high - low)).astype(np.float32, copy=False)
    return out


def _range_of(images: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    """Return percentiles 1 and 99: changes are in shares of what most values span."""
    low, high = np.percentile(images[:, ::_STRIDE, ::_STRIDE], (1, 99))
    return np.float32(low), np.float32(max(high, low + 1e-3))
