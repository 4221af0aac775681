"""What reading a file gives: the volume, and the grid that its labels are written on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_slidesam.errors import FileFormatError, SlideSamError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.volume import Volume

FileKind = Literal["nifti", "tiff", "nrrd", "npy", "ome-zarr"]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels of a file lie; each format adds what its own writer needs.

    Parameters
    ----------
    affine_ras : ndarray of float64, shape (4, 4), optional
        From voxel indices in x, y, z order to right-anterior-superior coordinates in the
        volume's unit, where the format knows the orientation.
    is_plane : bool
        The file holds a 2D image.
    """

    affine_ras: NDArray[np.float64] | None = None
    is_plane: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class VolumeFile:
    """A volume and the file it came from.

    Parameters
    ----------
    path : Path
    kind : str
        ``"nifti"``, ``"tiff"``, ``"nrrd"``, ``"npy"`` or ``"ome-zarr"``.
    volume : Volume
        Its slices are read from the file when they are asked for.
    grid : Grid
        What `write_labels` needs to write labels that lie exactly on this image.
    """

    path: Path
    kind: FileKind
    volume: Volume
    grid: Grid


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises on a bad file into a `FileFormatError`."""
    try:
        yield
    except SlideSamError:
        raise
    except Exception as error:
        reason = str(error) or "no reason given"
        raise FileFormatError(
            f"{path} cannot be read as {what}: {type(error).__name__}: {reason}. The file may be "
            "truncated or damaged: open it in the program that wrote it, or copy it again."
        ) from error


def time_index(time: int | None, n_times: int, path: Path) -> int:
    """Return the time point to read.

    Raises
    ------
    VolumeError
        There are several and none was chosen, or the chosen one does not exist.
    """
    if time is None and n_times > 1:
        raise VolumeError(
            f"{path.name} has {n_times} time points; a volume has one. Choose it with "
            f"time=0 to {n_times - 1}."
        )
    chosen = 0 if time is None else time
    if not 0 <= chosen < n_times:
        raise VolumeError(
            f"{path.name} has time points 0 to {n_times - 1}; time={chosen} does not exist."
        )
    return chosen


def smallest_unsigned(labels: NDArray[Any], max_id: int | None = None) -> NDArray[Any]:
    """Return labels in the smallest unsigned type that holds their ids, native byte order."""
    largest = int(labels.max()) if max_id is None else max_id
    return labels.astype(np.min_scalar_type(largest), copy=False)
