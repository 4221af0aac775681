"""Reading volumes and reading and writing labels, whatever the format."""

from __future__ import annotations

import gzip
import importlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io.atomic import replacing_file, replacing_folder
from napari_slidesam.io.volume_file import FileKind, VolumeFile, reading, smallest_unsigned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from napari_slidesam.volume import ArrayLike, ChannelMix

_MODULES: dict[FileKind, str] = {
    "nifti": "nifti",
    "tiff": "tiff",
    "nrrd": "nrrd",
    "npy": "npy",
    "ome-zarr": "ome_zarr",
}
_SUFFIXES: dict[str, FileKind] = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".hdr": "nifti",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".npy": "npy",
    ".npz": "npy",
    ".zarr": "ome-zarr",
}
_WRITABLE = (".nii.gz", ".nii", ".tif", ".tiff", ".ome.tif", ".nrrd", ".npy", ".npz", ".zarr")
_READ_ONLY = (".hdr", ".nhdr")
_SNIFFED_BYTES = 352
_SLAB_SLICES = 32


def read_volume(
    path: str | Path,
    *,
    channel: ChannelMix | int | Sequence[float] | None = None,
    level: int = 0,
    time: int | None = None,
) -> VolumeFile:
    """Open a volume; its slices are read from the file when they are asked for.

    Parameters
    ----------
    path : str or Path
        A NIfTI, TIFF, NRRD or numpy file, or the folder of an OME-Zarr image.
    channel : ChannelMix, int or sequence of float, optional
        The channel to take, or a weight per channel; see `Volume`.
    level : int
        The resolution level of a multiscale image, 0 is the full one.
    time : int, optional
        The time point; needed where there are several.

    Raises
    ------
    FileFormatError
        The file is missing, unreadable, truncated, or no image of a known kind.
    VolumeError
        It holds no single volume, or the channel, level or time point does not exist.
    """
    path = Path(path)
    kind = _kind_of(path)
    options: dict[str, Any] = {"channel": channel, "time": time}
    if kind in ("tiff", "ome-zarr"):
        options["level"] = level
    elif level != 0:
        raise VolumeError(f"{path.name} has level 0 only; got level {level}.")
    module = _format_module(kind)
    read = getattr(module, f"read_{_MODULES[kind]}")
    try:
        opened: VolumeFile = read(path, **options)
    except VolumeError as error:
        if str(path.name) in str(error):
            raise
        raise VolumeError(f"{path}: {error}") from error
    return opened


def read_labels(path: str | Path) -> NDArray[np.unsignedinteger[Any]]:
    """Read a labels volume.

    Returns
    -------
    ndarray of unsigned int, shape (Z, Y, X)
        In the smallest type that holds the ids.

    Raises
    ------
    FileFormatError
        The file cannot be read, or holds values that are no labels: colours, negative numbers
        or fractions.
    """
    opened = read_volume(path)
    volume = opened.volume
    if volume.channel_axis is not None:
        raise FileFormatError(
            f"{opened.path} has {volume.data.shape[volume.channel_axis]} channels; labels have "
            "one number a voxel. Save the label values, not their colours."
        )
    with reading(opened.path, "labels"):
        values = np.asarray(volume.data[(slice(None),) * len(volume.data.shape)])
    values = values.reshape(volume.shape_zyx)
    if values.dtype.kind == "f" and not (
        np.isfinite(values).all() and (values == np.rint(values)).all()
    ):
        raise FileFormatError(
            f"{opened.path} holds fractions, NaN or infinity; labels are whole numbers. Is it "
            "the image, or a probability map?"
        )
    lowest = values.min()
    if lowest < 0:
        raise FileFormatError(
            f"{opened.path} holds the negative value {lowest}; labels are 0 for the background "
            "and positive for objects."
        )
    return np.ascontiguousarray(smallest_unsigned(values))


def write_labels(
    path: str | Path,
    labels_zyx: ArrayLike,
    like: VolumeFile | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write labels so that they lie exactly on an image.

    The format follows from the suffix of ``path`` and may be another than the image's. The
    type is the smallest unsigned integer that holds the ids. The file appears when it is
    complete; until then an old one stays as it is.

    Parameters
    ----------
    path : str or Path
        Ends in .nii.gz, .nii, .tif, .tiff, .ome.tif, .nrrd, .npy, .npz or .zarr.
    labels_zyx : array-like of int or bool, shape (Z, Y, X)
        Not negative. For .zarr it may be lazy: it is read in slabs.
    like : VolumeFile, optional
        The image. Without it the labels get a spacing of 1.
    overwrite : bool
        Replace what is at ``path``.

    Returns
    -------
    Path
        Where the labels are.

    Raises
    ------
    VolumeError
        The labels have another shape than the image, or are no integers.
    FileFormatError
        The suffix is unknown, the path exists, or it cannot be written.
    """
    target = Path(path)
    kind = _kind_to_write(target)
    _check_labels(labels_zyx, like)
    if like is not None and target.exists() and target.resolve() == like.path.resolve():
        raise FileFormatError(f"{target} is the image itself. Choose another name for labels.")
    module = _format_module(kind)
    max_id = _max_id(labels_zyx)
    if kind == "ome-zarr":
        if target.exists() and not (module.is_zarr(target) or _is_empty_folder(target)):
            raise FileFormatError(
                f"{target} is no zarr folder, so it is not replaced. Choose another name."
            )
        with replacing_folder(target, overwrite=overwrite) as temporary:
            module.write_ome_zarr(temporary, labels_zyx, max_id, like, target.stem)
        return target
    labels = smallest_unsigned(np.asarray(labels_zyx), max_id)
    with replacing_file(target, overwrite=overwrite) as temporary:
        getattr(module, f"write_{_MODULES[kind]}")(temporary, labels, like)
    return target


def _format_module(kind: FileKind) -> ModuleType:
    name = _MODULES[kind]
    try:
        return importlib.import_module(f"napari_slidesam.io.{name}")
    except ImportError as error:
        raise FileFormatError(
            f"{kind} files need a library that is not installed ({error}). Install it with: pip "
            "install --upgrade napari-slidesam"
        ) from error


def _suffix(path: Path) -> str:
    """Return the longest known suffix of a name, in lower case, else its last one."""
    name = path.name.lower()
    known = [s for s in _SUFFIXES if name.endswith(s)]
    return max(known, key=len) if known else path.suffix.lower()


def _kind_of(path: Path) -> FileKind:
    """Return the kind of a file by its content; name and content must agree."""
    readable = "NIfTI, TIFF, NRRD and numpy files and OME-Zarr folders can be read"
    if not path.exists():
        raise FileFormatError(f"{path} does not exist. Check the name and the folder.")
    named = _SUFFIXES.get(_suffix(path))
    if path.is_dir():
        if not _format_module("ome-zarr").is_zarr(path):
            raise FileFormatError(f"{path} is a folder, but no zarr group; {readable}.")
        return "ome-zarr"
    with reading(path, "a file"):
        found = _sniffed(path)
    if found is None:
        what = f"named like {named}, but is none" if named else "no image of a known kind"
        raise FileFormatError(
            f"{path} is {what}: it may be truncated or damaged. {readable[0].upper()}"
            f"{readable[1:]}."
        )
    if found != named:
        suffixes = ", ".join(s for s, kind in _SUFFIXES.items() if kind == found)
        raise FileFormatError(
            f"{path} holds {found} data but is not named so. Rename it to end in {suffixes}."
        )
    return found


def _sniffed(path: Path) -> FileKind | None:
    """Return the kind that a file's first bytes tell."""
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as unpacked:
                start = unpacked.read(_SNIFFED_BYTES)
        except (OSError, EOFError, zlib.error):
            return None
        return "nifti" if _is_nifti(start) else None
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if start[:4] == b"NRRD":
        return "nrrd"
    if start[:6] == b"\x93NUMPY" or start[:4] == b"PK\x03\x04":
        return "npy"
    return "nifti" if _is_nifti(start) else None


def _is_nifti(start: bytes) -> bool:
    return start[344:347] in (b"n+1", b"ni1") or start[4:7] in (b"n+2", b"ni2")


def _kind_to_write(target: Path) -> FileKind:
    suffix = _suffix(target)
    if suffix not in _SUFFIXES or suffix in _READ_ONLY:
        raise FileFormatError(
            f"Labels cannot be written to {target.name!r}: the name must end in "
            f"{', '.join(_WRITABLE)}."
        )
    return _SUFFIXES[suffix]


def _check_labels(labels: ArrayLike, like: VolumeFile | None) -> None:
    shape = tuple(int(n) for n in labels.shape)
    if np.dtype(labels.dtype).kind not in "biu":
        raise VolumeError(f"Labels are integers or bool; got {labels.dtype}.")
    if like is not None and shape != like.volume.shape_zyx:
        raise VolumeError(
            f"The labels have shape {shape}, but the image {like.path.name} has "
            f"{like.volume.shape_zyx} (z, y, x)."
        )
    if len(shape) != 3 or 0 in shape:
        raise VolumeError(f"Labels need three axes (z, y, x) and a voxel; got shape {shape}.")


def _max_id(labels: ArrayLike) -> int:
    """Return the largest id, read slab by slab; negative labels raise."""
    largest = 0
    for start in range(0, int(labels.shape[0]), _SLAB_SLICES):
        slab = np.asarray(labels[start : start + _SLAB_SLICES])
        if slab.dtype.kind == "i" and slab.min() < 0:
            raise VolumeError(
                f"Labels are 0 or positive; got {slab.min()}. Use 0 for the background."
            )
        largest = max(largest, int(slab.max()))
    return largest


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
