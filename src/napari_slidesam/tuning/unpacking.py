"""Volumes that were compressed as a whole, unpacked once so that any slice is at hand.

They go to temporary files, a few MB at a time, which are memory-mapped: a folder of any number
of volumes fits into memory. The temporary folder (``TMPDIR``) needs as much space as the voxels
take in their stored type. Where the system allows it, as Linux and macOS do, a file loses its
name as soon as it is mapped: its space is free again when the volume is let go, and nothing is
left behind however the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.io import read_volume
from napari_slidesam.io.volume_file import reading
from napari_slidesam.tuning.pair_arrays import SLAB_VOXELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_slidesam.io import VolumeFile

SMALL_BYTES = 2**20
"""What is unpacked up to this size stays in memory: a thousand such volumes take 1 GB."""

_COPY_BYTES = 2**22
_OTHER_FILES = 512
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def open_at_hand(path: Path) -> VolumeFile:
    """Open a volume so that its slices along any axis are read in a moment.

    Memory-mapped files and zarr are read where they lie.

    Raises
    ------
    FileFormatError, VolumeError
        The file cannot be read, see `read_volume`.
    TuningError
        The temporary folder has too little space.
    """
    if path.name.lower().endswith(".nii.gz") and _unpacked_bytes(path) > SMALL_BYTES:
        return _unpacked_nifti(path)
    opened = read_volume(path)
    data = opened.volume.data
    if opened.kind in ("nifti", "ome-zarr") or _is_mapped(data):
        return opened
    n_bytes = math.prod(data.shape) * np.dtype(data.dtype).itemsize
    if isinstance(data, np.ndarray) and n_bytes <= SMALL_BYTES:
        return opened
    with _scratch_file(path, ".npy") as scratch:
        with reading(path, opened.kind), _space_for(path, scratch):
            _copy(data, scratch)
        mapped = np.load(scratch, mmap_mode="r")
    return replace(opened, volume=replace(opened.volume, data=mapped))


def allow_open_files(n_files: int) -> None:
    """Let the process hold so many files open besides its others, as far as the system lets it.

    A file that is memory-mapped counts as open. Some systems allow 256 at first, but more on
    request.
    """
    try:
        import resource
    except ImportError:  # Windows, where there is no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = n_files + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _unpacked_bytes(path: Path) -> int:
    """Return the size of a NIfTI file's voxels by its header; 0 where it cannot be read."""
    try:
        header: Any = nib.load(path).header
        itemsize = int(header.get_data_dtype().itemsize)
        return math.prod(int(n) for n in header.get_data_shape()) * itemsize
    except Exception:  # noqa: BLE001 - nibabel raises many kinds; reading it tells why
        return 0


def _unpacked_nifti(path: Path) -> VolumeFile:
    with _scratch_file(path, ".nii") as scratch:
        with (
            reading(path, "NIfTI"),
            _space_for(path, scratch),
            gzip.open(path) as packed,
            scratch.open("wb") as file,
        ):
            shutil.copyfileobj(packed, file, _COPY_BYTES)
        try:
            opened = read_volume(scratch)
        except FileFormatError as error:
            raise FileFormatError(str(error).replace(str(scratch), str(path))) from error
    return replace(opened, path=path)


def _is_mapped(data: Any) -> bool:
    """Whether an array, or what it is a view of, is memory-mapped."""
    while isinstance(data, np.ndarray):
        if isinstance(data, np.memmap):
            return True
        data = data.base
    return False


def _copy(data: Any, path: Path) -> None:
    """Write an array to a numpy file, slab by slab along its first axis."""
    shape = tuple(int(n) for n in data.shape)
    step = max(1, SLAB_VOXELS // max(1, math.prod(shape[1:])))
    descr = np.lib.format.dtype_to_descr(np.dtype(data.dtype))
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": descr, "fortran_order": False, "shape": shape}
        )
        for start in range(0, shape[0], step):
            file.write(np.ascontiguousarray(data[start : start + step]).data)


@contextlib.contextmanager
def _scratch_file(source: Path, suffix: str) -> Iterator[Path]:
    """Yield a path in a new temporary folder, which is removed afterwards."""
    try:
        # Windows keeps files that are mapped; what clears its temporary files gets them.
        folder = tempfile.TemporaryDirectory(prefix="napari-slidesam-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _unpacking_error(source, "the temporary folder", error) from error
    with folder as name:
        yield Path(name) / f"unpacked{suffix}"


@contextlib.contextmanager
def _space_for(source: Path, scratch: Path) -> Iterator[None]:
    """Say what to do where the temporary folder is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise _unpacking_error(source, str(scratch.parent), error) from error


def _unpacking_error(source: Path, where: str, error: OSError) -> TuningError:
    return TuningError(
        f"{source} has to be unpacked into a temporary file, but {where} cannot hold it: "
        f"{error.strerror}. Make space there, or set TMPDIR to a folder with more."
    )
