"""The parts of pairs that windows are cut from, each as if it were a volume of its own.

Along z a part is a region as it is: slices that are not labelled are left out slice by slice.
Planes along y and x cross all slices, so they are cut to where all are labelled::

    z   0 ... 9   10 ........ 39   40 ... 59        one run of labelled slices: the rest is
        empty     labelled         empty            background, planes are whole

    z   0 ... 9   10 .. 24   25 .. 27   28 .. 39   40 ... 59      several runs: the volume is
        empty     labelled   empty      labelled   empty          labelled in part, planes are
                  [ part  ]             [ part  ]                 cut to each
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.tuning.pair_arrays import BoxZyx
    from napari_slidesam.tuning.pairs import TrainingPair

MIN_RUN_SLICES = 8
"""Labelled slices in a row that planes across them need: fewer show no shape."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowBlock:
    """A part of a pair and the axis that windows slide along in it.

    Parameters
    ----------
    pair : int
        Its place among the pairs.
    axis : int
        0 to 2 in zyx.
    box : tuple of 3 slices
        The part of the pair's arrays.
    labelled : ndarray of bool, shape (slices along the axis,)
        Which slices of the part are labelled.
    """

    pair: int
    axis: int
    box: BoxZyx
    labelled: NDArray[np.bool_]

    @property
    def start(self) -> int:
        """The pair's slice that is the part's first along the axis."""
        return int(self.box[self.axis].start)

    @property
    def n_slices(self) -> int:
        """Slices of the part along the axis."""
        return int(self.labelled.size)

    @property
    def plane_area(self) -> int:
        """Pixels of one slice of the part."""
        y, x = (p.stop - p.start for i, p in enumerate(self.box) if i != self.axis)
        return int(y * x)


def blocks_of(
    pair: TrainingPair, number: int, box: BoxZyx, axis: int
) -> tuple[list[WindowBlock], int]:
    """Return the parts of a box to slide through along an axis.

    Parameters
    ----------
    pair : TrainingPair
    number : int
        Its place among the pairs.
    box : tuple of 3 slices
        What is trained on.
    axis : int

    Returns
    -------
    list of WindowBlock
    int
        Labelled slices along z that no part has.
    """
    inside = pair.labelled[box[0]]
    if axis == 0:
        return [WindowBlock(number, 0, box, inside)], 0
    flags = np.ones(box[axis].stop - box[axis].start, dtype=np.bool_)
    blocks = []
    n_used = 0
    for start, stop in crossing_spans(pair):
        start, stop = max(start, box[0].start), min(stop, box[0].stop)
        if stop - start >= MIN_RUN_SLICES:
            part = (slice(start, stop), box[1], box[2])
            blocks.append(WindowBlock(number, axis, part, flags))
            n_used += int(np.count_nonzero(pair.labelled[start:stop]))
    return blocks, int(np.count_nonzero(inside)) - n_used


def crossing_spans(pair: TrainingPair) -> list[tuple[int, int]]:
    """Return the slices ``[start, stop)`` along z that planes along y and x may cross.

    Each holds at least `MIN_RUN_SLICES` labelled slices in a row. Where there is one run of
    labelled slices only, empty slices next to it belong to it, as long as none is marked.
    """
    labelled = np.concatenate([[False], pair.labelled, [False]])
    edges = np.flatnonzero(labelled[1:] != labelled[:-1])
    runs = [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
    if len(runs) == 1 and runs[0][1] - runs[0][0] >= MIN_RUN_SLICES:
        start, stop = runs[0]
        while start > 0 and start - 1 not in pair.unlabelled:
            start -= 1
        while stop < pair.shape_zyx[0] and stop not in pair.unlabelled:
            stop += 1
        return [(start, stop)]
    return [(start, stop) for start, stop in runs if stop - start >= MIN_RUN_SLICES]
