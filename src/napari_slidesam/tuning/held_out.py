"""Which labelled volumes are validated on and not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.tuning.labelled import LabelledVolume

MIN_TRAINED_VOLUMES = 2
"""Real volumes that are left to train on, where whole ones are held out unasked."""


def held_out_names(
    volumes: Sequence[LabelledVolume], named: tuple[str, ...], count: int, seed: int
) -> tuple[str, ...]:
    """Return the names of the volumes that are validated on.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Of the training.
    named : tuple of str
        Volumes to hold out; empty: they are drawn.
    count, seed : int
        As for `drawn_volumes`.

    Raises
    ------
    TuningError
        A volume that is named is not there.
    """
    names = {v.name for v in volumes}
    unknown = sorted(set(named) - names)
    if unknown:
        raise TuningError(
            f"held_out names volumes of the data; {', '.join(unknown)} is not among "
            f"{', '.join(sorted(names))}."
        )
    real = sorted(v.name for v in volumes if v.image is not None)
    return named or drawn_volumes(real, count, seed)


def drawn_volumes(real: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """Return volumes to hold out, drawn by a seed; none where too few would be left.

    Parameters
    ----------
    real : sequence of str
        Names of the volumes with real images.
    count : int
        How many to hold out.
    seed : int
    """
    if len(real) < count + MIN_TRAINED_VOLUMES:
        return ()
    order = np.random.default_rng(seed).permutation(len(real))
    return tuple(sorted(str(real[i]) for i in order[:count]))
