"""Pseudo-labels among a job's data: mixed into training, never validated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import SlideSamError
from napari_slidesam.tuning.mixed_source import MixedSource
from napari_slidesam.tuning.pseudo_files import PseudoStore
from napari_slidesam.tuning.pseudo_store import PseudoWindows, open_image, stores_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_slidesam.intensity import Intensity
    from napari_slidesam.tuning.pairs import TrainingPair
    from napari_slidesam.tuning.windows import WindowSource
    from napari_slidesam.volume import Volume

REAL_SHARE = 0.7
"""Of the windows that are drawn; the others are pseudo-labels, however many there are."""


@dataclass(frozen=True, slots=True)
class PseudoReport:
    """What is mixed in.

    Parameters
    ----------
    volumes, masks : int
        That are trained on.
    left_out : tuple of str
        Volumes whose pseudo-labels are not used, as part of the volume is held out.
    """

    volumes: int = 0
    masks: int = 0
    left_out: tuple[str, ...] = ()


def pseudo_folders(job_data: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """Return the pseudo-labels among a job's data: one folder a volume."""
    return tuple(store for source in job_data for store in stores_in(folder / source))


def mixed(
    windows: WindowSource,
    stores: Sequence[Path],
    held_out: Sequence[TrainingPair],
    *,
    axes: tuple[int, ...],
    intensity: Intensity,
    whole_range: bool,
) -> tuple[WindowSource, PseudoReport]:
    """Return windows with pseudo-labels among them, and what these are.

    An epoch shows every real window once, and as many pseudo-labels as their share asks for.

    Parameters
    ----------
    windows : WindowSource
        With real labels.
    stores : sequence of Path
        Folders of pseudo-labels, one a volume.
    held_out : sequence of TrainingPair
        Those that are validated on, wholly or in part. Pseudo-labels of the same image are left
        out, so that nothing that is validated on has been seen in training.
    axes, intensity, whole_range
        As for `napari_slidesam.tuning.pseudo_store.PseudoWindows`.

    Raises
    ------
    TuningError
        Pseudo-labels are damaged, their volume is not there, or they hold no mask along the axes.
    """
    parts, left_out = [], []
    for folder in stores:
        store = PseudoStore(folder)
        volume = open_image(store)
        if any(_is_same_image(pair, volume) for pair in held_out):
            left_out.append(store.facts.name)
        else:
            parts.append((store, volume))
    if not parts:
        return windows, PseudoReport(left_out=tuple(left_out))
    pseudo = PseudoWindows(parts, axes=axes, intensity=intensity, whole_range=whole_range)
    source = MixedSource(
        [windows, pseudo],
        shares=(REAL_SHARE, 1 - REAL_SHARE),
        length=max(2, round(len(windows) / REAL_SHARE)),
    )
    return source, PseudoReport(pseudo.n_volumes, len(pseudo), tuple(left_out))


def _is_same_image(pair: TrainingPair, volume: Volume) -> bool:
    """Whether a pair's image is a volume; three slices are compared."""
    shape = pair.shape_zyx
    if shape != volume.shape_zyx:
        return False
    stack = volume.along(0)
    for z in sorted({0, shape[0] // 2, shape[0] - 1}):
        ours: Any = np.asarray(pair.image[z], dtype=np.float32)
        try:
            theirs: Any = np.asarray(stack.read(z), dtype=np.float32)
        except SlideSamError:
            return False
        if not np.array_equal(ours, theirs, equal_nan=True):
            return False
    return True
