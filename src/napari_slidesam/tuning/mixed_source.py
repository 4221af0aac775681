"""Windows of several sources in fixed shares, such as real labels and pseudo-labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.windows import SlidingSource, TrainingWindow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.windows import WindowSource


class MixedSource:
    """Windows of several sources, each with its share, evenly interleaved; a `WindowSource`.

    Nothing is random: an index is always the same window. A source that has fewer windows than
    its share needs is gone through again, one that has more is thinned evenly.

    Parameters
    ----------
    sources : sequence of WindowSource
        None of them empty.
    shares : sequence of float
        Positive, one a source; only their ratios matter.
    length : int, optional
        Windows in all. Without it as many as show every window of every source at least once.

    Raises
    ------
    TuningError
        Sources and shares do not fit, or a source is empty.
    """

    def __init__(
        self,
        sources: Sequence[WindowSource],
        shares: Sequence[float],
        *,
        length: int | None = None,
    ) -> None:
        if not sources or len(sources) != len(shares) or not all(s > 0 for s in shares):
            raise TuningError(
                f"Mixing needs at least one source and a positive share for each; got "
                f"{len(sources)} sources and the shares {tuple(shares)}."
            )
        sizes = [len(source) for source in sources]
        if min(sizes) == 0:
            raise TuningError(f"Mixing needs sources with windows; they have {sizes}.")
        if length is not None and length < len(sources):
            raise TuningError(
                f"Mixing {len(sources)} sources needs a length of as many windows; got {length}."
            )
        self._sources = tuple(sources)
        parts = np.asarray(shares, dtype=float) / float(sum(shares))
        # Not ceil of the quotient as it is: 3 / 0.3 is a little more than 10.
        needed = max(int(np.ceil(n / p - 1e-9)) for n, p in zip(sizes, parts, strict=True))
        counts = _apportion(needed if length is None else length, parts)
        self._which, self._ranks = _interleave(counts)
        self._sizes, self._counts = sizes, counts

    def __len__(self) -> int:
        """Return how many windows there are, repeated ones counted."""
        return len(self._which)

    def read(self, index: int) -> TrainingWindow:
        """Return one window; see `WindowSource.read`."""
        which, place = self.place(index)
        return self._sources[which].read(place)

    def read_next(self, index: int, step: int) -> TrainingWindow | None:
        """Return the window where sliding arrives; None where its source knows of none.

        See `napari_slidesam.tuning.windows.SlidingSource`.
        """
        which, place = self.place(index)
        source = self._sources[which]
        return source.read_next(place, step) if isinstance(source, SlidingSource) else None

    def place(self, index: int) -> tuple[int, int]:
        """Return the source of a window, and its number there.

        Raises
        ------
        TuningError
            There is no such window.
        """
        if not 0 <= index < len(self):
            raise TuningError(f"Windows are numbered 0 to {len(self) - 1}; got {index}.")
        which, rank = int(self._which[index]), int(self._ranks[index])
        size, count = self._sizes[which], self._counts[which]
        return which, rank % size if count >= size else rank * size // count


def _apportion(length: int, parts: NDArray[np.float64]) -> list[int]:
    """Split a number by shares into whole numbers of at least 1; the largest remainders gain."""
    exact = length * parts
    counts = np.maximum(np.floor(exact + 1e-9).astype(int), 1)
    for place in np.argsort(counts - exact, kind="stable"):
        if counts.sum() < length:
            counts[place] += 1
    while counts.sum() > length:  # a source got its 1 at the cost of the largest
        counts[int(np.argmax(counts))] -= 1
    return [int(c) for c in counts]


def _interleave(counts: list[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return for every index its source, and how often that one came before."""
    which = np.repeat(np.arange(len(counts)), counts)
    ranks = np.concatenate([np.arange(c) for c in counts])
    middles = (ranks + 0.5) / np.asarray(counts)[which]
    order = np.argsort(middles, kind="stable")
    return which[order], ranks[order]
