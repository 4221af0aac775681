"""Layers saved as a job's data, slice by slice, in whatever thread asks for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import TuningError
from napari_slidesam.jobs.spec import DATA_FOLDER, PairSpec

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class LayerPair:
    """What of two layers is saved.

    Parameters
    ----------
    name : str
    volume : Volume
        The image.
    labels : array-like of int, shape (Z, Y, X)
        Of the labels layer; not read yet.
    """

    name: str
    volume: Volume
    labels: Any


def save_pairs(
    pairs: Sequence[LayerPair], folder: Path, cancelled: threading.Event
) -> tuple[PairSpec, ...]:
    """Write pairs into a job's folder; return how the job names them.

    Raises
    ------
    TuningError
        It was cancelled, or the disk is full.
    """
    data = folder / DATA_FOLDER
    data.mkdir(parents=True, exist_ok=True)
    specs = []
    for name, pair in zip(_file_names(pairs), pairs, strict=True):
        image, labels = data / f"{name}_image.npy", data / f"{name}_labels.npy"
        try:
            _save(
                image, pair.volume.shape_zyx, lambda z, v=pair.volume: image_plane(v, z), cancelled
            )
            _save(
                labels, pair.volume.shape_zyx, lambda z, a=pair.labels: np.asarray(a[z]), cancelled
            )
        except OSError as error:
            raise TuningError(
                f"{pair.name} cannot be saved in {folder}: {error.strerror or error}. Free some "
                "space; the layers are as they were."
            ) from error
        paths = [str(path.relative_to(folder)) for path in (image, labels)]
        specs.append(PairSpec(pair.name, paths[0], paths[1], pair.volume.spacing_zyx))
    return tuple(specs)


def image_plane(volume: Volume, z: int) -> NDArray[Any]:
    """Return a slice with its stored values, or as the mix of its channels."""
    if volume.channel_axis is not None:
        return volume.along(0).read(z)
    data: Any = volume.data
    return np.asarray(data if len(data.shape) == 2 else data[z])


def _save(path: Path, shape: tuple[int, int, int], plane: Any, cancelled: threading.Event) -> None:
    first = plane(0)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=first.dtype, shape=shape)
    for z in range(shape[0]):
        if cancelled.is_set():
            raise TuningError("Saving the layers was cancelled.")
        out[z] = first if z == 0 else plane(z)
    out.flush()


def _file_names(pairs: Sequence[LayerPair]) -> list[str]:
    """Return a name for each pair that any file system takes, all different."""
    names: list[str] = []
    for pair in pairs:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", pair.name).strip("._")[:60] or "pair"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names
