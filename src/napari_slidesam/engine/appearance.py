"""What an object looks like on its prompted slice, to notice when a mask covers something else.

The grey values inside the prompted slice's mask, against those around it, give each value the
probability of belonging to the object (the colour model of interactive graph cuts, Boykov and
Jolly, ICCV 2001). Where the object ends, what its mask still covers is background and looks like
it. The paper has no such guard; it needs no training and serves every network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BINS = 32
_SMOOTHING_PX = 3
_MIN_PIXELS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """The probability of each grey value to belong to the object.

    Parameters
    ----------
    edges : ndarray of float64, shape (bins - 1,)
        Limits between the bins of grey values, in stored values.
    probability : ndarray of float64, shape (bins,), range [0, 1]
    own_likeness : float, range [0, 1]
        The likeness of the slice that it was made from: 0.5 where the object looks like what
        surrounds it.
    """

    edges: NDArray[np.float64]
    probability: NDArray[np.float64]
    own_likeness: float

    @classmethod
    def of(cls, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> Appearance | None:
        """Learn from one slice; None where there is too little inside or outside to learn from.

        Parameters
        ----------
        values : ndarray of float32, shape (Y, X)
            Stored values of a region around the object; those that are not finite are left out.
        mask : ndarray of bool, shape (Y, X)
        """
        smooth = _smoothed(values)
        known = np.isfinite(smooth)
        inside, outside = smooth[mask & known], smooth[~ndimage.binary_dilation(mask) & known]
        if min(inside.size, outside.size) < _MIN_PIXELS:
            return None
        both = np.concatenate([inside, outside])
        low, high = np.percentile(both, (1, 99))
        if not high > low:
            return None
        edges = np.linspace(low, high, _BINS + 1)[1:-1]
        densities = []
        for part in (inside, outside):
            counts = np.bincount(np.searchsorted(edges, part), minlength=_BINS).astype(float)
            counts = ndimage.gaussian_filter1d(counts, 1.0, mode="nearest")
            densities.append(counts / counts.sum())
        probability = (densities[0] + 1e-3) / (densities[0] + densities[1] + 2e-3)
        likeness = float(probability[np.searchsorted(edges, inside)].mean())
        return cls(edges, probability, likeness)

    def likeness(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
        """Return how much of the object's look is left in another slice's mask.

        Returns
        -------
        float
            1 where it looks as on the slice learnt from, 0 where as likely object as not, below
            where it looks like the surroundings. 1 where nothing is known.
        """
        smooth = _smoothed(values)
        covered = smooth[mask & np.isfinite(smooth)]
        if covered.size == 0 or self.own_likeness <= 0.5:
            return 1.0
        found = float(self.probability[np.searchsorted(self.edges, covered)].mean())
        return (found - 0.5) / (self.own_likeness - 0.5)


def _smoothed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average away the noise of single pixels; a few pixels are too few for that."""
    if min(values.shape) < 4 * _SMOOTHING_PX:
        return values
    finite = np.isfinite(values)
    share = ndimage.uniform_filter(finite.astype(np.float32), _SMOOTHING_PX, mode="nearest")
    total = ndimage.uniform_filter(
        np.where(finite, values, np.float32(0)), _SMOOTHING_PX, mode="nearest"
    )
    smooth: NDArray[np.float32] = np.full_like(values, np.nan)
    np.divide(total, share, out=smooth, where=finite)
    return smooth
