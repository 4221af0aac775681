"""The mask of one object, cropped, with its place in the volume.

The frame is that of the slices: axis 0 counts the slices along the chosen axis of the volume,
the others are the plane's y and x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.metrics import bounding_box

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_slidesam.engine.objects import PlaneMask


@dataclass(frozen=True, slots=True, eq=False)
class PlacedMask:
    """A mask in its bounding box; outside it the object is not.

    Parameters
    ----------
    start_syx : tuple of 3 ints
        Slice, y and x of the first voxel of ``mask``.
    mask : ndarray of bool, shape (S, Y, X)
        Has no empty rim; all lengths are 0 where the object is empty.
    """

    start_syx: tuple[int, int, int]
    mask: NDArray[np.bool_]

    @classmethod
    def from_array(
        cls, mask_zyx: NDArray[np.bool_], axis: int = 0, start_syx: tuple[int, int, int] = (0, 0, 0)
    ) -> PlacedMask:
        """Return the mask of a volume, or of a part of it that starts at ``start_syx``."""
        mask = np.moveaxis(mask_zyx, axis, 0)
        box = bounding_box(mask)
        if box is None:
            return cls((0, 0, 0), np.zeros((0, 0, 0), dtype=bool))
        s, y, x = (origin + part.start for origin, part in zip(start_syx, box, strict=True))
        return cls((s, y, x), mask[box].copy())

    @classmethod
    def from_planes(cls, planes: Mapping[int, PlaneMask]) -> PlacedMask:
        """Return the mask that has these masks on these slices."""
        if not planes:
            return cls((0, 0, 0), np.zeros((0, 0, 0), dtype=bool))
        first, last = min(planes), max(planes)
        whole = next(iter(planes.values())).region
        for plane in planes.values():
            whole = whole.union(plane.region)
        mask = np.zeros((last - first + 1, *whole.shape_yx), dtype=bool)
        for index, plane in planes.items():
            mask[(index - first, *plane.region.within(whole))] = plane.mask
        return cls.from_array(mask, start_syx=(first, whole.y0, whole.x0))

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Index of the bounding box in an array of the slices' frame."""
        s, y, x = (slice(o, o + n) for o, n in zip(self.start_syx, self.mask.shape, strict=True))
        return (s, y, x)

    @property
    def slice_indices(self) -> tuple[int, ...]:
        """The slices that hold at least one pixel."""
        return tuple(int(i) + self.start_syx[0] for i in np.flatnonzero(self.mask.any(axis=(1, 2))))

    def plane(self, slice_index: int) -> PlacedMask:
        """Return the part on one slice."""
        offset = slice_index - self.start_syx[0]
        part = self.mask[max(offset, 0) : max(offset + 1, 0)]
        return PlacedMask.from_array(part, start_syx=(slice_index, *self.start_syx[1:]))

    def to_array(self, shape_zyx: tuple[int, ...], axis: int = 0) -> NDArray[np.bool_]:
        """Return the mask of the whole volume; bool, shape (Z, Y, X)."""
        full = np.zeros(shape_zyx, dtype=bool)
        np.moveaxis(full, axis, 0)[self.box] = self.mask
        return full

    def on_common_grid(self, other: PlacedMask) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return both masks on the smallest grid that holds them."""
        filled = [m for m in (self, other) if m.mask.size]
        if not filled:
            return self.mask, other.mask
        start = np.min([m.start_syx for m in filled], axis=0)
        stop = np.max([np.add(m.start_syx, m.mask.shape) for m in filled], axis=0)
        grids = []
        for placed in (self, other):
            grid = np.zeros(stop - start, dtype=bool)
            if placed.mask.size:
                offset = np.subtract(placed.start_syx, start)
                ends = offset + placed.mask.shape
                grid[tuple(slice(a, b) for a, b in zip(offset, ends, strict=True))] = placed.mask
            grids.append(grid)
        return grids[0], grids[1]
