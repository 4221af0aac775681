"""Lazy views of arrays: a part, whole numbers, channels as one value. Nothing is copied."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.io.lazy import full_index

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

    from napari_slidesam.arrays import ArrayLike

SLAB_VOXELS = 2**22
"""Voxels that are looked at together: with 8 bytes of bookkeeping each, 32 MiB a temporary."""

BoxZyx = tuple[slice, slice, slice]
"""A part of a volume: start and stop along each axis."""


class CroppedArray:
    """A box of an array that cannot be sliced without being read, such as zarr's."""

    def __init__(self, data: ArrayLike, box: Sequence[slice]) -> None:
        self._data = data
        self._starts = [int(part.start) for part in box]
        self._lengths = [int(part.stop) - int(part.start) for part in box]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the box."""
        return tuple(self._lengths)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        dtype: np.dtype[Any] = np.dtype(self._data.dtype)
        return dtype

    @property
    def chunks(self) -> tuple[Any, ...] | None:
        """Chunks of the whole array, where it has any."""
        chunks = getattr(self._data, "chunks", None)
        return chunks if isinstance(chunks, tuple) else None

    def __getitem__(self, index: Any) -> NDArray[Any]:
        parts = full_index(index, len(self._lengths))
        moved = tuple(map(_moved, parts, self._starts, self._lengths))
        return np.asarray(self._data[moved])


class WholeNumbers:
    """Labels that are stored as floating point or bool, read as integers."""

    def __init__(self, data: ArrayLike, dtype: DTypeLike) -> None:
        self._data = data
        self._dtype = np.dtype(dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(int(n) for n in self._data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the labels when read."""
        return self._dtype

    @property
    def chunks(self) -> tuple[Any, ...] | None:
        """Chunks of the stored array, where it has any."""
        chunks = getattr(self._data, "chunks", None)
        return chunks if isinstance(chunks, tuple) else None

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self._data[index]).astype(self._dtype)


class MixedChannels:
    """The weighted sum of an array's channels, float32 when read."""

    def __init__(self, data: ArrayLike, channel_axis: int, weights: Sequence[float]) -> None:
        self._data = data
        self._axis = channel_axis
        self._weights = np.asarray(weights, dtype=np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes but the channels'."""
        return tuple(int(n) for i, n in enumerate(self._data.shape) if i != self._axis)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of the sum."""
        return np.dtype(np.float32)

    @property
    def chunks(self) -> tuple[Any, ...] | None:
        """Chunks of the axes but the channels', where the array has any."""
        chunks = getattr(self._data, "chunks", None)
        if not isinstance(chunks, tuple):
            return None
        return tuple(c for i, c in enumerate(chunks) if i != self._axis)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        # Single indices become slices first, so that the channels stay on their axis.
        parts = full_index(index, len(self.shape))
        whole = [
            part if isinstance(part, slice) else _as_slice(part, n)
            for part, n in zip(parts, self.shape, strict=True)
        ]
        whole.insert(self._axis, slice(None))
        values = np.asarray(self._data[tuple(whole)]).astype(np.float32)
        used = np.flatnonzero(self._weights)
        mixed = np.moveaxis(values, self._axis, -1)[..., used] @ self._weights[used]
        kept = tuple(slice(None) if isinstance(part, slice) else 0 for part in parts)
        out: NDArray[np.float32] = mixed[kept]
        return out


def cropped(array: ArrayLike, box: BoxZyx) -> ArrayLike:
    """Return a box of an array: a view of numpy's and dask's own, a `CroppedArray` of others."""
    lengths = tuple(int(n) for n in array.shape)
    if all((part.start, part.stop) == (0, n) for part, n in zip(box, lengths, strict=True)):
        return array
    if isinstance(array, np.ndarray) or hasattr(array, "__dask_graph__"):
        part: ArrayLike = array[box]
        return part
    return CroppedArray(array, box)


def slabs(array: ArrayLike, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield ``[z0, z1)`` over an array zyx, few enough slices to be held, by whole chunks."""
    end = int(array.shape[0]) if stop is None else stop
    plane = int(array.shape[1]) * int(array.shape[2])
    step = max(1, SLAB_VOXELS // plane)
    chunks = getattr(array, "chunks", None)
    if isinstance(chunks, tuple) and chunks:
        depth = max(chunks[0]) if isinstance(chunks[0], tuple) else int(chunks[0])
        # Half a chunk costs as much to decode as a whole one.
        step = step - step % depth if step >= depth else min(depth, 4 * step)
    at = start
    while at < end:
        following = min(end, (at // step + 1) * step)
        yield at, following
        at = following


def _moved(part: Any, start: int, length: int) -> Any:
    """Return an index into a box as one into the whole array."""
    if isinstance(part, slice):
        first, last, step = part.indices(length)
        return slice(first + start, max(first, last) + start, step)
    whole = _as_slice(part, length)
    return whole.start + start


def _as_slice(part: Any, length: int) -> slice:
    index = operator.index(part)
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of bounds for an axis of length {length}")
    return slice(index % length, index % length + 1)
