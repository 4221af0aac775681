"""Which stacks of a pool to draw more often: real, well contrasted, or with the object's end.

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

    from napari_slidesam.tuning.pool_files import JoinedPools, Pool

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


def contrasts(pool: Pool | JoinedPools) -> NDArray[np.float64]:
    """Return `contrast` of every stack of a pool."""
    return np.array([contrast(pool.read([i])[0]) for i in range(pool.available)])


def best_contrasted(values: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Return which values are among the highest share, at least one."""
    count = max(1, round(share * values.size))
    chosen = np.zeros(values.size, dtype=np.bool_)
    chosen[np.argsort(-values, kind="stable")[:count]] = True
    return chosen


def is_real(pool: Pool | JoinedPools) -> NDArray[np.bool_]:
    """Return which stacks were cut from real images."""
    names = pool.source_names(np.arange(pool.available))
    return np.array([name.startswith("real/") for name in names])


def has_end(pool: Pool | JoinedPools) -> NDArray[np.bool_]:
    """Return which stacks hold a slice without the object."""
    everywhere = (1 << STACK_SLICES) - 1
    fields = (pool.read([i])[0, STACK_SLICES] for i in range(pool.available))
    return np.array([np.bitwise_or.reduce(f, axis=None) != everywhere for f in fields])


class StackChoice:
    """Draws the stacks of a batch by their kind.

    Parameters
    ----------
    pool : Pool
    easy_part : float
        Share of the pool, best contrasted first, that `draw` takes while ``easy``.
    end_share : float
        Share of a batch drawn from the stacks in which the object ends; 0 leaves it to chance.
    real_share : float, optional
        Share of a batch drawn from real images; None leaves it to chance.
    made_up_part : float
        Share of the other stacks, best contrasted first, that is drawn from at all.
    """

    def __init__(
        self,
        pool: Pool | JoinedPools,
        *,
        easy_part: float,
        end_share: float,
        real_share: float | None,
        made_up_part: float,
    ) -> None:
        values, real, ends = contrasts(pool), is_real(pool), has_end(pool)
        usable = real.copy()
        if (~real).any():
            usable[~real] = best_contrasted(values[~real], made_up_part)
        self._end_share = end_share if ends.any() else 0.0
        natural = float(real[usable].mean())
        self._real_share = natural if real_share is None or natural in (0, 1) else real_share
        self._easy = np.flatnonzero(best_contrasted(values, easy_part))
        self._groups = {
            (from_real, with_end): np.flatnonzero(
                usable & (real == from_real) & (ends if with_end else True)
            )
            for from_real in (False, True)
            for with_end in (False, True)
        }

    def draw(self, count: int, rng: np.random.Generator, *, easy: bool) -> NDArray[np.int64]:
        """Return the sorted indices of ``count`` stacks."""
        if easy:
            return np.sort(self._easy[rng.integers(0, self._easy.size, count)])
        kinds = zip(
            rng.random(count) < self._real_share, rng.random(count) < self._end_share, strict=True
        )
        drawn = []
        for from_real, with_end in kinds:
            group = self._groups[bool(from_real), bool(with_end)]
            if group.size == 0:
                group = self._groups[bool(from_real), False]
            drawn.append(group[rng.integers(group.size)])
        return np.sort(np.array(drawn, dtype=np.int64))
