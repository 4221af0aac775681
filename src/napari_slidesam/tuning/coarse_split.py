"""Which crops of a pool are trained on, and which are validated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.held_out import drawn_volumes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.tuning.coarse_config import CoarseTraining

REAL = "real/"
"""Begins the names of sources that are real images."""


@dataclass(frozen=True, slots=True, eq=False)
class CropSplit:
    """A pool's crops, divided.

    Parameters
    ----------
    training, validation : ndarray of int64
        Indices into the pool, sorted; they share none.
    held_out : str
        What is validated on, in words.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    held_out: str


def split_crops(sources: Sequence[str], config: CoarseTraining) -> CropSplit:
    """Hold out volumes, or single crops where there are too few volumes.

    Parameters
    ----------
    sources : sequence of str
        Of all crops, as ``kind/volume``.
    config : CoarseTraining

    Returns
    -------
    CropSplit
        Of a volume that is held out no crop is trained on, also none that is painted; validated
        is on its real image where it has one.

    Raises
    ------
    TuningError
        A volume that is to be held out is not there, or nothing is left to train or validate on.
    """
    names = np.array(sources, dtype=str)
    volumes = np.array([name.partition("/")[2] for name in sources], dtype=str)
    is_real = np.char.startswith(names, REAL)
    chosen = config.held_out or drawn_volumes(
        np.unique(volumes[is_real]).tolist(), config.held_out_volumes, config.seed
    )
    unknown = sorted(set(chosen) - set(volumes.tolist()))
    if unknown:
        raise TuningError(
            f"held_out names volumes of the pool; {', '.join(unknown)} is not among "
            f"{', '.join(np.unique(volumes))}."
        )
    if chosen:
        is_out = np.isin(volumes, chosen)
        is_judged = is_out & is_real if (is_out & is_real).any() else is_out
        words = f"volumes {', '.join(chosen)}"
    else:
        is_out = is_judged = np.arange(len(names)) % config.held_out_every == 0
        words = f"one crop in {config.held_out_every}, of volumes that are trained on"
    training, judged = np.flatnonzero(~is_out), np.flatnonzero(is_judged)
    if not (training.size and judged.size):
        raise TuningError(
            f"Crops are needed to train on and to validate on; {training.size} and {judged.size} "
            "were left. Hold out fewer volumes, or make a larger pool."
        )
    count = min(judged.size, config.validation_crops)
    return CropSplit(training, judged[np.arange(count) * judged.size // count], words)
