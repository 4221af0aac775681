"""Which parts of the pairs are trained on and which are held out, without a leak.

Several pairs are split pair by pair. One pair is cut into slabs of slices::

    slices   0 .......... 19   20 21   22 ...... 29   30 31   32 ....... 47
             [  training  ]    [gap]   [validation]   [gap]   [ training  ]

A region is a volume of its own: windows of it repeat its own last slice at its ends, and planes
that cross the cut end there. The gap of two slices keeps the slices on either side from being
nearly the same, and the neighbours of both sides apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.label_counts import SliceAreas, count_areas
from napari_slidesam.tuning.pair_arrays import BoxZyx, cropped
from napari_slidesam.volume import AXIS_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.arrays import ArrayLike
    from napari_slidesam.tuning.pairs import TrainingPair

GAP_SLICES = 2
"""Between a slab that is trained on and one that is held out."""

LEAST_SLICES = 5
"""Slices of a slab that is held out: fewer are no way to slide."""

_MOST_LENGTHENED = 3
"""A slab is lengthened to `LEAST_SLICES` as long as it is no more than a third."""

_LEAST_PART = 0.5
"""A slab chosen at random holds at least this part of the voxels that its share promises."""

_KNOWN_TOLERANCE = 0.1
"""Slabs are alike whose shares of voxels of objects that are trained on differ by no more."""


@dataclass(frozen=True, slots=True)
class Region:
    """A pair, or a slab of its slices.

    Parameters
    ----------
    pair : int
        Its place among the pairs.
    axis : int, optional
        The axis that the slab is cut across, 0 to 2 in zyx; None: the whole pair.
    start, stop : int
        The slices ``[start, stop)`` along it; without meaning for a whole pair.
    """

    pair: int
    axis: int | None = None
    start: int = 0
    stop: int = 0

    def box(self, shape_zyx: tuple[int, int, int]) -> BoxZyx:
        """Return the region as a part of its pair's arrays.

        Raises
        ------
        TuningError
            The pair has no such slices.
        """
        z, y, x = (slice(0, n) for n in shape_zyx)
        if self.axis is None:
            return (z, y, x)
        if self.axis not in (0, 1, 2) or not 0 <= self.start < self.stop <= shape_zyx[self.axis]:
            raise TuningError(f"{self} is no part of a volume of shape {shape_zyx} (z, y, x).")
        parts = [z, y, x]
        parts[self.axis] = slice(self.start, self.stop)
        return (parts[0], parts[1], parts[2])


@dataclass(frozen=True, slots=True)
class Split:
    """What is trained on, and what is held out; they share no voxel."""

    train: tuple[Region, ...]
    validation: tuple[Region, ...]


def split(
    pairs: Sequence[TrainingPair], validation_share: float, seed: int, axes: Sequence[int]
) -> Split:
    """Hold out some pairs, or a slab of the only one.

    Of several pairs about ``validation_share`` are held out, at least one; such are preferred
    whose labels are in the others, too. Of one pair a slab is held out, at a place chosen at
    random among those whose objects are trained on, too, as far as there are such: across z, or
    the first of ``axes``, so that its planes along the usual axis stay whole; across the axis
    along which the labels reach furthest where that is under 15 slices.

    Parameters
    ----------
    pairs : sequence of TrainingPair
    validation_share : float, range [0, 1)
        Of the pairs, or of the labelled slices of the only one, there at least 5 slices if
        they are no more than a third; 0 holds out nothing.
    seed : int
    axes : sequence of int
        Axes that windows slide along, 0 to 2 in zyx.

    Raises
    ------
    TuningError
        The share is out of range, there is no pair, or too few slices are labelled.
    """
    if not 0 <= validation_share < 1:
        raise TuningError(
            f"The share that is held out lies in [0, 1); got {validation_share}. 0.2 is usual."
        )
    if not pairs:
        raise TuningError("A split needs at least one pair of image and labels; got none.")
    checked_axes(axes)
    if validation_share == 0:
        return Split(tuple(map(Region, range(len(pairs)))), ())
    rng = np.random.default_rng(seed)
    if len(pairs) > 1:
        return _pair_split(pairs, validation_share, rng)
    return _random_slab(pairs[0], validation_share, rng, axes)


def slab_split(
    pairs: Sequence[TrainingPair],
    axis: int,
    validation: tuple[float, float],
    gap: int = GAP_SLICES,
) -> Split:
    """Hold out a slab of slices of every pair.

    Parameters
    ----------
    pairs : sequence of TrainingPair
    axis : int
        The axis that is cut, 0 to 2 in zyx.
    validation : tuple of 2 floats, range [0, 1]
        Where the slab starts and stops, as shares of the labelled extent along the axis:
        ``(2 / 3, 1)`` is the last third. A slab at an end of the extent reaches to the
        volume's.
    gap : int
        Slices between what is trained on and what is held out, which belong to neither.

    Raises
    ------
    TuningError
        The shares are not in order, or a part is left without labels.
    """
    checked_axes((axis,))
    start_share, stop_share = validation
    if not 0 <= start_share < stop_share <= 1:
        raise TuningError(
            f"A slab lies between two rising shares from 0 to 1; got {start_share}, {stop_share}."
        )
    train: list[Region] = []
    held_out: list[Region] = []
    for number, pair in enumerate(pairs):
        totals = _labelled_areas(pair, (axis,))[axis].totals(pair.shape_zyx[axis])
        first, extent = _extent(totals)
        start, stop = (first + round(share * extent) for share in validation)
        parts = _cut(Region(number, axis, start, stop), totals, gap, pair.name)
        train += parts.train
        held_out += parts.validation
    return Split(tuple(train), tuple(held_out))


def region_arrays(pair: TrainingPair, region: Region) -> tuple[ArrayLike, ArrayLike]:
    """Return the image and the labels of a region, as lazy as those of its pair."""
    box = region.box(pair.shape_zyx)
    return cropped(pair.image, box), cropped(pair.labels, box)


def checked_axes(axes: Sequence[int]) -> tuple[int, ...]:
    """Return the axes, each once, or raise `TuningError` where one does not exist."""
    unique = tuple(dict.fromkeys(axes))
    if not unique or any(axis not in (0, 1, 2) for axis in unique):
        raise TuningError(f"Axes to slide along are 0, 1 or 2 (z, y, x); got {tuple(axes)}.")
    return unique


def _pair_split(pairs: Sequence[TrainingPair], share: float, rng: np.random.Generator) -> Split:
    """Hold out pairs at random; first those without which no label is missing."""
    n_held_out = min(max(1, round(share * len(pairs))), len(pairs) - 1)
    order = [int(i) for i in rng.permutation(len(pairs))]
    left = {label: 0 for pair in pairs for label in pair.object_labels}
    for pair in pairs:
        for label in pair.object_labels:
            left[label] += 1
    chosen: list[int] = []
    for number in order:
        labels = pairs[number].object_labels
        if len(chosen) < n_held_out and all(left[label] > 1 for label in labels):
            chosen.append(number)
            for label in labels:
                left[label] -= 1
    chosen += [i for i in order if i not in chosen][: n_held_out - len(chosen)]
    return Split(
        tuple(Region(i) for i in range(len(pairs)) if i not in chosen),
        tuple(Region(i) for i in sorted(chosen)),
    )


def _random_slab(
    pair: TrainingPair, share: float, rng: np.random.Generator, axes: Sequence[int]
) -> Split:
    areas = _labelled_areas(pair, tuple(axes))
    by_axis = {a: found.totals(pair.shape_zyx[a]) for a, found in areas.items()}
    extents = {a: _extent(by_axis[a])[1] for a in sorted(axes, key=lambda a: a != 0)}
    enough = LEAST_SLICES * _MOST_LENGTHENED
    axis = next(
        (a for a, n in extents.items() if n >= enough), max(extents, key=extents.__getitem__)
    )
    totals = by_axis[axis]
    first, extent = _extent(totals)
    fewest = max(1, min(LEAST_SLICES, extent // _MOST_LENGTHENED))
    length = max(fewest, round(share * extent))
    starts = np.arange(first, first + extent - length + 1)
    before = np.concatenate([[0], np.cumsum(totals)])
    inside = before[starts + length] - before[starts]
    low = before[np.maximum(starts - GAP_SLICES, 0)]
    high = before[-1] - before[np.minimum(starts + length + GAP_SLICES, totals.size)]
    # As parts of what the shares promise: 1 is as much as an even spread would give.
    held_out = inside / (share * before[-1])
    trained = (low + high) / ((1 - share) * before[-1])
    least = np.minimum(held_out, trained)
    fair = np.flatnonzero(least >= _LEAST_PART)
    if fair.size:
        known = _known_shares(areas[axis], starts[fair], length)
        place = int(rng.choice(fair[known >= known.max() - _KNOWN_TOLERANCE]))
    else:
        place = int(least.argmax())
    start = int(starts[place])
    return _cut(Region(0, axis, start, start + length), totals, GAP_SLICES, pair.name)


def _known_shares(areas: SliceAreas, starts: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """Return the share of each slab's voxels whose objects are on slices that are trained on."""
    names, place = np.unique(areas.labels, return_inverse=True)
    first = np.full(names.size, np.iinfo(np.int64).max)
    last = np.full(names.size, -1, dtype=np.int64)
    np.minimum.at(first, place, areas.slices)
    np.maximum.at(last, place, areas.slices)
    shares = np.zeros(starts.size)
    for i, start in enumerate(starts):
        stop = start + length
        own = slice(*np.searchsorted(areas.slices, (start, stop)))
        is_trained = (first < start - GAP_SLICES) | (last >= stop + GAP_SLICES)
        known = areas.areas[own] * is_trained[place[own]]
        shares[i] = known.sum() / max(1, areas.areas[own].sum())
    return shares


def _cut(slab: Region, totals: NDArray[np.int64], gap: int, name: str) -> Split:
    """Return a pair cut at a slab; training slabs without labels are left out."""
    assert slab.axis is not None, "a slab is cut across an axis"
    first, extent = _extent(totals)
    start = 0 if slab.start == first else slab.start
    stop = totals.size if slab.stop == first + extent else slab.stop
    sides = [(a, b) for a, b in ((0, start - gap), (stop + gap, totals.size)) if b > a]
    train = tuple(Region(slab.pair, slab.axis, a, b) for a, b in sides if totals[a:b].any())
    if not train or stop <= start or not totals[start:stop].any():
        raise TuningError(
            f"Both parts of a volume need labelled slices; {name!r} has {extent} along "
            f"{AXIS_NAMES[slab.axis]}, too few to hold out slices {slab.start} to "
            f"{slab.stop - 1} and leave {gap} on either side. Give a second volume, or hold "
            "nothing out."
        )
    return Split(train, (Region(slab.pair, slab.axis, start, stop),))


def _labelled_areas(pair: TrainingPair, axes: tuple[int, ...]) -> dict[int, SliceAreas]:
    """Return the areas of objects on each slice along each axis; none on slices marked along z."""
    whole = Region(0).box(pair.shape_zyx)
    found = count_areas(pair.labels, whole, axes, pair.object_labels)
    if 0 in found and pair.unlabelled:
        one = found[0]
        kept = ~np.isin(one.slices, sorted(pair.unlabelled))
        found[0] = SliceAreas(one.slices[kept], one.labels[kept], one.areas[kept])
    return found


def _extent(totals: NDArray[np.int64]) -> tuple[int, int]:
    """Return the first labelled slice, and how many there are from it to the last one."""
    filled = np.flatnonzero(totals)
    return int(filled[0]), int(filled[-1] - filled[0]) + 1
