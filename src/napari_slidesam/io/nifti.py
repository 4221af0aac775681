"""NIfTI-1 and NIfTI-2: affine, orientation and codes are the same in labels as in the image."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.nifti1 import Nifti1Header, Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Header, Nifti2Image

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io.lazy import ScaledArray
from napari_slidesam.io.units import UNKNOWN_UNIT, canonical_unit, conversion
from napari_slidesam.io.volume_file import Grid, VolumeFile, reading, time_index
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.volume import ArrayLike, ChannelMix

logger = logging.getLogger(__name__)

_TIME_DIM, _SPATIAL_DIMS = 3, 3
_LARGEST_NIFTI1_LENGTH = 2**15 - 1
_NIFTI_UNITS = {"mm": "mm", "um": "micron", "m": "meter"}


@dataclass(frozen=True, slots=True, eq=False)
class NiftiGrid(Grid):
    """The header of an image, and its shape in the file's own order."""

    header: Nifti1Header | None = None
    shape_xyz: tuple[int, ...] = ()


def read_nifti(
    path: Path,
    *,
    channel: ChannelMix | int | Sequence[float] | None = None,
    time: int | None = None,
) -> VolumeFile:
    """Read a NIfTI file; see `read_volume`.

    A ``.nii`` file is memory-mapped. A ``.nii.gz`` is decompressed once, at its stored type;
    the header's slope and intercept are applied slice by slice.
    """
    with reading(path, "NIfTI"):
        image = nib.load(path)
        if not isinstance(image, Nifti1Pair):
            raise FileFormatError(
                f"{path} is {type(image).__name__}, not NIfTI. Convert it to .nii.gz."
            )
        proxy: Any = image.dataobj
        stored = np.asanyarray(proxy.get_unscaled()).T  # x, y, z, t, c reversed
        slope, intercept = float(proxy.slope), float(proxy.inter)
        zooms = image.header.get_zooms()
        unit = canonical_unit(image.header.get_xyzt_units()[0])
    stored, channel_axis = _as_zyx(stored, time, path)
    data: ArrayLike = stored
    if (slope, intercept) != (1.0, 0.0) and stored.dtype.kind in "iuf":
        data = ScaledArray(stored, slope, intercept)
    volume = Volume(
        data,
        _spacing_zyx(zooms, image.affine, path),
        "mm" if unit == UNKNOWN_UNIT else unit,
        channel_axis,
        channel,
    )
    grid = NiftiGrid(
        affine_ras=np.asarray(image.affine, dtype=np.float64),
        is_plane=len(image.shape) == 2,
        header=image.header,
        shape_xyz=tuple(int(n) for n in image.shape[:_SPATIAL_DIMS]),
    )
    return VolumeFile(path, "nifti", volume, grid)


def write_nifti(path: Path, labels: NDArray[Any], like: VolumeFile | None) -> None:
    """Write labels (z, y, x) to a new file, on the grid of ``like``."""
    grid = like.grid if like is not None else Grid()
    header: Nifti1Header | None = None
    if isinstance(grid, NiftiGrid) and grid.header is not None:
        header = grid.header.copy()
        values = labels.T.reshape(grid.shape_xyz, order="F")
        affine = grid.affine_ras
    else:
        values = labels.T
        header, affine = _header_from(like)
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1.0, 0.0)
    header["cal_min"] = header["cal_max"] = 0.0  # the image's display range
    header.set_intent("label")
    is_large = max(values.shape) > _LARGEST_NIFTI1_LENGTH
    is_version_2 = is_large or isinstance(header, Nifti2Header)
    writer: Any = Nifti2Image if is_version_2 else Nifti1Image
    writer(values, affine, header, dtype=labels.dtype).to_filename(path)


def _as_zyx(stored: NDArray[Any], time: int | None, path: Path) -> tuple[NDArray[Any], int | None]:
    """Return a view with the axes (z, y, x) and perhaps one of channels, and where that is."""
    n_dims = stored.ndim
    index: list[int | slice] = [slice(None)] * n_dims
    long_dims = []
    for dim in range(_SPATIAL_DIMS, n_dims):
        position = n_dims - 1 - dim
        length = stored.shape[position]
        if dim == _TIME_DIM:
            index[position] = time_index(time, length, path)
        elif length == 1:
            index[position] = 0
        else:
            long_dims.append(dim)
    if n_dims <= _TIME_DIM:
        time_index(time, 1, path)
    if len(long_dims) > 1:
        raise VolumeError(
            f"{path.name} has shape {stored.shape[::-1]}: at most one axis after the fourth may "
            "be longer than 1. Split it first."
        )
    channel_axis = 0 if long_dims else None
    view = stored[tuple(index)]
    if view.dtype.names:  # RGB and RGBA are records of bytes
        if channel_axis is not None:
            raise VolumeError(f"{path.name} has colours and a vector axis: split it first.")
        names = view.dtype.names
        view = np.stack([view[name] for name in names], axis=-1)
        channel_axis = view.ndim - 1
    return view, channel_axis


def _spacing_zyx(
    zooms: Sequence[float], affine: NDArray[Any] | None, path: Path
) -> tuple[float, float, float]:
    spacing = [*(float(s) for s in zooms[:_SPATIAL_DIMS]), 1.0, 1.0][:_SPATIAL_DIMS]
    if not _is_usable(spacing) and affine is not None:
        spacing = [float(s) for s in voxel_sizes(affine)]
    if not _is_usable(spacing):
        logger.warning("%s has no usable voxel sizes (%s): taken as 1 mm.", path, zooms)
        spacing = [1.0, 1.0, 1.0]
    x, y, z = spacing
    return (z, y, x)


def _is_usable(spacing: Sequence[float]) -> bool:
    return all(np.isfinite(s) and s > 0 for s in spacing)


def _header_from(like: VolumeFile | None) -> tuple[Nifti1Header, NDArray[np.float64]]:
    """Return a header and an affine for an image of another format."""
    header = Nifti1Header()
    if like is None:
        return header, np.eye(4)
    unit = like.volume.unit
    affine = like.grid.affine_ras
    if affine is None:
        z, y, x = like.volume.spacing_zyx
        affine = np.diag([x, y, z, 1.0])
    if unit in _NIFTI_UNITS:
        header.set_xyzt_units(_NIFTI_UNITS[unit])
    else:  # NIfTI knows m, mm and micron only
        factor = conversion(unit, "mm" if unit in ("cm", "inch") else "um")
        if factor is not None:
            affine = np.diag([factor, factor, factor, 1.0]) @ affine
            header.set_xyzt_units("mm" if unit in ("cm", "inch") else "micron")
    header.set_data_shape((1, 1, 1))
    header.set_sform(affine, code="aligned")
    header.set_qform(affine, code="aligned", strip_shears=True)
    return header, affine
