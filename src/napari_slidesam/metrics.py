"""How well two masks agree, and how steady a mask is.

Conventions for empty masks, the same everywhere: two empty masks agree perfectly (1), an empty
and a non-empty one not at all (0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """Return the Dice coefficient 2 |A and B| / (|A| + |B|) of two masks.

    Parameters
    ----------
    a, b : array-like, same shape
        Non-zero is the object.

    Returns
    -------
    float, range [0, 1]
        1 where both masks are empty.

    Raises
    ------
    VolumeError
        The shapes differ.
    """
    a, b = _checked_masks(a, b)
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2.0 * np.count_nonzero(a & b) / total if total else 1.0


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """Return the intersection over union |A and B| / |A or B| of two masks.

    Parameters
    ----------
    a, b : array-like, same shape
        Non-zero is the object.

    Returns
    -------
    float, range [0, 1]
        1 where both masks are empty.

    Raises
    ------
    VolumeError
        The shapes differ.
    """
    a, b = _checked_masks(a, b)
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def surface_dice(a: ArrayLike, b: ArrayLike, spacing: Sequence[float], tolerance: float) -> float:
    """Return the share of the two surfaces that lies within a tolerance of the other one.

    The surface Dice of Nikolov et al. 2018 (arXiv:1809.04430, section "Surface Dice similarity
    coefficient"): ``(|S_a near S_b| + |S_b near S_a|) / (|S_a| + |S_b|)``. Here a surface is
    the set of a mask's voxels with a face neighbour outside of it, each counting the same, and
    distances are between voxel centres. What lies beyond the array counts as outside, so that
    an object cut off by the volume's end has a surface there.

    Parameters
    ----------
    a, b : array-like, same shape
        Non-zero is the object.
    spacing : sequence of float
        Distance between voxels along each axis.
    tolerance : float
        Largest distance that still counts as agreement, in the unit of ``spacing``.

    Returns
    -------
    float, range [0, 1]
        1 where both masks are empty.

    Raises
    ------
    VolumeError
        The shapes differ, the spacing does not fit them or is not positive, or the tolerance is
        negative.
    """
    a, b = _checked_masks(a, b)
    steps = _checked_spacing(spacing, a.ndim)
    if not tolerance >= 0:
        raise VolumeError(f"tolerance is a distance, not negative; got {tolerance}.")
    box_a, box_b = bounding_box(a), bounding_box(b)
    if box_a is None or box_b is None:
        return 1.0 if box_a is box_b else 0.0
    reach = [
        min(math.floor(tolerance / s * (1 + 1e-9)), n) for s, n in zip(steps, a.shape, strict=True)
    ]
    surface_a, surface_b = _surface(a, box_a, reach), _surface(b, box_b, reach)
    total = surface_a.count + surface_b.count
    # Two voxels within reach of each other lie where both widened boxes overlap.
    common = _intersection(surface_a.box, surface_b.box)
    if common is None:
        return 0.0
    part_a, part_b = surface_a.part(common), surface_b.part(common)
    near = _count_near(part_a, part_b, steps, tolerance)
    near += _count_near(part_b, part_a, steps, tolerance)
    return near / total


def stability_score(logits: ArrayLike, offset: float = 0.1) -> float:
    """Return the area at logits > +offset over the area at logits > -offset.

    Slide-SAM, appendix C.1 (b): smallest over largest predicted area within the interval.

    Parameters
    ----------
    logits : array-like of float, any shape
        The object is where they are > 0.
    offset : float
        Not negative.

    Returns
    -------
    float, range [0, 1]
        1 where both areas are empty: the mask stays empty.

    Raises
    ------
    VolumeError
        The offset is negative.
    """
    if not offset >= 0:
        raise VolumeError(f"offset is a distance in logits, not negative; got {offset}.")
    values = np.asarray(logits)
    largest = np.count_nonzero(values > -offset)
    return np.count_nonzero(values > offset) / largest if largest else 1.0


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """Return the smallest index that holds all of a mask, or None where it is empty.

    Parameters
    ----------
    mask : ndarray of bool, any shape
    """
    box: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(i for i in range(mask.ndim) if i != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        if hits.size == 0:
            return None
        box.append(slice(int(hits[0]), int(hits[-1]) + 1))
        # Later axes only look at what is left of this one.
        mask = mask[(*(slice(None),) * axis, box[-1])]
    return tuple(box)


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """The surface voxels of a mask in a widened bounding box, which may leave the array."""

    voxels: NDArray[np.bool_]
    box: tuple[slice, ...]

    @property
    def count(self) -> int:
        return int(np.count_nonzero(self.voxels))

    def part(self, box: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Return the voxels inside a box that lies within this one's."""
        inside = zip(box, self.box, strict=True)
        return self.voxels[tuple(slice(s.start - o.start, s.stop - o.start) for s, o in inside)]


def _surface(mask: NDArray[np.bool_], box: tuple[slice, ...], reach: list[int]) -> _Surface:
    inside = np.pad(mask[box], 1)
    edge = inside & ~ndimage.binary_erosion(inside)
    voxels = np.pad(edge[(slice(1, -1),) * mask.ndim], [(r, r) for r in reach])
    widened = (slice(s.start - r, s.stop + r) for s, r in zip(box, reach, strict=True))
    return _Surface(voxels, tuple(widened))


def _intersection(a: tuple[slice, ...], b: tuple[slice, ...]) -> tuple[slice, ...] | None:
    pairs = zip(a, b, strict=True)
    common = tuple(slice(max(s.start, o.start), min(s.stop, o.stop)) for s, o in pairs)
    return common if all(s.stop > s.start for s in common) else None


def _count_near(
    points: NDArray[np.bool_],
    surface: NDArray[np.bool_],
    steps: tuple[float, ...],
    tolerance: float,
) -> int:
    if not surface.any() or not points.any():
        return 0
    distance = ndimage.distance_transform_edt(~surface, sampling=steps)
    # A voxel exactly at the tolerance is near, whatever the rounding of the square root.
    return int(np.count_nonzero(distance[points] <= tolerance * (1 + 1e-9)))


def _checked_masks(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    first, second = _as_mask(np.asarray(a)), _as_mask(np.asarray(b))
    if first.shape != second.shape:
        raise VolumeError(
            f"Two masks of one shape are compared; got {first.shape} and {second.shape}. Bring "
            "them to the same grid first."
        )
    return first, second


def _as_mask(values: NDArray[Any]) -> NDArray[np.bool_]:
    return values if values.dtype == np.bool_ else values != 0


def _checked_spacing(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    steps = tuple(float(s) for s in spacing)
    if len(steps) != ndim or not all(math.isfinite(s) and s > 0 for s in steps):
        raise VolumeError(
            f"spacing is {ndim} positive numbers, one per axis of the masks; got {spacing}."
        )
    return steps
