"""Classical segmentation of one plane from a box: Otsu, GrabCut and the random walker.

Each takes a plane and a box and returns the mask of what the box holds, in the region around
the box that it looked at. A mask may be empty.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import random_walker

from napari_slidesam.engine.objects import PlaneMask
from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.shapes import inside_ellipse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.geometry import Box, Region

OTSU_MARGIN = 0.1
"""Share of the box's sides by which Otsu looks beyond it."""

SEED_MARGIN = 0.2
"""The same for GrabCut and the random walker: the rim outside the box is surely background."""

SEED_CORE = 0.5
"""What both take as surely the object: the ellipse of this share of the box's sides."""

MAX_SIDE_PX = 64
"""Longer crops are made smaller for GrabCut and the random walker; they are slow."""

GRABCUT_ITERATIONS = 2

WALKER_BETA = 130.0
"""How much an edge hinders the random walker (scikit-image's default)."""

_LEVELS = 255.0
_PERCENTILES = (1.0, 99.0)


class PlanarSegmenter(Protocol):
    """Segments one plane from a box."""

    def __call__(self, plane: NDArray[Any], box: Box, /) -> PlaneMask:
        """Return the mask of what the box holds."""


def otsu_in_box(plane: NDArray[Any], box: Box) -> PlaneMask:
    """Threshold by Otsu in the enlarged box; the largest component of the centre's side."""
    region = box.enlarged(OTSU_MARGIN).outer_region((plane.shape[0], plane.shape[1]))
    values = _scaled_values(plane, region)
    if values is None:
        return _empty(region)
    bright = values > threshold_otsu(values)
    core = inside_ellipse(box, region.y0, region.x0, region.shape_yx, share=0.5)
    rim = ~inside_ellipse(box, region.y0, region.x0, region.shape_yx)
    if not core.any() or not rim.any():  # a box of a few pixels
        return PlaneMask(region, _largest_component(bright))
    side = bright if values[core].mean() >= values[rim].mean() else ~bright
    return PlaneMask(region, _largest_component(side))


def grabcut_in_box(plane: NDArray[Any], box: Box) -> PlaneMask:
    """Run OpenCV's GrabCut between an ellipse in the box's middle and all outside the box.

    Without the ellipse its smoothness term empties boxes of less than some 100 pixels a side.

    Raises
    ------
    EvaluationError
        OpenCV is not installed.
    """
    cv2 = load_cv2()
    crop = _Seeded.of(plane, box)
    if crop.values is None or not crop.is_open:
        return crop.unsegmented()
    image = np.rint(crop.values * _LEVELS).astype(np.uint8)
    state = np.full(image.shape, cv2.GC_PR_FGD, dtype=np.uint8)
    state[crop.inside], state[crop.outside] = cv2.GC_FGD, cv2.GC_BGD
    models = np.zeros((2, 1, 65), dtype=np.float64)
    cv2.setRNGSeed(0)  # its k-means is random
    try:
        cv2.grabCut(
            cv2.cvtColor(image, cv2.COLOR_GRAY2BGR),
            state,
            None,
            models[0],
            models[1],
            GRABCUT_ITERATIONS,
            cv2.GC_INIT_WITH_MASK,
        )
    except cv2.error:  # too few pixels for its mixtures
        return crop.unsegmented()
    return crop.placed((state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD))


def walker_in_box(plane: NDArray[Any], box: Box) -> PlaneMask:
    """Run a random walker between an ellipse in the box's middle and all outside the box."""
    crop = _Seeded.of(plane, box)
    if crop.values is None or not crop.is_open:
        return crop.unsegmented()
    seeds = crop.inside + 2 * crop.outside.astype(np.int32)
    # The direct solver is exact and, at this size, as fast as the iterative ones.
    labels = random_walker(crop.values, seeds, beta=WALKER_BETA, mode="bf")
    return crop.placed(labels == 1)


@lru_cache(maxsize=1)
def load_cv2() -> Any:
    """Return OpenCV.

    Raises
    ------
    EvaluationError
        It is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise EvaluationError(
            "The baseline 'grabcut' needs OpenCV, which is not installed: "
            "pip install 'napari-slidesam[evaluation]'."
        ) from error


@dataclass(frozen=True, slots=True, eq=False)
class _Seeded:
    """The surroundings of a box, made smaller where large, and what is known there.

    ``values`` is None where they are constant; ``inside`` and ``outside`` are the seeds.
    """

    region: Region
    grid: _Shrinking
    values: NDArray[np.float32] | None
    inside: NDArray[np.bool_]
    outside: NDArray[np.bool_]

    @classmethod
    def of(cls, plane: NDArray[Any], box: Box) -> _Seeded:
        region = box.enlarged(SEED_MARGIN).outer_region((plane.shape[0], plane.shape[1]))
        outside = ~_box_pixels(box, region)
        if not outside.any():  # the box fills the plane: its rim must do for the background
            outside = _rim(region.shape_yx)
        core = inside_ellipse(box, region.y0, region.x0, region.shape_yx, share=SEED_CORE)
        grid = _Shrinking(region.shape_yx)
        outside = grid.shrink_mask(outside)
        inside = grid.shrink_mask(core) & ~outside
        values = _scaled_values(plane, region)
        shrunk = None if values is None else grid.shrink_values(values)
        return cls(region, grid, shrunk, inside, outside)

    @property
    def is_open(self) -> bool:
        """There are seeds of both kinds and something between them."""
        known = self.inside | self.outside
        return bool(self.inside.any() and self.outside.any() and not known.all())

    def placed(self, mask: NDArray[np.bool_]) -> PlaneMask:
        return PlaneMask(self.region, _largest_component(self.grid.enlarge_mask(mask)))

    def unsegmented(self) -> PlaneMask:
        """Return what is sure: the inner seed where there is an image, else nothing."""
        sure = self.inside if self.values is not None else np.zeros_like(self.inside)
        return self.placed(sure)


class _Shrinking:
    """A plane's region made smaller where its longer side exceeds `MAX_SIDE_PX`, and back."""

    def __init__(self, shape_yx: tuple[int, int]) -> None:
        self.shape_yx = shape_yx
        factor = min(1.0, MAX_SIDE_PX / max(shape_yx))
        self.small_yx = (
            max(1, math.ceil(shape_yx[0] * factor)),
            max(1, math.ceil(shape_yx[1] * factor)),
        )

    def shrink_values(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the values averaged over the larger pixels."""
        if self.small_yx == self.shape_yx:
            return values
        width = [n / s for n, s in zip(self.shape_yx, self.small_yx, strict=True)]
        smooth = ndimage.uniform_filter(values, [max(1, round(w)) for w in width], mode="nearest")
        return cast("NDArray[np.float32]", smooth[self._pick(self.small_yx, self.shape_yx)])

    def shrink_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask at the larger pixels' centres."""
        return cast("NDArray[np.bool_]", mask[self._pick(self.small_yx, self.shape_yx)])

    def enlarge_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a small mask at the region's own size."""
        return cast("NDArray[np.bool_]", mask[self._pick(self.shape_yx, self.small_yx)])

    @staticmethod
    def _pick(to_yx: tuple[int, int], from_yx: tuple[int, int]) -> tuple[NDArray[Any], ...]:
        pairs = zip(to_yx, from_yx, strict=True)
        return np.ix_(*(((np.arange(t) + 0.5) * f / t).astype(int) for t, f in pairs))


def _scaled_values(plane: NDArray[Any], region: Region) -> NDArray[np.float32] | None:
    """Return the region's values in [0, 1] by their percentiles; None where constant."""
    values = np.nan_to_num(plane[region.slices].astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, _PERCENTILES)
    if not high > low:
        low, high = values.min(), values.max()
    if not high > low:
        return None
    scaled = np.clip((values - low) / (high - low), 0.0, 1.0)
    return cast("NDArray[np.float32]", scaled.astype(np.float32))


def _box_pixels(box: Box, region: Region) -> NDArray[np.bool_]:
    inside = box.outer_region((region.y1, region.x1))
    pixels = np.zeros(region.shape_yx, dtype=bool)
    pixels[inside.within(region)] = True
    return pixels


def _rim(shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    rim = np.ones(shape_yx, dtype=bool)
    rim[1:-1, 1:-1] = False
    return rim


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 4-connected component with its holes filled."""
    parts, n_parts = ndimage.label(mask)
    if n_parts == 0:
        return mask
    largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    return cast("NDArray[np.bool_]", ndimage.binary_fill_holes(parts == largest))


def _empty(region: Region) -> PlaneMask:
    return PlaneMask(region, np.zeros(region.shape_yx, dtype=bool))
