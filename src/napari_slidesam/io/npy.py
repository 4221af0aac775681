"""Numpy's own files: one array, no spacing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import FileFormatError
from napari_slidesam.io.volume_file import Grid, VolumeFile, reading, time_index
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.volume import ChannelMix


def read_npy(
    path: Path,
    *,
    channel: ChannelMix | int | Sequence[float] | None = None,
    time: int | None = None,
) -> VolumeFile:
    """Read a ``.npy`` (memory-mapped) or an ``.npz`` with one array; see `read_volume`.

    With ``time`` the first axis is time, with ``channel`` the last axis holds channels.
    """
    with reading(path, "a numpy file"):
        data: NDArray[Any] = _only_array(path) if _is_zip(path) else np.load(path, mmap_mode="r")
    if time is not None and data.ndim > 2:
        data = data[time_index(time, data.shape[0], path)]
    channel_axis = None if channel is None else -1
    volume = Volume(data, channel_axis=channel_axis, channels=channel)
    is_plane = data.ndim - (channel_axis is not None) == 2
    return VolumeFile(path, "npy", volume, Grid(is_plane=is_plane))


def write_npy(path: Path, labels: NDArray[Any], like: VolumeFile | None) -> None:
    """Write labels (z, y, x), or (y, x) where the image is 2D; ``labels`` in an ``.npz``."""
    values = labels[0] if like is not None and like.grid.is_plane else labels
    with path.open("wb") as file:  # by name numpy would add a suffix to .NPY
        if path.suffix.lower() == ".npz":
            np.savez_compressed(file, labels=values)
        else:
            np.save(file, values, allow_pickle=False)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _only_array(path: Path) -> NDArray[Any]:
    with path.open("rb") as file, np.load(file) as arrays:
        names = sorted(arrays.files)
        if len(names) != 1:
            raise FileFormatError(
                f"{path} holds the arrays {names}; a volume is one array. Save it alone with "
                "numpy.save."
            )
        array: NDArray[Any] = arrays[names[0]]
        return array
