"""The slice around a click in log-polar coordinates: what the click network sees.

Rows are rings whose radii grow by a constant factor, columns are directions. An object twice as
large is the same picture a few rings further out, one that is turned the same picture some columns
further along; all scales lie in one small image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.geometry import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.model.click.config import ClickConfig


@dataclass(frozen=True, eq=False)
class PolarGrid:
    """Where the samples lie in a plane, in index coordinates.

    Parameters
    ----------
    config : ClickConfig
    y, x : float
        The click.
    radius : float
        Of the last ring, in pixels.
    plane_shape_yx : tuple of 2 int
    """

    config: ClickConfig
    y: float
    x: float
    radius: float
    plane_shape_yx: tuple[int, int]

    @classmethod
    def around(
        cls, config: ClickConfig, y: float, x: float, plane_shape_yx: tuple[int, int]
    ) -> PolarGrid:
        """Return the grid around a click in a plane of this shape."""
        longest = min(max(plane_shape_yx), config.max_side_px)
        return cls(config, y, x, config.reach * longest, plane_shape_yx)

    @cached_property
    def radii(self) -> NDArray[np.float64]:
        """Of the rings, in pixels; shape (rings,)."""
        config = self.config
        shares = (np.arange(config.rings) + 0.5) / config.rings - 1
        radii: NDArray[np.float64] = self.radius * 2.0 ** (shares * config.octaves)
        return radii

    @cached_property
    def places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns of the samples in the plane; each of shape (rings, angles)."""
        n = self.config.angles
        angle = (np.arange(n) + 0.5) / n * 2 * np.pi
        rows = self.y + self.radii[:, None] * np.sin(angle)
        columns = self.x + self.radii[:, None] * np.cos(angle)
        return rows, columns

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which samples lie inside the plane; shape (rings, angles)."""
        (rows, columns), (height, width) = self.places, self.plane_shape_yx
        in_rows = (rows >= -0.5) & (rows <= height - 0.5)
        in_columns = (columns >= -0.5) & (columns <= width - 0.5)
        inside: NDArray[np.bool_] = in_rows & in_columns
        return inside

    @property
    def region(self) -> Region:
        """The part of the plane that is sampled."""
        (height, width), reach = self.plane_shape_yx, self.radius
        y0, x0 = (max(0, int(np.floor(c - reach))) for c in (self.y, self.x))
        y1 = min(height, int(np.ceil(self.y + reach)) + 1)
        x1 = min(width, int(np.ceil(self.x + reach)) + 1)
        return Region(min(y0, height - 1), min(x0, width - 1), max(y1, 1), max(x1, 1))

    def image(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return the plane's values on the rings, averaged where samples lie far apart.

        Parameters
        ----------
        values : ndarray, shape ``region.shape_yx``
            Border pixels are repeated beyond the plane.

        Returns
        -------
        ndarray of float32, shape (rings, angles)
        """
        level = np.asarray(values, dtype=np.float32)
        level = np.where(np.isfinite(level), level, np.float32(0))
        rows, columns = self.places
        rows, columns = rows - self.region.y0, columns - self.region.x0
        gaps = self.radii * 2 * np.pi / self.config.angles
        wanted = np.maximum(0, np.round(np.log2(np.maximum(gaps, 1e-3)))).astype(int)
        out = np.empty(rows.shape, dtype=np.float32)
        for depth in range(int(wanted.max()) + 1):
            chosen = wanted == depth
            if chosen.any():
                scale, shift = 2.0**-depth, (2.0**-depth - 1) / 2
                places = np.stack([rows[chosen], columns[chosen]]) * scale + shift
                out[chosen] = ndimage.map_coordinates(level, places, order=1, mode="nearest")
            level = _halved(level)
        return out


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of 2 x 2 pixels; an odd last row or column counts twice."""
    odd_y, odd_x = (n % 2 for n in values.shape)
    even = np.pad(values, ((0, odd_y), (0, odd_x)), mode="edge") if odd_y or odd_x else values
    rows = even[::2] + even[1::2]
    halved: NDArray[np.float32] = (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)
    return halved
