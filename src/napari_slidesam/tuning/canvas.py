"""A label volume to draw shapes on: ellipsoids, tubes, cells; and to bend as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.tuning.fields import smooth_field

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """A part of a canvas and every voxel's relative radius there: 1 on the surface."""

    index: tuple[slice, ...]
    distance: NDArray[np.float32]

    def cut(self, axis: int, share: float, from_end: bool) -> Blob:
        """Return the blob without a share of its extent along an axis."""
        size = self.distance.shape[axis]
        removed = np.arange(size) < size * share
        if from_end:
            removed = removed[::-1]
        shape = [1, 1, 1]
        shape[axis] = size
        far = np.float32(np.inf)
        return Blob(self.index, np.where(removed.reshape(shape), far, self.distance))


class Canvas:
    """An empty label volume to draw on, in units of its side.

    Parameters
    ----------
    shape_zyx : tuple of 3 ints
        Voxels along each axis; together they make a cube of side 1.
    """

    def __init__(self, shape_zyx: tuple[int, int, int]) -> None:
        self.labels = np.zeros(shape_zyx, dtype=np.uint16)
        self.spacing = 1.0 / np.array(shape_zyx)
        self.unprompted: set[int] = set()
        """Labels that are no objects: webs of walls, what fills the gaps."""
        self.last_label = 0

    def new_label(self) -> int:
        """Return a label that is not in use."""
        self.last_label += 1
        return self.last_label

    def window(
        self, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> tuple[tuple[slice, ...], list[NDArray[np.float32]]] | None:
        """Return the voxels between two corners: their index, and open coordinate grids."""
        start = np.clip(np.floor(low / self.spacing), 0, self.labels.shape).astype(int)
        stop = np.clip(np.ceil(high / self.spacing), 0, self.labels.shape).astype(int)
        if (stop <= start).any():
            return None
        index = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
        axes = [
            ((np.arange(a, b) + 0.5) * s).astype(np.float32)
            for a, b, s in zip(start, stop, self.spacing, strict=True)
        ]
        return index, list(np.ix_(*axes))

    def ellipsoid(self, centre: NDArray[Any], radii: NDArray[Any], turn: NDArray[Any]) -> Blob:
        """Return where an ellipsoid lies; nothing is drawn yet."""
        reach = np.sqrt(((turn.T * radii) ** 2).sum(1))
        found = self.window(centre - reach, centre + reach)
        if found is None:
            return Blob(tuple(slice(0, 0) for _ in range(3)), np.zeros((0, 0, 0), np.float32))
        index, grids = found
        offsets = [g - np.float32(c) for g, c in zip(grids, centre, strict=True)]
        distance: Any = np.float32(0)
        for row in turn / radii[:, None]:
            along = sum(np.float32(r) * o for r, o in zip(row, offsets, strict=True))
            distance = distance + along * along
        return Blob(index, np.sqrt(distance))

    def solid(
        self,
        centre: NDArray[Any],
        radii: NDArray[Any],
        turn: NDArray[Any],
        power: float,
        waves: NDArray[Any] | None = None,
    ) -> Blob:
        """Return where a superellipsoid lies: an octahedron (1), an ellipsoid (2), a box (8).

        Parameters
        ----------
        centre, radii : ndarray, shape (3,)
        turn : ndarray, shape (3, 3)
        power : float
            At least 1.
        waves : ndarray, shape (N, 4), optional
            Bumps and dents of the surface: of each wave the vector, in periods a radius, and
            the height, as a share of the radius.
        """
        bumps = 0.0 if waves is None else float(np.abs(waves[:, 3]).sum())
        # Corners reach further than radii: by the root of 3 for a box.
        longest = 3 ** max(0.0, 0.5 - 1 / power) * (1 + bumps)
        reach = longest * np.sqrt(((turn.T * radii) ** 2).sum(1))
        found = self.window(centre - reach, centre + reach)
        if found is None:
            return Blob(tuple(slice(0, 0) for _ in range(3)), np.zeros((0, 0, 0), np.float32))
        index, grids = found
        offsets = [g - np.float32(c) for g, c in zip(grids, centre, strict=True)]
        along = [
            sum(np.float32(r) * o for r, o in zip(row, offsets, strict=True))
            for row in turn / radii[:, None]
        ]
        distance: Any = sum(np.abs(a) ** np.float32(power) for a in along)
        distance = distance ** np.float32(1 / power)
        for wave in () if waves is None else waves:
            phase = sum(np.float32(w) * a for w, a in zip(wave[:3], along, strict=True))
            distance = distance * (1 + np.float32(wave[3]) * np.sin(2 * np.float32(np.pi) * phase))
        return Blob(index, distance)

    def fill(self, blob: Blob, label: int, inner: float = 0.0, outer: float = 1.0) -> None:
        """Give the voxels of a blob between two relative radii a label."""
        view = self.labels[blob.index]
        view[(blob.distance >= inner) & (blob.distance < outer)] = label

    def fill_free(self, blob: Blob, label: int) -> None:
        """Give the voxels of a blob that are still background a label."""
        view = self.labels[blob.index]
        view[(blob.distance < 1) & (view == 0)] = label

    def tube(
        self,
        points: NDArray[np.float64],
        radii: NDArray[np.float64],
        labels: NDArray[np.int_],
        only_free: bool = False,
    ) -> None:
        """Draw balls along a curve, each with a radius and a label."""
        for point, radius, label in zip(points, radii, labels, strict=True):
            found = self.window(point - radius, point + radius)
            if found is None:
                continue
            index, grids = found
            offsets = [(g - np.float32(c)) ** 2 for g, c in zip(grids, point, strict=True)]
            inside = offsets[0] + offsets[1] + offsets[2] < radius * radius
            view = self.labels[index]
            if only_free:
                inside &= view == 0
            view[inside] = label

    def voronoi(
        self, points: NDArray[np.float64], owners: NDArray[np.int_]
    ) -> tuple[NDArray[np.int_], NDArray[np.float32]]:
        """Return for every voxel the owner of the nearest point, and how far that point is."""
        index = np.clip((points / self.spacing).astype(int), 0, np.array(self.labels.shape) - 1)
        marks = np.zeros(self.labels.shape, dtype=np.int32)
        marks[tuple(index.T)] = owners
        distance, nearest = ndimage.distance_transform_edt(
            marks == 0, sampling=self.spacing, return_indices=True
        )
        return marks[tuple(nearest)], distance.astype(np.float32)

    def boundaries(self, owners: NDArray[np.int_], width: float) -> NDArray[np.bool_]:
        """Return where cells meet, about ``width`` thick but at least one voxel."""
        size = tuple(int(max(2, round(width / s) + 1)) for s in self.spacing)
        compact = owners.astype(np.uint16)
        edges: NDArray[np.bool_] = ndimage.maximum_filter(compact, size) != ndimage.minimum_filter(
            compact, size
        )
        return edges

    def bend(self, rng: np.random.Generator, amplitude: float) -> None:
        """Displace everything by a smooth random field of this amplitude."""
        grids = np.ogrid[tuple(slice(0, n) for n in self.labels.shape)]
        index = []
        for axis, (grid, size) in enumerate(zip(grids, self.labels.shape, strict=True)):
            shift = smooth_field(rng, self.labels.shape, (4, 4, 4))
            shift += np.float32(0.3) * smooth_field(rng, self.labels.shape, (9, 9, 9))
            shift *= np.float32(amplitude / self.spacing[axis])
            index.append(np.clip(np.rint(grid + shift), 0, size - 1).astype(np.int32))
        self.labels = self.labels[tuple(index)]
