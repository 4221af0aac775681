"""How large each object is on each slice, along several axes at once, in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.tuning.pair_arrays import slabs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.arrays import ArrayLike
    from napari_slidesam.tuning.pair_arrays import BoxZyx

_TABLE_SIZE = 2**22
"""Pairs of slice and label up to which areas are counted in a table, beyond it by sorting."""

_MERGE_AT = 2**21
"""Counts of slabs that are put together when there are so many."""


@dataclass(frozen=True, slots=True, eq=False)
class SliceAreas:
    """The areas of objects on the slices along one axis, sorted by slice, then label.

    Parameters
    ----------
    slices : ndarray of int64, shape (N,)
        From the start of the volume, not of the box that was counted.
    labels : ndarray of int64, shape (N,)
    areas : ndarray of int64, shape (N,)
        Voxels; at least 1.
    """

    slices: NDArray[np.int64]
    labels: NDArray[np.int64]
    areas: NDArray[np.int64]

    def totals(self, n_slices: int) -> NDArray[np.int64]:
        """Return the voxels of all objects on each slice; shape (n_slices,)."""
        totals = np.zeros(n_slices, dtype=np.int64)
        np.add.at(totals, self.slices, self.areas)
        return totals


def count_areas(
    labels: ArrayLike, box: BoxZyx, axes: Iterable[int], wanted: Sequence[int]
) -> dict[int, SliceAreas]:
    """Count the voxels of objects on every slice of a box.

    Reads a slab of slices at a time and keeps one number for each pair of slice and label that
    occurs.

    Parameters
    ----------
    labels : array-like of int, shape (Z, Y, X)
    box : tuple of 3 slices
        The part that is counted.
    axes : iterable of int
        Axes to count along, 0 to 2.
    wanted : sequence of int
        The labels to count, in rising order, without 0.

    Returns
    -------
    dict of int to SliceAreas
        By axis.
    """
    names = np.asarray(wanted, dtype=np.int64)
    ranks = _Ranks(names)
    lengths = tuple(part.stop - part.start for part in box)
    tallies = {axis: _Tally(lengths[axis] * max(1, names.size)) for axis in axes}
    for z0, z1 in slabs(labels, box[0].start, box[0].stop):
        slab = np.asarray(labels[z0:z1, box[1], box[2]])
        flat = np.flatnonzero(slab)
        rank = ranks.of(slab.ravel()[flat])
        if (rank < 0).any():
            flat, rank = flat[rank >= 0], rank[rank >= 0]
        for axis, tally in tallies.items():
            tally.add(_along(flat, slab.shape, axis, z0 - box[0].start) * names.size + rank)
    found = {}
    for axis, tally in tallies.items():
        keys, areas = tally.merged()
        slices = keys // max(1, names.size) + box[axis].start
        found[axis] = SliceAreas(slices, names[keys % max(1, names.size)], areas)
    return found


class _Ranks:
    """The place of each wanted label among them; -1 for others."""

    def __init__(self, names: NDArray[np.int64]) -> None:
        self._names = names
        self._table: NDArray[np.int64] | None = None
        if names.size and names[-1] < _TABLE_SIZE:
            self._table = np.full(int(names[-1]) + 1, -1, dtype=np.int64)
            self._table[names] = np.arange(names.size)

    def of(self, values: NDArray[Any]) -> NDArray[np.int64]:
        if self._names.size == 0:
            return np.full(values.shape, -1, dtype=np.int64)
        whole = values.astype(np.int64, copy=False)
        if self._table is not None:
            known = (whole >= 0) & (whole < self._table.size)
            return np.where(known, self._table[np.where(known, whole, 0)], -1)
        rank = np.minimum(np.searchsorted(self._names, whole), self._names.size - 1)
        return np.where(self._names[rank] == whole, rank, -1)


class _Tally:
    """How often each key occurs, in memory of the keys that do."""

    def __init__(self, n_keys: int) -> None:
        self._n_keys = n_keys
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, keys: NDArray[np.int64]) -> None:
        if keys.size == 0:
            return
        if self._n_keys <= _TABLE_SIZE:
            table = np.bincount(keys)
            distinct = np.flatnonzero(table)
            self._parts.append((distinct, table[distinct]))
        else:
            found, counts = np.unique(keys, return_counts=True)
            self._parts.append((found, counts))
        if len(self._parts) > 1 and sum(k.size for k, _ in self._parts) > _MERGE_AT:
            self._parts = [self.merged()]

    def merged(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the keys, sorted, and how often each occurs."""
        if not self._parts:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        keys = np.concatenate([k for k, _ in self._parts])
        distinct, inverse = np.unique(keys, return_inverse=True)
        counts = np.zeros(distinct.size, dtype=np.int64)
        np.add.at(counts, inverse, np.concatenate([c for _, c in self._parts]))
        return distinct, counts


def _along(
    flat: NDArray[np.intp], shape: tuple[int, ...], axis: int, z_start: int
) -> NDArray[np.int64]:
    """Return the positions along an axis of flat indices into a slab."""
    if axis == 0:
        return flat // (shape[1] * shape[2]) + z_start
    return (flat // shape[2]) % shape[1] if axis == 1 else flat % shape[2]
