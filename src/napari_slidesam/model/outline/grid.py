"""A slice around a box, stretched so that every box looks alike: what the outline network sees.

Each axis is scaled by the box's own side. An object twice as large is the same picture, and one
twice as wide nearly so: the network need not find out where the box is, only what in it belongs to
the object.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.geometry import INDEX_TO_EDGE, Region
from napari_slidesam.model.linear import Linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.geometry import Box
    from napari_slidesam.model.outline.config import OutlineConfig

Turn = tuple[tuple[float, float], tuple[float, float]]
UPRIGHT: Turn = ((1.0, 0.0), (0.0, 1.0))
MAX_STEP_PX = 6
"""Samples further apart see a slice of which whole blocks of pixels were averaged first."""
MAX_SUBSAMPLES = 6


@dataclass(frozen=True, eq=False)
class BoxGrid:
    """Where the samples lie in a plane, in index coordinates.

    Parameters
    ----------
    config : OutlineConfig
    centre_yx : tuple of 2 floats
        In the plane.
    half_yx : tuple of 2 floats
        From the centre to the border of what is seen, along the grid's axes, in pixels.
    plane_shape_yx : tuple of 2 int
    turn : matrix of 2 x 2 floats
        The plane's y, x of a step along the grid's axes, in pixels; not singular.
    """

    config: OutlineConfig
    centre_yx: tuple[float, float]
    half_yx: tuple[float, float]
    plane_shape_yx: tuple[int, int]
    turn: Turn = UPRIGHT

    @classmethod
    def around(
        cls,
        config: OutlineConfig,
        box: Box,
        plane_shape_yx: tuple[int, int],
        shift_yx: tuple[float, float] = (0.0, 0.0),
        scale: float = 1.0,
    ) -> BoxGrid:
        """Return the grid around a box of a plane.

        Parameters
        ----------
        config : OutlineConfig
        box : Box
        plane_shape_yx : tuple of 2 int
        shift_yx : tuple of 2 floats
            Where its centre lies off the box's, over the grid's own half sides.
        scale : float
            Factor of the grid's sides.
        """
        half_y, half_x = (scale * s for s in half_sides(config, box.height, box.width))
        y = (box.y0 + box.y1) / 2 - INDEX_TO_EDGE + shift_yx[0] * half_y
        x = (box.x0 + box.x1) / 2 - INDEX_TO_EDGE + shift_yx[1] * half_x
        return cls(config, (y, x), (half_y, half_x), plane_shape_yx)

    def places(self, subsamples_yx: tuple[int, int] = (1, 1)) -> NDArray[np.float64]:
        """Return the samples' rows and columns in the plane.

        Parameters
        ----------
        subsamples_yx : tuple of 2 int
            So many places stand for a sample along each axis.

        Returns
        -------
        ndarray of float64, shape (2, side * subsamples, side * subsamples)
        """
        along_y, along_x = (
            ((np.arange(self.config.side * n) + 0.5) / (self.config.side * n) * 2 - 1) * half
            for n, half in zip(subsamples_yx, self.half_yx, strict=True)
        )
        (yy, yx), (xy, xx) = self.turn
        rows = self.centre_yx[0] + yy * along_y[:, None] + yx * along_x
        columns = self.centre_yx[1] + xy * along_y[:, None] + xx * along_x
        return np.stack([rows, columns])

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which samples lie inside the plane; shape (side, side)."""
        (rows, columns), (height, width) = self.places(), self.plane_shape_yx
        in_rows = (rows > -0.5) & (rows < height - 0.5)
        in_columns = (columns > -0.5) & (columns < width - 0.5)
        inside: NDArray[np.bool_] = in_rows & in_columns
        return inside

    @cached_property
    def region(self) -> Region:
        """The part of the plane that is sampled."""
        reach = np.abs(np.array(self.turn)) @ np.array(self.half_yx) + 1
        spans = []
        for centre, far, size in zip(self.centre_yx, reach, self.plane_shape_yx, strict=True):
            start = min(max(0, int(np.floor(centre - far))), size - 1)
            spans.append((start, max(start + 1, min(size, int(np.ceil(centre + far)) + 1))))
        (y0, y1), (x0, x1) = spans
        return Region(y0, x0, y1, x1)

    def box_on_grid(self, box: Box) -> NDArray[np.float32]:
        """Return a box's y0, x0, y1, x1 on an upright grid; float32, shape (4,).

        The grid reaches from -1 to 1 along each axis.
        """
        edges = np.array(box.yxyx) - INDEX_TO_EDGE
        centre, half = np.array(self.centre_yx * 2), np.array(self.half_yx * 2)
        on_grid: NDArray[np.float32] = ((edges - centre) / half).astype(np.float32)
        return on_grid

    def point_on_grid(self, y: float, x: float) -> tuple[float, float]:
        """Return a point of the plane, in index coordinates, on an upright grid, as a box's."""
        (centre_y, centre_x), (half_y, half_x) = self.centre_yx, self.half_yx
        return (y - centre_y) / half_y, (x - centre_x) / half_x

    def images(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return planes' values at the samples, averaged where samples lie far apart.

        Outside the plane its border pixels are repeated.

        Parameters
        ----------
        values : ndarray, shape (K, *``region.shape_yx``)

        Returns
        -------
        ndarray of float32, shape (K, side, side)
        """
        planes = np.asarray(values, dtype=np.float32)
        planes = np.where(np.isfinite(planes), planes, np.float32(0))
        n = self.config.side
        steps = 2 * np.array(self.half_yx) / n
        block = 1
        while steps.max() / block > MAX_STEP_PX:
            block *= 2
        planes = _block_means(planes, block)
        wanted = np.clip(np.ceil(steps / block - 0.25), 1, MAX_SUBSAMPLES)
        sub_y, sub_x = int(wanted[0]), int(wanted[1])
        places = self.places((sub_y, sub_x)) - np.array([self.region.y0, self.region.x0]).reshape(
            2, 1, 1
        )
        places = (places + INDEX_TO_EDGE) / block - INDEX_TO_EDGE
        if self.turn == UPRIGHT:
            along_y = Linear(places[0, :, 0], planes.shape[1])
            along_x = Linear(places[1, 0], planes.shape[2])
            upright = [_means(along_x, _means(along_y, p, sub_y).T, sub_x).T for p in planes]
            return np.stack(upright)
        seen = np.stack(
            [ndimage.map_coordinates(p, places, order=1, mode="nearest") for p in planes]
        )
        means: NDArray[np.float32] = seen.reshape(len(planes), n, sub_y, n, sub_x).mean((2, 4))
        return means

    def on_plane(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an upright grid's samples at the pixels of its region.

        Parameters
        ----------
        samples : ndarray of float32, shape (side, side)

        Returns
        -------
        ndarray of float32, shape ``region.shape_yx``
            NaN beyond the grid.
        """
        n, where = self.config.side, self.region
        rows, columns = (
            ((np.arange(start, stop) - centre) / half + 1) / 2 * n - 0.5
            for start, stop, centre, half in zip(
                (where.y0, where.x0),
                (where.y1, where.x1),
                self.centre_yx,
                self.half_yx,
                strict=True,
            )
        )
        wide = Linear(rows, n)(samples)
        wide[np.abs(rows - (n - 1) / 2) > n / 2] = np.nan
        fine = Linear(columns, n)(wide.T).T
        fine[:, np.abs(columns - (n - 1) / 2) > n / 2] = np.nan
        return fine


def half_sides(config: OutlineConfig, height: float, width: float) -> tuple[float, float]:
    """Return how far a grid reaches from the centre of a box with these sides, in pixels."""
    least = max(config.least_side * max(height, width), config.least_half_px)
    return config.context / 2 * max(height, least), config.context / 2 * max(width, least)


def _block_means(planes: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Return the means of blocks of pixels; the last row and column are repeated to fill them."""
    if block == 1:
        return planes
    count, height, width = planes.shape
    missing = ((0, 0), (0, -height % block), (0, -width % block))
    filled = np.pad(planes, missing, mode="edge")
    blocks = filled.reshape(count, filled.shape[1] // block, block, filled.shape[2] // block, block)
    means: NDArray[np.float32] = blocks.mean((2, 4))
    return means


def _means(along: Linear, plane: NDArray[np.float32], subsamples: int) -> NDArray[np.float32]:
    """Return a plane's values along its first axis, each the mean of so many subsamples."""
    fine = along(plane)
    means: NDArray[np.float32] = fine.reshape(-1, subsamples, plane.shape[1]).mean(1)
    return means
