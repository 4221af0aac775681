"""Planes through labelled volumes: which way they lie, and what a target looks like on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.tuning.components import EIGHT_CONNECTED, central_part
from napari_slidesam.tuning.fields import random_rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.tuning.labelled import LabelledVolume

SAMPLE_VOXELS = 300
"""Voxels kept of every object: enough to start from, and to know its extent."""
VOXELS_FOR_EXTREMES = 20_000
COARSE_PX = 64
"""Side of the coarse looks that find a target's box."""


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Where a stack lies: a point in voxels and three directions in the spacing's unit."""

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    """Rows: the normal, and the directions of the stack's y and x."""

    @property
    def through(self) -> int:
        """The volume's axis that the normal follows most."""
        return int(np.abs(self.axes[0]).argmax())

    def coordinates(
        self, spacing: NDArray[np.float64], side: float, step: float, size_px: int, slices: int
    ) -> NDArray[np.float32]:
        """Return the voxel coordinates (3, slices, size, size) of every pixel."""
        depth = (np.arange(slices) - slices // 2) * step
        place = (np.arange(size_px) + 0.5) / size_px * side - side / 2
        n, y, x = (self.axes / spacing).astype(np.float32)[:, :, None]
        along = [n * depth.astype(np.float32), y * place.astype(np.float32)]
        along.append(x * place.astype(np.float32))
        centre = self.centre.astype(np.float32)[:, None]
        in_plane = along[1][:, :, None] + along[2][:, None, :]
        coordinates: NDArray[np.float32] = (centre + along[0])[:, :, None, None] + in_plane[:, None]
        return coordinates

    def moved(self, offset: NDArray[np.float64], spacing: NDArray[np.float64]) -> Plane:
        """Return the plane shifted by an offset in the spacing's unit."""
        return Plane(self.centre + offset / spacing, self.axes)


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """What a coarse look at the centre slice shows of the target."""

    labels: tuple[int, ...]
    offset_yx: tuple[float, float]
    """From the looked-at point to the middle of the target's box."""
    side: float
    """Longest side of that box."""


class ObjectIndex:
    """A labelled volume made ready for drawing: some voxels of each object, and its size.

    Parameters
    ----------
    volume : LabelledVolume
        At least one object.
    """

    def __init__(self, volume: LabelledVolume) -> None:
        self.volume = volume
        self.spacing = np.array(volume.spacing_zyx)
        self.shape = np.array(volume.labels.shape)
        flat = volume.labels.ravel()
        order = np.argsort(flat, kind="stable").astype(np.int32)
        counts = np.bincount(flat)
        starts = np.concatenate([[0], np.cumsum(counts)])
        rng = np.random.default_rng(0)
        self.voxels = {
            label: self._representatives(order[starts[label] : starts[label + 1]], rng)
            for label in volume.object_ids
        }
        weights = counts[list(volume.object_ids)].astype(float) ** 0.33
        self.probabilities = weights / weights.sum()

    def _representatives(
        self, flat: NDArray[np.int32], rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """Return random voxels of an object and those farthest out in 26 directions."""
        some = (
            flat[rng.integers(0, flat.size, VOXELS_FOR_EXTREMES)]
            if flat.size > (VOXELS_FOR_EXTREMES)
            else flat
        )
        voxels = np.stack(np.unravel_index(some, self.volume.labels.shape), 1)
        directions = np.stack(np.unravel_index(np.arange(27), (3, 3, 3)), 1)[:13] - 1.0
        heights = (voxels * self.spacing) @ directions.T
        far = np.concatenate([heights.argmin(0), heights.argmax(0)])
        chosen = np.concatenate([rng.integers(0, len(voxels), SAMPLE_VOXELS), far])
        representatives: NDArray[np.int16] = voxels[chosen].astype(np.int16)
        return representatives

    def draw_object(self, rng: np.random.Generator) -> int:
        """Return a label; larger objects are a little more likely."""
        return int(rng.choice(self.volume.object_ids, p=self.probabilities))

    def size(self, label: int) -> float:
        """Return an object's extent in the spacing's unit: 3 x the mean deviation of an axis."""
        return 3.0 * float((self.voxels[label] * self.spacing).std(0).mean())

    def look_up(
        self, coordinates: NDArray[np.float32], through: int | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the labels nearest to coordinates, and which of those lie inside the volume.

        Labels outside are those of the nearest border voxel. Along the axis ``through`` outside
        counts as inside: there the end slices are repeated.
        """
        inside = np.ones(coordinates.shape[1:], dtype=bool)
        flat = np.zeros(coordinates.shape[1:], dtype=np.int32)
        for axis, size in enumerate(self.volume.labels.shape):
            index = np.rint(coordinates[axis]).astype(np.int32)
            clipped = np.clip(index, 0, size - 1)
            if axis != through:
                inside &= index == clipped
            flat *= size
            flat += clipped
        return self.volume.labels.ravel()[flat], inside


def draw_axes(rng: np.random.Generator, full_turn: bool, tilt_deg: float) -> NDArray[np.float64]:
    """Return the stack's normal, y and x as rows: any rotation, or axes nearly."""
    if full_turn:
        return random_rotation(rng)
    axes: NDArray[np.float64] = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)[:, None]
    if tilt_deg > 0 and rng.random() < 0.5:
        angles = np.deg2rad(rng.normal(0, tilt_deg, 3))
        for angle, (a, b) in zip(angles, ((0, 1), (0, 2), (1, 2)), strict=True):
            turn = np.eye(3)
            turn[a, a] = turn[b, b] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            axes = turn @ axes
    return axes


def draw_plane(
    index: ObjectIndex,
    label: int,
    axes: NDArray[np.float64],
    end_depth: float | None,
    rng: np.random.Generator,
) -> Plane:
    """Return a plane through a random voxel of an object, or close to one of its ends.

    Parameters
    ----------
    index : ObjectIndex
        The volume.
    label : int
        The object.
    axes : ndarray of float64, shape (3, 3)
        Rows: the plane's normal, y and x.
    end_depth : float, optional
        How far inside one of the object's two ends the plane shall lie.
    rng : numpy.random.Generator
        Source of all choices.
    """
    voxels = index.voxels[label].astype(float)
    if end_depth is None:
        return Plane(voxels[rng.integers(SAMPLE_VOXELS)], axes)
    heights = (voxels * index.spacing) @ axes[0]
    sign = float(rng.choice([-1.0, 1.0]))
    end = voxels[int(np.argmax(sign * heights))]
    if (end < 1).any() or (end > index.shape - 2).any():  # cut by the volume's border: no end
        sign = -sign
    wanted = (sign * heights).max() - end_depth
    nearest = np.argsort(np.abs(sign * heights - wanted))[:8]
    chosen = int(rng.choice(nearest))
    plane = Plane(voxels[chosen], axes)
    shift = wanted - sign * heights[chosen]
    return plane.moved(sign * shift * axes[0], index.spacing)


def look_at_target(
    index: ObjectIndex,
    plane: Plane,
    label: int,
    wants_union: bool,
    rng: np.random.Generator,
) -> Outline | None:
    """Look coarsely at the centre slice: where the target is there, and how large.

    The field of view starts at the object's extent; it grows while the target leaves it and
    shrinks while the target is small in it.
    """
    offsets = (index.voxels[label] - plane.centre) * index.spacing
    least = 8 * float(index.spacing.min())
    most = 2 * float((index.shape * index.spacing).max())
    field = float(np.clip(2.2 * np.abs(offsets @ plane.axes[1:].T).max(), least, most))
    targets: tuple[int, ...] = (label,)
    centre_yx = np.zeros(2)
    for attempt in range(4):
        looked = plane.moved(centre_yx @ plane.axes[1:], index.spacing)
        labels = _coarse_slice(index, looked, field)
        if attempt == 0 and wants_union:
            targets = _with_neighbours(labels, label, index.volume.object_ids, rng)
        parts, count = ndimage.label(np.isin(labels, targets), EIGHT_CONNECTED)
        if count == 0:
            return None
        rows, cols = ndimage.find_objects((parts == central_part(parts)).astype(np.int8))[0]
        pixel = field / COARSE_PX
        middle_px = np.array([rows.start + rows.stop, cols.start + cols.stop]) / 2 - COARSE_PX / 2
        found = centre_yx + middle_px * pixel
        side = max(rows.stop - rows.start, cols.stop - cols.start) * pixel
        clipped = min(rows.start, cols.start) == 0 or max(rows.stop, cols.stop) == COARSE_PX
        if clipped and field < most:
            field = min(1.8 * field, most)
        elif side < 0.3 * field and field > least:
            centre_yx, field = found, max(2.6 * side, least)
        else:
            break
    offset = (float(found[0]), float(found[1]))
    return Outline(targets, offset, max(side, 4 * float(index.spacing.min())))


def _coarse_slice(index: ObjectIndex, plane: Plane, field: float) -> NDArray[Any]:
    """Return the labels (COARSE_PX, COARSE_PX) of one slice, 0 outside the volume."""
    coordinates = plane.coordinates(index.spacing, field, 0.0, COARSE_PX, 1)
    labels, inside = index.look_up(coordinates)
    seen: NDArray[Any] = np.where(inside, labels, 0)[0]
    return seen


def _with_neighbours(
    labels: NDArray[Any], label: int, object_ids: tuple[int, ...], rng: np.random.Generator
) -> tuple[int, ...]:
    """Return an object together with one to four of those that touch it on a slice."""
    mask = labels == label
    ring = ndimage.binary_dilation(mask, EIGHT_CONNECTED, iterations=2) & ~mask
    around = np.intersect1d(labels[ring], object_ids)
    count = min(len(around), int(rng.integers(1, 5)))
    return (label, *(int(x) for x in rng.choice(around, count, replace=False)))
