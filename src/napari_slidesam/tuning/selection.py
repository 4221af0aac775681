"""Which stacks of a pool to draw more often: those that stand out, those in which objects end.

A network from scratch settles on "an ellipse in the box" and leaves it slowly while a good part
of its examples show no contrast. It starts with those that do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_slidesam.tuning.batches import STACK_SLICES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.tuning.pool import Pool

_MIN_PIXELS = 10
_RING_PX = 8


def contrast(stack: NDArray[np.uint8]) -> float:
    """Return how separable a target is from its surroundings by grey value alone.

    Parameters
    ----------
    stack : ndarray of uint8, shape (6, P, P)
        Five slices and the bit field of their masks.

    Returns
    -------
    float, range [0, 1]
        ``2 |AUC - 0.5|`` of the averaged pixels inside against those in a ring around, on the
        centre slice at half resolution; 0 where there are too few of either.
    """
    centre = STACK_SLICES // 2
    mask = ((stack[STACK_SLICES] >> centre) & 1).astype(bool)[::2, ::2]
    image = ndimage.uniform_filter(stack[centre][::2, ::2].astype(np.float32), 3)
    core = ndimage.binary_erosion(mask)
    inside = image[core if core.sum() >= _MIN_PIXELS else mask]
    around = ndimage.binary_dilation(mask, iterations=_RING_PX)
    outside = image[around & ~ndimage.binary_dilation(mask)]
    if min(inside.size, outside.size) < _MIN_PIXELS:
        return 0.0
    bright = np.bincount(inside.astype(int), minlength=256)
    dark = np.bincount(outside.astype(int), minlength=256)
    below = np.cumsum(dark) - dark / 2
    auc = float((bright * below).sum() / (inside.size * outside.size))
    return 2 * abs(auc - 0.5)


def easy_indices(pool: Pool, share: float) -> NDArray[np.int64]:
    """Return the indices of the best-contrasted share of a pool's stacks, sorted."""
    values = np.array([contrast(pool.read([i])[0]) for i in range(pool.available)])
    count = max(1, round(share * values.size))
    return np.sort(np.argsort(-values, kind="stable")[:count])


def ending_indices(pool: Pool) -> NDArray[np.int64]:
    """Return the indices of the stacks that hold a slice without the object, sorted."""
    chosen = []
    for i in range(pool.available):
        found = np.bitwise_or.reduce(pool.read([i])[0, STACK_SLICES], axis=None)
        if found != (1 << STACK_SLICES) - 1:
            chosen.append(i)
    return np.array(chosen, dtype=np.int64)
