"""All windows that pairs give, found in one pass over the labels, read one by one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.intensity import Intensity, normalise
from napari_slidesam.slice_cache import SliceCache
from napari_slidesam.tuning.pair_arrays import cropped
from napari_slidesam.tuning.splits import Region, checked_axes
from napari_slidesam.tuning.window_search import WindowSearch, checked_labels
from napari_slidesam.tuning.windows import TrainingWindow
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.pairs import TrainingPair
    from napari_slidesam.tuning.window_blocks import WindowBlock

MIN_SHARE = 0.0014
"""Of a slice that the centre mask covers at least (Slide-SAM, appendix C: 0.14 %)."""

CACHE_BYTES = 256 * 2**20
_OPEN_BLOCKS = 8
"""Parts whose slices are kept at once; each has its share of the cache."""

_KEPT_RANGES = 4096


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What was found, and what was left out.

    Parameters
    ----------
    volumes : int
        Pairs with a window.
    windows : int
    objects : int
        Labels with a window, each pair's counted by themselves.
    windows_by_label : mapping of int to int
        Over all pairs.
    dropped : mapping of str to int
        Slices left out, by reason; a slice counts once for each axis and object.
    """

    volumes: int
    windows: int
    objects: int
    windows_by_label: Mapping[int, int]
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WindowPlace:
    """Where a window lies: the pair's number, axis, centre slice and the object's label."""

    pair: int
    axis: int
    slice_index: int
    label: int


class WindowIndex:
    """The windows of pairs; a `SlidingSource`.

    A window is a labelled slice on which an object covers ``min_share``, with its neighbours.
    Each part that is trained on is a volume of its own: at its ends its last slice is repeated,
    with its mask, as inference does at the ends of a volume; planes end where it ends.

    Slices along z without any label, or marked as unlabelled, are no centre, and the indicator
    leaves them out as neighbours, unless the pair is ``complete``. Windows along y and x need
    planes whose every slice is labelled; see `napari_slidesam.tuning.window_blocks`. A single
    slice has no neighbours: the indicator has its centre alone.

    Parameters
    ----------
    pairs : sequence of TrainingPair
    axes : sequence of int
        Axes to slide along, 0 to 2 in zyx.
    min_share : float
        Share of the slice that the centre mask covers at least.
    labels : sequence of int, optional
        The labels to train on; None: all.
    intensity : Intensity
        How stored values become grey values.
    regions : sequence of Region, optional
        What is trained on, see `napari_slidesam.tuning.splits.split`; None: all.
    whole_range : bool
        Where each window has its own range (intensity ``"window"``), 0 and 1 are its extremes
        instead of its percentiles 1 and 99. Inference takes the percentiles of the viewport
        that it sees: whoever cuts it out of such planes and applies `normalise` to it gets
        just that, as nothing has been clipped before.
    cache_bytes : int
        Of the slices read last that are kept.

    Raises
    ------
    TuningError
        There is no usable window, a label asked for has none, or an axis or region does not
        exist.
    """

    def __init__(
        self,
        pairs: Sequence[TrainingPair],
        axes: Sequence[int] = (0, 1, 2),
        min_share: float = MIN_SHARE,
        labels: Sequence[int] | None = None,
        intensity: Intensity | None = None,
        regions: Sequence[Region] | None = None,
        *,
        whole_range: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.pairs = tuple(pairs)
        self.intensity = intensity if intensity is not None else Intensity()
        self._whole_range = whole_range
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._caches: OrderedDict[int, SliceCache] = OrderedDict()
        self._ranges: OrderedDict[tuple[int, int], tuple[float, float] | None] = OrderedDict()
        if not self.pairs:
            raise TuningError("Training needs at least one pair of image and labels; got none.")
        wanted = checked_labels(self.pairs, labels)
        chosen = [Region(i) for i in range(len(self.pairs))] if regions is None else regions
        found = WindowSearch(self.pairs, checked_axes(axes), wanted, min_share)
        for region in chosen:
            found.add(region)
        self._blocks, self._entries = found.blocks, found.entries()
        self.report = _report(self._blocks, self._entries, found.dropped)
        _check_report(self.report, labels, found.describe())

    def __len__(self) -> int:
        """Return how many windows there are."""
        return len(self._entries)

    def place(self, index: int) -> WindowPlace:
        """Return where a window lies, without reading it."""
        number, slice_index, label = (int(v) for v in self._entries[index])
        block = self._blocks[number]
        return WindowPlace(block.pair, block.axis, slice_index, label)

    def read(self, index: int) -> TrainingWindow:
        """Return one window.

        Raises
        ------
        IndexError
            There is no such window.
        VolumeError
            A slice cannot be read.
        """
        number, slice_index, label = (int(v) for v in self._entries[index])
        return self._window(number, slice_index, label)

    def read_next(self, index: int, step: int) -> TrainingWindow | None:
        """Return the window of the same object, ``step`` slices on along the same axis.

        The object may have ended there: the centre mask may be empty. None where the part that
        the window lies in ends before it, or its centre is not labelled.

        Parameters
        ----------
        index : int
        step : int
            -1 or 1.
        """
        number, slice_index, label = (int(v) for v in self._entries[index])
        block = self._blocks[number]
        at = slice_index + step - block.start
        if not 0 <= at < block.n_slices or not block.labelled[at]:
            return None
        return self._window(number, slice_index + step, label)

    def _window(self, number: int, slice_index: int, label: int) -> TrainingWindow:
        block = self._blocks[number]
        at = slice_index - block.start
        images = self._images(number, at)
        around = [min(max(at + k, 0), block.n_slices - 1) for k in (-1, 0, 1)]
        indicator = [bool(block.labelled[i]) for i in around]
        if block.n_slices == 1:
            indicator = [False, True, False]
        masks = self._masks(block, around, label)
        masks[~np.asarray(indicator)] = False
        return TrainingWindow(
            images=images,
            masks=masks,
            indicator=(indicator[0], indicator[1], indicator[2]),
            source=self.pairs[block.pair].name,
            axis=block.axis,
            slice_index=slice_index,
            label=label,
        )

    def _images(self, number: int, at: int) -> NDArray[np.float32]:
        """Return three planes of a part as grey values."""
        with self._lock:
            cache = self._cache(number)
        planes = cache.window(at)
        low_high = self._range(number, at, cache)
        if low_high is None and self._whole_range:
            finite = planes[np.isfinite(planes)]
            low_high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        return normalise(planes, low_high)

    def _cache(self, number: int) -> SliceCache:
        """Return the slices of a part, which forget those of the part unused longest."""
        cache = self._caches.get(number)
        if cache is None:
            block = self._blocks[number]
            pair = self.pairs[block.pair]
            volume = Volume(cropped(pair.image, block.box), pair.spacing_zyx)
            cache = SliceCache(volume.along(block.axis), self._cache_bytes // _OPEN_BLOCKS)
            self._caches[number] = cache
        self._caches.move_to_end(number)
        while len(self._caches) > _OPEN_BLOCKS:
            self._caches.popitem(last=False)
        return cache

    def _range(self, number: int, at: int, cache: SliceCache) -> tuple[float, float] | None:
        """Return the stored values that become 0 and 1 around a slice, as inference has them."""
        if self.intensity.kind != "percentiles":
            return self.intensity.fixed_range(cache.stack, at)
        with self._lock:
            if (number, at) in self._ranges:
                return self._ranges[number, at]
        found = self.intensity.fixed_range(cache.stack, at)
        with self._lock:
            self._ranges[number, at] = found
            while len(self._ranges) > _KEPT_RANGES:
                self._ranges.popitem(last=False)
        return found

    def _masks(self, block: WindowBlock, around: list[int], label: int) -> NDArray[np.bool_]:
        """Return an object on three slices of a part, given from the part's start."""
        part = list(block.box)
        low, high = around[0], around[-1] + 1
        part[block.axis] = slice(block.start + low, block.start + high)
        values = np.asarray(self.pairs[block.pair].labels[tuple(part)])
        planes = np.moveaxis(values, block.axis, 0) == label
        masks: NDArray[np.bool_] = np.ascontiguousarray(planes[[i - low for i in around]])
        return masks


def _report(
    blocks: Sequence[WindowBlock], entries: NDArray[np.int64], dropped: Mapping[str, int]
) -> IndexReport:
    pair_of_block = np.asarray([block.pair for block in blocks], dtype=np.int64)
    pairs = pair_of_block[entries[:, 0]] if len(entries) else np.zeros(0, dtype=np.int64)
    objects = np.unique(np.stack([pairs, entries[:, 2]], axis=1), axis=0)
    names, counts = np.unique(entries[:, 2], return_counts=True)
    return IndexReport(
        volumes=len(np.unique(pairs)),
        windows=len(entries),
        objects=len(objects),
        windows_by_label=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def _check_report(report: IndexReport, labels: Sequence[int] | None, why: str) -> None:
    if report.windows == 0:
        raise TuningError(
            "Training needs windows of labelled objects, but no slice gives one." + why + " "
            "Label more slices, allow other axes, or lower the least share of the slice."
        )
    for label in labels or ():
        if label not in report.windows_by_label:
            raise TuningError(
                f"Label {label} was asked for, but no slice gives a window of it.{why} Label "
                "more slices of it, leave it out, or lower the least share of the slice."
            )
