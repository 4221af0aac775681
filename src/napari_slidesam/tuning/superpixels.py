"""Prompts from superpixels: where the objects of a slice may be, without anyone saying so.

Slide-SAM, appendix B: superpixels make the points and boxes that a network is asked; those
that are dark are left out as background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy import ndimage

from napari_slidesam.errors import ConfigError
from napari_slidesam.geometry import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

SuperpixelMethod = Literal["slic", "felzenszwalb"]
PromptKind = Literal["box", "point"]

MAX_SIDE_PX = 512
"""Larger planes are averaged down before they are cut up: 0.3 s instead of several."""

MIN_AREA_PX = 9
"""Smaller superpixels are noise, however small the plane."""


@dataclass(frozen=True, slots=True)
class SuperpixelConfig:
    """How a slice is cut into superpixels, and what of them is asked.

    Parameters
    ----------
    method : str
        ``"slic"``: compact, of about the same size. ``"felzenszwalb"``: of the objects' own
        shape and size.
    scales : tuple of float
        One set of superpixels for each. For SLIC how many there are, for Felzenszwalb's how
        large they become.
    compactness : float
        Of SLIC: how much nearness counts beside likeness.
    smoothing_px : float
        Standard deviation of the blur beforehand.
    kinds : tuple of str
        ``"box"``: the superpixel's bounding box; ``"point"``: its pixel nearest to its centroid.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    method: SuperpixelMethod = "felzenszwalb"
    scales: tuple[float, ...] = (50.0, 200.0)
    compactness: float = 0.1
    smoothing_px: float = 1.0
    kinds: tuple[PromptKind, ...] = ("box",)

    def __post_init__(self) -> None:
        if self.method not in get_args(SuperpixelMethod):
            names = " or ".join(get_args(SuperpixelMethod))
            raise ConfigError(f"Superpixels are made by {names}; got {self.method!r}.")
        if not self.scales or not all(s >= 1 for s in self.scales):
            raise ConfigError(f"Superpixels need scales of 1 or more; got {self.scales}.")
        if not (self.compactness > 0 and self.smoothing_px >= 0):
            raise ConfigError(
                "Superpixels need a positive compactness and a smoothing of 0 or more; got "
                f"{self.compactness} and {self.smoothing_px}."
            )
        if not self.kinds or not set(self.kinds) <= set(get_args(PromptKind)):
            raise ConfigError(f"Superpixels are asked as box, point or both; got {self.kinds}.")


@dataclass(frozen=True, slots=True)
class SuperpixelPrompt:
    """A box or a point on a slice, in pixels of its plane.

    Parameters
    ----------
    box : Box, optional
    point_yx : tuple of 2 floats, optional
        Index coordinates.
    value : float
        The superpixel's mean.
    """

    box: Box | None
    point_yx: tuple[float, float] | None
    value: float


def superpixels(
    image: NDArray[np.float32],
    config: SuperpixelConfig,
    scale: float,
    min_area_px: int = MIN_AREA_PX,
) -> NDArray[np.int64]:
    """Cut an image into superpixels.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X), range [0, 1]
    config : SuperpixelConfig
    scale : float
        One of the config's.
    min_area_px : int
        Felzenszwalb's joins smaller ones to their neighbours.

    Returns
    -------
    ndarray of int, shape (Y, X)
        1 to N. The same for the same image.
    """
    from skimage.segmentation import felzenszwalb, slic

    labels: NDArray[np.int64]
    if float(np.ptp(image)) == 0.0:  # SLIC divides by the range
        labels = np.ones(image.shape, dtype=np.int64)
    elif config.method == "slic":
        labels = slic(
            image,
            n_segments=round(scale),
            compactness=config.compactness,
            sigma=config.smoothing_px,
            channel_axis=None,
            start_label=1,
        )
    else:
        labels = 1 + felzenszwalb(
            image, scale=scale, sigma=config.smoothing_px, min_size=min_area_px
        )
    return labels


def superpixel_prompts(
    image: NDArray[np.float32],
    grey: NDArray[np.float32],
    config: SuperpixelConfig,
    *,
    min_share: float = 0.0,
    max_share: float = 1.0,
) -> tuple[SuperpixelPrompt, ...]:
    """Return a slice's prompts, each once.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X), range [0, 1]
        What is cut up: the slice inside a truncation window.
    grey : ndarray of float32, shape (Y, X)
        What the superpixels' means are taken of.
    config : SuperpixelConfig
    min_share, max_share : float
        Superpixels with a smaller or larger share of the plane are left out.
    """
    factor = -(-max(image.shape) // MAX_SIDE_PX)
    small, small_grey = _averaged(image, factor), _averaged(grey, factor)
    least = max(MIN_AREA_PX, math.ceil(min_share * small.size))
    most = math.floor(max_share * small.size)
    found: dict[tuple[object, ...], SuperpixelPrompt] = {}
    for scale in config.scales:
        labels = superpixels(small, config, scale, least)
        for prompt in _prompts_of(labels, small_grey, config.kinds, (least, most)):
            scaled = _scaled(prompt, factor, image.shape)
            found.setdefault((scaled.box, scaled.point_yx), scaled)
    return tuple(found.values())


def _prompts_of(
    labels: NDArray[np.int64],
    grey: NDArray[np.float32],
    kinds: tuple[PromptKind, ...],
    area_range_px: tuple[int, int],
) -> list[SuperpixelPrompt]:
    """Return the prompts of one set of superpixels, in the order of their labels."""
    areas = np.bincount(labels.ravel())
    totals = np.bincount(labels.ravel(), grey.ravel())
    least, most = area_range_px
    prompts = []
    for label, where in enumerate(ndimage.find_objects(labels), 1):
        if where is None or not least <= areas[label] <= most:
            continue
        rows, cols = where
        value = float(totals[label] / areas[label])
        if "box" in kinds:
            box = Box(rows.start, cols.start, rows.stop, cols.stop)
            prompts.append(SuperpixelPrompt(box, None, value))
        if "point" in kinds:
            y, x = _central_pixel(labels[where] == label)
            prompts.append(
                SuperpixelPrompt(None, (float(y + rows.start), float(x + cols.start)), value)
            )
    return prompts


def _central_pixel(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel of a mask nearest to its centroid, which may lie outside of it."""
    pixels = np.argwhere(mask)
    distances = ((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1)
    y, x = pixels[int(np.argmin(distances))]
    return int(y), int(x)


def _averaged(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Average squares of pixels; the border is repeated where they do not fill the last one."""
    if factor == 1:
        return image
    padding = [(0, -n % factor) for n in image.shape]
    padded = np.pad(image, padding, mode="edge")
    height, width = (n // factor for n in padded.shape)
    blocks = padded.reshape(height, factor, width, factor)
    averaged: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return averaged


def _scaled(prompt: SuperpixelPrompt, factor: int, shape_yx: tuple[int, ...]) -> SuperpixelPrompt:
    """Return a prompt on the averaged image on the image itself."""
    if factor == 1:
        return prompt
    box, point = prompt.box, prompt.point_yx
    if box is not None:
        box = Box(*(v * factor for v in box.yxyx)).clipped((shape_yx[0], shape_yx[1]))
    if point is not None:
        middle = (factor - 1) / 2
        y, x = (min(v * factor + middle, n - 1) for v, n in zip(point, shape_yx, strict=False))
        point = (y, x)
    return SuperpixelPrompt(box, point, prompt.value)
