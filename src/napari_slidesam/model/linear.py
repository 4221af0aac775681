"""Linear interpolation along one axis, for grids that stand upright."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Linear:
    """Linear interpolation along the first axis, its ends repeated.

    Parameters
    ----------
    positions : ndarray of float64, shape (P,)
        Index coordinates.
    size : int
        Of the axis.
    """

    def __init__(self, positions: NDArray[np.float64], size: int) -> None:
        inside = np.clip(positions, 0, size - 1)
        self._below = np.floor(inside).astype(int)
        self._above = np.minimum(self._below + 1, size - 1)
        self._share = (inside - self._below).astype(np.float32)[:, None]

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the values at the positions: shape (size, M) to (P, M)."""
        out: NDArray[np.float32] = (
            values[self._below] * (1 - self._share) + values[self._above] * self._share
        )
        return out
