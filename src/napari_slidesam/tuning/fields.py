"""Smooth random fields by separable spline interpolation of coarse noise."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SPLINE_ORDER = 3


@lru_cache(maxsize=1024)
def upsampling_matrix(coarse: int, fine: int) -> NDArray[np.float32]:
    """Return the matrix (fine, coarse) of cubic spline interpolation along one axis."""
    if coarse == fine:
        return np.eye(fine, dtype=np.float32)
    matrix: NDArray[np.float32] = ndimage.zoom(
        np.eye(coarse), (fine / coarse, 1), order=SPLINE_ORDER, mode="reflect", grid_mode=True
    ).astype(np.float32)
    return matrix


@lru_cache(maxsize=1024)
def averaging_matrix(fine: int, coarse: int) -> NDArray[np.float32]:
    """Return the matrix (coarse, fine) of area averaging along one axis."""
    edges = np.linspace(0, fine, coarse + 1)
    pixels = np.arange(fine)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(overlap, 0, None)
    matrix: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def blurring_matrix(size: int, sigma_px: float) -> NDArray[np.float32]:
    """Return the matrix (size, size) of a Gaussian blur along one axis, weights renormalised."""
    distance = np.arange(size, dtype=np.float32)
    kernel = np.exp(-0.5 * ((distance[:, None] - distance) / max(sigma_px, 1e-3)) ** 2)
    matrix: NDArray[np.float32] = (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)
    return matrix


def apply_in_plane(
    stack: NDArray[np.float32], along_y: NDArray[np.float32], along_x: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Apply one matrix to the rows and one to the columns of every slice (K, Y, X)."""
    result: NDArray[np.float32] = np.matmul(np.matmul(along_y, stack), along_x.T)
    return result


def smooth_field(
    rng: np.random.Generator, shape: Sequence[int], cells: Sequence[int]
) -> NDArray[np.float32]:
    """Return a random field of this shape, interpolated from normal noise on ``cells`` points."""
    field = rng.standard_normal(tuple(cells), dtype=np.float32)
    for axis, (coarse, fine) in enumerate(zip(cells, shape, strict=True)):
        if coarse != fine:
            matrix = upsampling_matrix(coarse, fine)
            field = np.moveaxis(np.tensordot(matrix, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def stack_field(
    rng: np.random.Generator, slices: int, side_px: int, scale_px: float, correlation: float
) -> NDArray[np.float32]:
    """Return a random field (slices, side, side) with a grain of ``scale_px``.

    Parameters
    ----------
    correlation : float
        0: every slice has a field of its own; 1: all share one.
    """
    cells = side_px if scale_px <= 1 else max(3, int(np.ceil(side_px / scale_px)) + 1)
    own = rng.standard_normal((slices, cells, cells), dtype=np.float32)
    if correlation > 0:
        shared = rng.standard_normal((1, cells, cells), dtype=np.float32)
        own = np.float32(correlation) * shared + np.float32(np.sqrt(1 - correlation**2)) * own
    if cells == side_px:
        return own
    matrix = upsampling_matrix(cells, side_px)
    return apply_in_plane(own, matrix, matrix)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number between ``low`` and ``high`` whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation matrix (3, 3), uniform over all rotations (from a unit quaternion)."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
