"""Images with their labels, to train on: checked once, then read slice by slice.

A slice along z counts as labelled where it holds a label of any object and is not marked as
unlabelled: partially labelled volumes can be trained on as they are. Where a volume is labelled
completely, say so (``complete``): then its empty slices count, too, and teach where objects end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.arrays import ChannelMix, checked_dtype, checked_shape
from napari_slidesam.errors import TuningError, VolumeError
from napari_slidesam.io.lazy import SelectedArray
from napari_slidesam.tuning.pair_arrays import MixedChannels, WholeNumbers, slabs
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_slidesam.arrays import ArrayLike

_LARGEST_TALLIED = 2**22
"""Labels up to it are counted in a table, larger ones by sorting."""

_LARGEST_LABEL = 2**53
"""Beyond it floating point has no odd numbers, so that labels would run together."""

_LOOK_SLICES = 5
_MANY_VALUES = 32
_FEW_EQUAL = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPair:
    """An image and its labels; made by `pair_from_arrays`, which checks them.

    Parameters
    ----------
    name : str
    image : array-like, shape (Z, Y, X)
        Stored values of any number type; numpy, memory-mapped, dask or zarr, read when used.
    labels : array-like of int, shape (Z, Y, X)
        0 is background, every other integer an object or a class.
    spacing_zyx : tuple of 3 floats
        Distance between voxel centres, any unit.
    unlabelled : frozenset of int
        Slices along z that are marked as unlabelled; what their labels say is not used.
    object_labels : tuple of int
        The labels on all other slices, in rising order; at least one.
    empty : frozenset of int
        Slices along z that hold no label at all.
    complete : bool
        Empty slices are labelled all the same: nothing is there.
    """

    name: str
    image: ArrayLike
    labels: ArrayLike
    spacing_zyx: tuple[float, float, float]
    unlabelled: frozenset[int]
    object_labels: tuple[int, ...]
    empty: frozenset[int] = frozenset()
    complete: bool = False

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Lengths of the three axes."""
        z, y, x = (int(n) for n in self.labels.shape)
        return (z, y, x)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which slices along z are labelled; bool, shape (Z,)."""
        flags = np.ones(self.shape_zyx[0], dtype=np.bool_)
        left_out = self.unlabelled if self.complete else self.unlabelled | self.empty
        flags[sorted(left_out)] = False
        return flags


def pair_from_arrays(
    name: str,
    image: ArrayLike | Volume,
    labels: ArrayLike,
    spacing_zyx: tuple[float, float, float] | None = None,
    unlabelled: Iterable[int] = (),
    *,
    complete: bool = False,
) -> TrainingPair:
    """Return a pair of arrays, checked in one pass over them that holds a few slices at a time.

    Parameters
    ----------
    name : str
        Names the pair in messages and reports.
    image : array-like, shape (Z, Y, X), or Volume
        Integer, floating or bool. A `Volume` chooses or mixes channels.
    labels : array-like, shape (Z, Y, X)
        Whole numbers from 0 up, of any number type.
    spacing_zyx : tuple of 3 floats, optional
        Without it that of the volume, or 1.
    unlabelled : iterable of int
        Slices along z that are not labelled, besides those that hold no label.
    complete : bool
        Slices that hold no label are labelled: nothing is there.

    Raises
    ------
    TuningError
        Image or labels have not three axes of the same lengths, the labels are negative,
        fractions or empty, the image is not a number somewhere in an object, or spacing or
        unlabelled slices do not fit.
    """
    volume = image if isinstance(image, Volume) else None
    if spacing_zyx is None:
        spacing_zyx = (1.0, 1.0, 1.0) if volume is None else volume.spacing_zyx
    grey = _grey(volume) if volume is not None else image
    for what, array in (("image", grey), ("labels", labels)):
        _check_array(name, what, array)
    assert not isinstance(grey, Volume), "a volume has become its array above"
    shape = checked_shape(grey)
    if shape != checked_shape(labels):
        raise TuningError(
            f"Image and labels need the same shape; {name!r} has {shape} and "
            f"{checked_shape(labels)} (z, y, x). Resample one onto the other's grid."
        )
    marked = _marked(name, unlabelled, shape[0])
    found, empty = _survey(name, grey, labels, marked)
    if not found:
        where = " outside the slices marked as unlabelled" if marked else ""
        raise TuningError(
            f"Labels need at least one object; those of {name!r} are 0 everywhere{where}. Label "
            "a few slices, or leave the pair out."
        )
    return TrainingPair(
        name=name,
        image=grey,
        labels=_as_integers(labels, max(found)),
        spacing_zyx=_checked_spacing(name, spacing_zyx),
        unlabelled=marked,
        object_labels=tuple(sorted(found)),
        empty=empty,
        complete=complete,
    )


def looks_like_image(labels: ArrayLike) -> bool:
    """Whether labels are rather an image that was taken for them.

    Looks at five slices. Labels are flat: next to a voxel of an object there is mostly another
    one of it. An image has many values, and neighbours mostly differ.
    """
    n_slices = int(labels.shape[0])
    chosen = sorted({int((i + 0.5) * n_slices / _LOOK_SLICES) for i in range(_LOOK_SLICES)})
    values: set[Any] = set()
    n_equal = n_pairs = 0
    for index in chosen:
        plane = np.asarray(labels[index])
        left, right = plane[:, :-1], plane[:, 1:]
        inside = (left != 0) | (right != 0)
        n_pairs += int(np.count_nonzero(inside))
        n_equal += int(np.count_nonzero((left == right) & inside))
        values.update(np.unique(plane).tolist())
    return len(values) >= _MANY_VALUES and n_equal < _FEW_EQUAL * n_pairs


def _grey(volume: Volume) -> ArrayLike:
    """Return a volume's array with one value a voxel; a 2D image gets an axis of one slice."""
    data, mix = volume.data, volume.channels
    if volume.channel_axis is not None and isinstance(mix, ChannelMix):
        if mix.weights is None:
            assert mix.index is not None, "a mix has an index or weights"
            data = SelectedArray(data, {volume.channel_axis: mix.index})
        else:
            data = MixedChannels(data, volume.channel_axis, mix.weights)
    return data if len(data.shape) == 3 else np.asarray(data[:, :])[np.newaxis]


def _check_array(name: str, what: str, array: Any) -> None:
    try:
        checked_dtype(array)
        shape = checked_shape(array)
    except VolumeError as error:
        raise TuningError(f"The {what} of {name!r} cannot be used. {error}") from error
    if len(shape) != 3 or 0 in shape:
        raise TuningError(
            f"Image and labels need three axes (z, y, x) and a voxel; the {what} of {name!r} "
            f"has shape {shape}. Choose one channel and time point; give a 2D image an axis of "
            "one slice (image[np.newaxis])."
        )


def _checked_spacing(name: str, spacing: Any) -> tuple[float, float, float]:
    try:
        z, y, x = (float(s) for s in spacing)
    except (TypeError, ValueError):
        z = y = x = math.nan
    if not all(0 < s < math.inf for s in (z, y, x)):
        raise TuningError(
            f"Spacing needs three positive numbers (z, y, x); {name!r} has {spacing!r}. Correct "
            "the file's header, or give the spacing."
        )
    return (z, y, x)


def _marked(name: str, unlabelled: Iterable[int], n_slices: int) -> frozenset[int]:
    marked = frozenset(int(i) for i in unlabelled)
    beyond = sorted(i for i in marked if not 0 <= i < n_slices)
    if beyond:
        raise TuningError(
            f"Unlabelled slices lie along z; {name!r} has slices 0 to {n_slices - 1}, so "
            f"{', '.join(map(str, beyond))} does not exist. Correct the list."
        )
    return marked


def _survey(
    name: str, image: ArrayLike, labels: ArrayLike, marked: frozenset[int]
) -> tuple[set[int], frozenset[int]]:
    """Return the labels on slices that are not marked, and the slices without any label.

    Raises where labels are none, or where the image has no number in an object.
    """
    found: set[int] = set()
    empty: list[int] = []
    n_missing = 0
    may_be_missing = np.dtype(image.dtype).kind == "f"
    for z0, z1 in slabs(labels):
        slab = np.asarray(labels[z0:z1])
        filled = np.asarray(slab.any(axis=(1, 2)))
        empty += [z0 + int(i) for i in np.flatnonzero(~filled)]
        used = filled & np.array([z not in marked for z in range(z0, z1)])
        if not used.any():
            continue
        slab = slab if used.all() else slab[used]
        _check_values(name, slab)
        found |= _distinct(slab)
        if may_be_missing:
            values = np.asarray(image[z0:z1])[used]
            n_missing += int(np.count_nonzero(~np.isfinite(values[slab != 0])))
    if n_missing:
        raise TuningError(
            f"The image of {name!r} is NaN or infinite in {n_missing} voxels of its objects; an "
            "image needs a number in each. Fill them (numpy.nan_to_num), or mark their slices "
            "as unlabelled."
        )
    return found - {0}, frozenset(empty)


def _check_values(name: str, slab: NDArray[Any]) -> None:
    """Raise where values cannot be labels."""
    if slab.dtype.kind == "f" and not (np.isfinite(slab).all() and (slab == np.rint(slab)).all()):
        raise TuningError(
            f"Labels are whole numbers; those of {name!r} have fractions, NaN or infinity. Is "
            "it the image, or a probability map? Threshold it, or choose the labels."
        )
    if slab.dtype.kind in "if" and slab.min() < 0:
        raise TuningError(
            f"Labels are 0 for the background and positive for objects; those of {name!r} have "
            f"{slab.min()}. Set it to 0, or mark its slices as unlabelled."
        )
    if slab.dtype.kind in "iuf" and slab.max() > _LARGEST_LABEL:
        raise TuningError(
            f"Labels go up to 2^53; those of {name!r} have {slab.max()}. Renumber them."
        )


def _distinct(values: NDArray[Any]) -> set[int]:
    if values.dtype.kind == "b" or values.max() <= _LARGEST_TALLIED:
        return set(np.flatnonzero(np.bincount(values.ravel().astype(np.intp))).tolist())
    return {int(v) for v in np.unique(values)}


def _as_integers(labels: ArrayLike, largest: int) -> ArrayLike:
    if np.dtype(labels.dtype).kind in "iu":
        return labels
    # Slices that are marked may hold more; 32 bits are enough for all but ids of 64.
    return WholeNumbers(labels, np.int64 if largest >= 2**32 else np.uint32)
