"""Arrays in files, narrowed or scaled without being read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_slidesam.volume import ArrayLike


def full_index(index: Any, n_axes: int) -> tuple[Any, ...]:
    """Return an index with one entry an axis, from one that may be shorter or hold `...`."""
    parts = index if isinstance(index, tuple) else (index,)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        missing = n_axes - (len(parts) - 1)
        parts = (*parts[:at], *[slice(None)] * missing, *parts[at + 1 :])
    return (*parts, *[slice(None)] * (n_axes - len(parts)))


class SelectedArray:
    """An array with some axes held at one index, such as a time point.

    Parameters
    ----------
    data : array-like
    fixed : mapping of int to int
        The index of each axis of ``data`` that is held.
    """

    def __init__(self, data: ArrayLike, fixed: Mapping[int, int]) -> None:
        self._data = data
        self._fixed = dict(fixed)
        self._kept = [i for i in range(len(data.shape)) if i not in self._fixed]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes that are left."""
        return tuple(int(self._data.shape[i]) for i in self._kept)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        dtype: np.dtype[Any] = np.dtype(self._data.dtype)
        return dtype

    @property
    def chunks(self) -> tuple[Any, ...] | None:
        """Chunks of the axes that are left, where the data has chunks."""
        chunks = getattr(self._data, "chunks", None)
        return tuple(chunks[i] for i in self._kept) if isinstance(chunks, tuple) else None

    def __getitem__(self, index: Any) -> NDArray[Any]:
        full: list[Any] = [self._fixed.get(i) for i in range(len(self._data.shape))]
        for axis, part in zip(self._kept, full_index(index, len(self._kept)), strict=True):
            full[axis] = part
        return np.asarray(self._data[tuple(full)])


class ScaledArray:
    """An array of integers that stand for ``stored * slope + intercept``; float32 when read."""

    def __init__(self, data: ArrayLike, slope: float, intercept: float) -> None:
        self._data = data
        self._slope = slope
        self._intercept = intercept

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(self._data.shape)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of the scaled values."""
        return np.dtype(np.float32)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        stored = np.asarray(self._data[index]).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = stored * self._slope + self._intercept
            return scaled.astype(np.float32)
