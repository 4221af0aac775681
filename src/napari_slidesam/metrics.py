"""How well two masks agree, and how steady a mask is.

Conventions for empty masks, the same everywhere: two empty masks agree perfectly (1), an empty
and a non-empty one not at all (0).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from napari_slidesam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_ROUNDING = 1e-9


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
    points_a, points_b = _surface_points(a, box_a, steps), _surface_points(b, box_b, steps)
    # A voxel exactly at the tolerance is near, whatever the rounding of its distance.
    reach = tolerance * (1 + _ROUNDING) + _ROUNDING * min(steps)
    near = _count_near(points_a, points_b, reach) + _count_near(points_b, points_a, reach)
    return near / (len(points_a) + len(points_b))


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


def _surface_points(
    mask: NDArray[np.bool_], box: tuple[slice, ...], steps: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the surface voxels of a mask, shape (N, axes), in the unit of ``steps``."""
    inside = np.pad(mask[box], 1)
    edge = np.argwhere(inside & ~ndimage.binary_erosion(inside))
    start = [part.start - 1 for part in box]
    return np.asarray((edge + start) * steps, dtype=np.float64)


def _count_near(points: NDArray[np.float64], surface: NDArray[np.float64], reach: float) -> int:
    # Several times faster than a distance transform of the box that holds both.
    tree = KDTree(surface, compact_nodes=False, balanced_tree=False)
    distances, _ = tree.query(points, distance_upper_bound=reach)
    return int(np.count_nonzero(np.isfinite(distances)))


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
