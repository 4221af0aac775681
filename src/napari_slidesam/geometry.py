"""Boxes, regions and viewports of a plane, and the one conversion between zyx and xy.

Frames
------
plane, edge coordinates
    The pixel with index ``i`` covers ``[i, i + 1)``. Boxes live here: half-open, float.
plane, index coordinates
    The centre of a pixel is its integer index. Clicks and points live here.
    ``edge = index + 0.5``.
model
    Edge coordinates of the square image a network sees, in its pixels. Only here the
    order is xy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

INDEX_TO_EDGE = 0.5
"""Added to an index coordinate to get the edge coordinate of the pixel's centre."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a plane in edge coordinates, half-open ``[start, stop)``.

    Parameters
    ----------
    y0, x0 : float
        Start of the rectangle.
    y1, x1 : float
        Stop of the rectangle; larger than the start.

    Raises
    ------
    PromptError
        A coordinate is not finite, or the area is not positive.
    """

    y0: float
    x0: float
    y1: float
    x1: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in self.yxyx):
            raise PromptError(f"A box needs four finite numbers y0, x0, y1, x1; got {self.yxyx}.")
        if self.y1 <= self.y0 or self.x1 <= self.x0:
            raise PromptError(
                f"A box needs y1 > y0 and x1 > x0 (half-open); got y0={self.y0}, x0={self.x0}, "
                f"y1={self.y1}, x1={self.x1}. Swap the corners or draw a larger box."
            )

    @classmethod
    def from_corners(cls, corners_yx: Sequence[Sequence[float]]) -> Box:
        """Return the bounding box of corner points, shape (N, 2), edge coordinates."""
        corners = np.asarray(corners_yx, dtype=float)
        (y0, x0), (y1, x1) = corners.min(axis=0), corners.max(axis=0)
        return cls(float(y0), float(x0), float(y1), float(x1))

    @property
    def yxyx(self) -> tuple[float, float, float, float]:
        """The four coordinates (y0, x0, y1, x1)."""
        return (self.y0, self.x0, self.y1, self.x1)

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The four coordinates in xy order (x0, y0, x1, y1)."""
        return (self.x0, self.y0, self.x1, self.y1)

    @property
    def height(self) -> float:
        """Extent along y, in pixels."""
        return self.y1 - self.y0

    @property
    def width(self) -> float:
        """Extent along x, in pixels."""
        return self.x1 - self.x0

    @property
    def centre_yx(self) -> tuple[float, float]:
        """Centre in edge coordinates."""
        return ((self.y0 + self.y1) / 2, (self.x0 + self.x1) / 2)

    def enlarged(self, share: float) -> Box:
        """Move all four sides outwards by ``share`` of the box's extent along that axis."""
        dy, dx = share * self.height, share * self.width
        return Box(self.y0 - dy, self.x0 - dx, self.y1 + dy, self.x1 + dx)

    def clipped(self, shape_yx: tuple[int, int]) -> Box | None:
        """Return the part inside a plane of this shape, or None where nothing is left."""
        y0, x0 = max(self.y0, 0.0), max(self.x0, 0.0)
        y1, x1 = min(self.y1, float(shape_yx[0])), min(self.x1, float(shape_yx[1]))
        return Box(y0, x0, y1, x1) if y1 > y0 and x1 > x0 else None

    def union(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        return Box(
            min(self.y0, other.y0),
            min(self.x0, other.x0),
            max(self.y1, other.y1),
            max(self.x1, other.x1),
        )

    def interpolated(self, other: Box, share: float) -> Box:
        """Return the box ``share`` of the way from this one (0) to ``other`` (1)."""
        pairs = zip(self.yxyx, other.yxyx, strict=True)
        return Box(*(a + (b - a) * share for a, b in pairs))

    def contains(self, y: float, x: float) -> bool:
        """Whether a point in edge coordinates lies inside."""
        return self.y0 <= y < self.y1 and self.x0 <= x < self.x1

    def outer_region(self, shape_yx: tuple[int, int]) -> Region:
        """Return the smallest integer region of the plane that covers the box."""
        height, width = shape_yx
        y0 = min(max(math.floor(self.y0), 0), height - 1)
        x0 = min(max(math.floor(self.x0), 0), width - 1)
        y1 = max(min(math.ceil(self.y1), height), y0 + 1)
        x1 = max(min(math.ceil(self.x1), width), x0 + 1)
        return Region(y0, x0, y1, x1)


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of whole pixels of a plane, half-open; says where a cropped array lies."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Extent in pixels."""
        return (self.y1 - self.y0, self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the region in an array of the plane."""
        return (slice(self.y0, self.y1), slice(self.x0, self.x1))

    def union(self, other: Region) -> Region:
        """Return the smallest region that holds both."""
        return Region(
            min(self.y0, other.y0),
            min(self.x0, other.x0),
            max(self.y1, other.y1),
            max(self.x1, other.x1),
        )

    def within(self, outer: Region) -> tuple[slice, slice]:
        """Index of this region in an array that covers ``outer``, which must hold it."""
        return (
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )


@dataclass(frozen=True, slots=True)
class Viewport:
    """The square of a plane that a network looks at, and its size in the model frame.

    Whole pixels of the plane, so that the image inside is a plain crop.

    Parameters
    ----------
    y0, x0 : int
        Start of the square in the plane; may lie outside it.
    side : int
        Extent in plane pixels, positive.
    size : int
        Extent in model pixels.
    """

    y0: int
    x0: int
    side: int
    size: int

    @property
    def scale(self) -> float:
        """Model pixels per plane pixel."""
        return self.size / self.side

    @classmethod
    def around(cls, box: Box, side: float, size: int) -> Viewport:
        """Return the square of at least this side with the box's centre in its middle."""
        cy, cx = box.centre_yx
        whole = math.ceil(side)
        return cls(math.floor(cy - whole / 2 + 0.5), math.floor(cx - whole / 2 + 0.5), whole, size)

    def box_xyxy_model(self, box: Box) -> tuple[float, float, float, float]:
        """Return a plane box in the model frame, xyxy."""
        s = self.scale
        return (
            (box.x0 - self.x0) * s,
            (box.y0 - self.y0) * s,
            (box.x1 - self.x0) * s,
            (box.y1 - self.y0) * s,
        )

    def point_xy_model(self, y_index: float, x_index: float) -> tuple[float, float]:
        """Return a point given in index coordinates in the model frame, xy."""
        s = self.scale
        return (
            (x_index + INDEX_TO_EDGE - self.x0) * s,
            (y_index + INDEX_TO_EDGE - self.y0) * s,
        )

    def box_from_model(self, box_xyxy: tuple[float, float, float, float]) -> Box:
        """Return a model-frame box, xyxy, in the plane's edge coordinates."""
        s = self.scale
        x0, y0, x1, y1 = box_xyxy
        return Box(y0 / s + self.y0, x0 / s + self.x0, y1 / s + self.y0, x1 / s + self.x0)

    def region(self, shape_yx: tuple[int, int]) -> Region | None:
        """Return the part of the viewport inside a plane of this shape, or None."""
        y0, x0 = max(self.y0, 0), max(self.x0, 0)
        y1 = min(self.y0 + self.side, shape_yx[0])
        x1 = min(self.x0 + self.side, shape_yx[1])
        return Region(y0, x0, y1, x1) if y1 > y0 and x1 > x0 else None


def mask_to_box(mask: NDArray[np.bool_], region: Region | None = None) -> Box | None:
    """Return the bounding box of a mask, or None where it is empty.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)
        The mask of a plane, or of a region of it.
    region : Region, optional
        Where ``mask`` lies in its plane; the box is then in the plane's frame.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    cols = np.flatnonzero(mask.any(axis=0))
    dy, dx = (region.y0, region.x0) if region is not None else (0, 0)
    return Box(
        float(rows[0] + dy), float(cols[0] + dx), float(rows[-1] + 1 + dy), float(cols[-1] + 1 + dx)
    )
