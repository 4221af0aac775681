"""The cube that the coarse network sees: where it lies in a volume, and its values.

Its edges are `CoarseConfig.context` times the longer side of the prompted slice's box, in
physical units: voxels are cubes whatever the spacing. Planes are read one at a time, each only
where the cube lies, so that a lazy volume stays lazy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.geometry import Region
from napari_slidesam.model.linear import Linear

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_slidesam.geometry import Box
    from napari_slidesam.model.coarse.config import CoarseConfig

    ReadPlane = Callable[[int, Region], NDArray[Any]]

PERCENTILES = (1.0, 99.0)
"""Of the cube's values; they become 0 and 1."""


@dataclass(frozen=True, slots=True, eq=False)
class CropGrid:
    """Where a cube lies, in index coordinates of a stack of planes.

    Parameters
    ----------
    config : CoarseConfig
    anchor : float
        The prompted slice.
    centre_yx : tuple of 2 floats
    edges : tuple of 3 floats
        Of the cube along (slices, y, x), in voxels of the stack.
    n_slices : int
    plane_shape_yx : tuple of 2 int
    """

    config: CoarseConfig
    anchor: float
    centre_yx: tuple[float, float]
    edges: tuple[float, float, float]
    n_slices: int
    plane_shape_yx: tuple[int, int]

    @classmethod
    def around(
        cls,
        config: CoarseConfig,
        anchor: float,
        box: Box,
        *,
        step: float,
        spacing_yx: tuple[float, float],
        n_slices: int,
        plane_shape_yx: tuple[int, int],
    ) -> CropGrid:
        """Return the cube around a slice's box.

        Parameters
        ----------
        config : CoarseConfig
        anchor : float
            Index of the slice.
        box : Box
            Of the object on it.
        step, spacing_yx : floats > 0
            Distance of slices, and pixel sizes, in one unit.
        n_slices : int
        plane_shape_yx : tuple of 2 int
        """
        dy, dx = spacing_yx
        edge = config.context * max(box.height * dy, box.width * dx)
        centre = ((box.y0 + box.y1) / 2 - 0.5, (box.x0 + box.x1) / 2 - 0.5)
        edges = (edge / step, edge / dy, edge / dx)
        return cls(config, anchor, centre, edges, n_slices, plane_shape_yx)

    @property
    def region(self) -> Region:
        """The part of a plane that the cube covers, in it."""
        height, width = self.plane_shape_yx
        (y0, y1), (x0, x1) = ((p[0], p[-1]) for p in self.positions()[1:])
        top, left = max(0, int(np.floor(y0))), max(0, int(np.floor(x0)))
        bottom, right = min(height, int(np.ceil(y1)) + 2), min(width, int(np.ceil(x1)) + 2)
        return Region(top, left, bottom, right)

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the sampled index coordinates along slices, y and x; each of N * samples."""
        n = self.config.side * self.config.samples
        share = (np.arange(n) + 0.5) / n - 0.5
        z, y, x = (
            middle + share * edge
            for middle, edge in zip((self.anchor, *self.centre_yx), self.edges, strict=True)
        )
        return z, y, x

    def inside(self) -> NDArray[np.bool_]:
        """Return which planes of the cube lie inside the volume; shape (3, N)."""
        n, samples = self.config.side, self.config.samples
        shape = (self.n_slices, *self.plane_shape_yx)
        shares = [
            ((p >= -0.5) & (p <= size - 0.5)).reshape(n, samples).mean(1)
            for p, size in zip(self.positions(), shape, strict=True)
        ]
        return np.stack(shares) > 0.5

    def image(self, read_plane: ReadPlane) -> NDArray[np.float32]:
        """Return the cube's values.

        Parameters
        ----------
        read_plane : callable
            Takes a slice index and a `Region`, returns stored values of that shape.

        Returns
        -------
        ndarray of float32, shape (N, N, N), range [0, 1]
        """
        n, samples = self.config.side, self.config.samples
        z, y, x = self.positions()
        region = self.region
        weights = [
            Linear(y - region.y0, region.shape_yx[0]),
            Linear(x - region.x0, region.shape_yx[1]),
        ]
        below = np.clip(np.floor(z).astype(int), 0, self.n_slices - 1)
        above = np.minimum(below + 1, self.n_slices - 1)
        share = np.clip(z - below, 0, 1)
        planes: dict[int, NDArray[np.float32]] = {}

        def plane(index: int) -> NDArray[np.float32]:
            if index not in planes:
                values = np.asarray(read_plane(index, region), dtype=np.float32)
                values = np.where(np.isfinite(values), values, np.float32(0))
                fine = weights[1](weights[0](values).T).T
                planes[index] = fine.reshape(n, samples, n, samples).mean((1, 3))
            return planes[index]

        out = np.zeros((n, n, n), dtype=np.float32)
        for i, (lower, upper, part) in enumerate(zip(below, above, share, strict=True)):
            value = plane(int(lower))
            if part > 0:
                value = value * np.float32(1 - part) + plane(int(upper)) * np.float32(part)
            out[i // samples] += value / samples
            planes = {k: v for k, v in planes.items() if k >= lower}
        return stretched(out)

    def mask(self, plane_mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return a mask of the prompted slice's ``region`` in the cube.

        Parameters
        ----------
        plane_mask : ndarray of bool, shape ``region.shape_yx``

        Returns
        -------
        ndarray of float32, shape (N, N), range [0, 1]
        """
        n, samples = self.config.side, self.config.samples
        _, y, x = self.positions()
        rows, row_is_in = _nearest(y - self.region.y0, plane_mask.shape[0])
        columns, column_is_in = _nearest(x - self.region.x0, plane_mask.shape[1])
        values = plane_mask[np.ix_(rows, columns)] & row_is_in[:, None] & column_is_in
        shares: NDArray[np.float32] = values.astype(np.float32).reshape(n, samples, n, samples)
        out: NDArray[np.float32] = shares.mean((1, 3), dtype=np.float32)
        return out

    def place_of_slice(self, index: float) -> float:
        """Return where a slice lies along the cube's first axis, in its voxels."""
        n = self.config.side
        return ((index - self.anchor) / self.edges[0] + 0.5) * n - 0.5

    def places_yx(self, region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where the rows and columns of a part of a plane lie in the cube."""
        n = self.config.side
        rows = np.arange(region.y0, region.y1, dtype=np.float64) - self.centre_yx[0]
        columns = np.arange(region.x0, region.x1, dtype=np.float64) - self.centre_yx[1]
        return (rows / self.edges[1] + 0.5) * n - 0.5, (columns / self.edges[2] + 0.5) * n - 0.5


def stretched(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values between the cube's percentiles as 0 to 1; a constant cube becomes 0."""
    low, high = (float(v) for v in np.percentile(image, PERCENTILES))
    share = (image - low) / (high - low + 1e-6)
    out: NDArray[np.float32] = np.clip(share, 0, 1).astype(np.float32)
    return out


def _nearest(
    positions: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the nearest indices, and which of them lie inside."""
    nearest = np.round(positions).astype(np.int64)
    return np.clip(nearest, 0, size - 1), (nearest >= 0) & (nearest < size)
