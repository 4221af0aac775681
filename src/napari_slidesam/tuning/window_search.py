"""Looking for windows: which slices of which parts show an object that is large enough."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.label_counts import count_areas
from napari_slidesam.tuning.window_blocks import MIN_RUN_SLICES, WindowBlock, blocks_of
from napari_slidesam.volume import AXIS_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.label_counts import SliceAreas
    from napari_slidesam.tuning.pairs import TrainingPair
    from napari_slidesam.tuning.splits import Region

logger = logging.getLogger(__name__)


class WindowSearch:
    """The windows of regions while they are collected.

    Parameters
    ----------
    pairs : tuple of TrainingPair
    axes : tuple of int
    wanted : frozenset of int, optional
        The labels to look for; None: all.
    min_share : float
        Of a slice that an object covers at least.

    Attributes
    ----------
    blocks : list of WindowBlock
        Those with windows.
    dropped : Counter of str
        Slices left out, by reason.
    """

    def __init__(
        self,
        pairs: tuple[TrainingPair, ...],
        axes: tuple[int, ...],
        wanted: frozenset[int] | None,
        min_share: float,
    ) -> None:
        self._pairs = pairs
        self._axes = axes
        self._wanted = wanted
        self._min_share = min_share
        self._entries: list[NDArray[np.int64]] = []
        self.blocks: list[WindowBlock] = []
        self.dropped: Counter[str] = Counter()

    def add(self, region: Region) -> None:
        """Find the windows of a region; each part of it is read once for all its axes."""
        if not 0 <= region.pair < len(self._pairs):
            raise TuningError(
                f"{region} names a pair that does not exist; there are 0 to "
                f"{len(self._pairs) - 1}. Split these pairs again."
            )
        pair = self._pairs[region.pair]
        box = region.box(pair.shape_zyx)
        self.dropped["slices marked as unlabelled"] += sum(
            box[0].start <= z < box[0].stop for z in pair.unlabelled
        )
        by_box: dict[tuple[int, ...], list[WindowBlock]] = {}
        for axis in self._axes:
            blocks, n_left_out = blocks_of(pair, region.pair, box, axis)
            self.dropped[
                f"fewer than {MIN_RUN_SLICES} labelled slices in a row to cross along "
                f"{AXIS_NAMES[axis]}"
            ] += n_left_out
            for block in blocks:
                key = tuple(end for part in block.box for end in (part.start, part.stop))
                by_box.setdefault(key, []).append(block)
        labels = [i for i in pair.object_labels if self._wanted is None or i in self._wanted]
        for blocks in by_box.values():
            axes = [block.axis for block in blocks]
            areas = count_areas(pair.labels, blocks[0].box, axes, labels)
            for block in blocks:
                self._keep(block, areas[block.axis])

    def _keep(self, block: WindowBlock, areas: SliceAreas) -> None:
        """Keep the slices of a part that are labelled and on which the object is large enough."""
        labelled = block.labelled[areas.slices - block.start]
        large = areas.areas >= self._min_share * block.plane_area
        kept = labelled & large
        self.dropped[f"object under {100 * self._min_share:g} % of the slice"] += int(
            np.count_nonzero(labelled & ~large)
        )
        if kept.any():
            number = np.full(int(kept.sum()), len(self.blocks), dtype=np.int64)
            self._entries.append(np.stack([number, areas.slices[kept], areas.labels[kept]], axis=1))
            self.blocks.append(block)

    def entries(self) -> NDArray[np.int64]:
        """Return block, slice and label of every window; shape (N, 3)."""
        if not self._entries:
            return np.zeros((0, 3), dtype=np.int64)
        return np.concatenate(self._entries)

    def describe(self) -> str:
        """Return why slices were left out, for a message."""
        reasons = [f"{reason}: {count}" for reason, count in self.dropped.items() if count]
        return f" Left out were: {'; '.join(reasons)}." if reasons else ""


def checked_labels(
    pairs: Sequence[TrainingPair], labels: Sequence[int] | None
) -> frozenset[int] | None:
    """Return the labels asked for, or raise where no pair has one of them."""
    if labels is None:
        return None
    wanted = frozenset(int(label) for label in labels)
    if not wanted:
        raise TuningError("Training on chosen labels needs at least one; got none.")
    names = [pair.name for pair in pairs]
    for label in sorted(wanted):
        lacking = [pair.name for pair in pairs if label not in pair.object_labels]
        if len(lacking) == len(names):
            raise TuningError(
                f"Label {label} was asked for, but is in none of the labels of "
                f"{_listed(names)}. There are {_listed(_all_labels(pairs))}."
            )
        if lacking:
            logger.info("Label %d is not in %s.", label, _listed(lacking))
    return wanted


def _all_labels(pairs: Sequence[TrainingPair]) -> list[int]:
    return sorted({label for pair in pairs for label in pair.object_labels})


def _listed(items: Sequence[Any], most: int = 10) -> str:
    shown = ", ".join(map(str, items[:most]))
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
