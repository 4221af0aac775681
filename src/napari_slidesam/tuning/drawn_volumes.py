"""Which labelled volume a training sample is cut from: real, painted anew, or made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.synthetic import SyntheticVolumes

MAX_COUNTED_OBJECTS = 20
"""A volume with more is not drawn more often."""


class ObjectBoxes:
    """A volume, and the box of each object worth prompting."""

    def __init__(self, volume: LabelledVolume) -> None:
        self.volume = volume
        found = ndimage.find_objects(volume.labels.astype(np.int32, copy=False))
        self.boxes: dict[int, tuple[slice, slice, slice]] = {
            label: found[label - 1] for label in volume.object_ids
        }


class DrawnVolumes:
    """Draws volumes from three sources.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Real ones; those without an image are only painted.
    series : SyntheticVolumes, optional
        Procedural label volumes; made when they are first drawn.
    procedural : int
        How many of the series are used.
    shares : tuple of 3 floats
        Of real images, of real labels painted anew, and of procedural label volumes. The share
        of a source without volumes goes to the others.

    Raises
    ------
    TuningError
        No source has both a volume and a share.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        series: SyntheticVolumes | None,
        procedural: int,
        shares: tuple[float, float, float],
    ) -> None:
        self._series, self._count = series, 0 if series is None else procedural
        self._made: dict[int, ObjectBoxes] = {}
        self._painted = [ObjectBoxes(v) for v in volumes]
        self._real = [v for v in self._painted if v.volume.image is not None]
        self._weights = _weights(self._real)
        counts = (len(self._real), len(self._painted), self._count)
        wanted = np.array([w if n else 0.0 for w, n in zip(shares, counts, strict=True)])
        if min(shares) < 0 or wanted.sum() <= 0:
            raise TuningError(
                f"Samples need a volume of a source with a share; got {counts[0]} real, "
                f"{counts[1]} labelled and {counts[2]} procedural volumes with shares of "
                f"{shares}. Give some."
            )
        self._shares = wanted / wanted.sum()

    def draw(self, rng: np.random.Generator) -> tuple[str, ObjectBoxes]:
        """Return the kind of a source ("real", "painted", "procedural") and one of its volumes."""
        kind = ("real", "painted", "procedural")[int(rng.choice(3, p=self._shares))]
        if kind == "real":
            return kind, self._real[int(rng.choice(len(self._real), p=self._weights))]
        if kind == "painted":
            return kind, self._painted[int(rng.integers(len(self._painted)))]
        number = int(rng.integers(self._count))
        if number not in self._made:
            assert self._series is not None
            self._made[number] = ObjectBoxes(self._series.make(number))
        return kind, self._made[number]


def _weights(real: Sequence[ObjectBoxes]) -> NDArray[np.float64]:
    """Return how often each volume is drawn: the root of its number of objects."""
    counts = [min(len(o.volume.object_ids), MAX_COUNTED_OBJECTS) for o in real]
    roots = np.sqrt(np.array(counts, dtype=np.float64))
    weights: NDArray[np.float64] = roots / max(roots.sum(), 1e-9)
    return weights


def axis_first(values: tuple[Any, Any, Any], axis: int) -> tuple[Any, Any, Any]:
    """Return what belongs to z, y, x as to (slices, y, x) along an axis."""
    first, second = (values[k] for k in range(3) if k != axis)
    return values[axis], first, second
