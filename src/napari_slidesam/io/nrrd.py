"""NRRD by pynrrd: space, directions and origin are the same in labels as in the image."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nrrd
import numpy as np

from napari_slidesam.errors import VolumeError
from napari_slidesam.io.units import UNKNOWN_UNIT, canonical_unit
from napari_slidesam.io.volume_file import Grid, VolumeFile, reading, time_index
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.volume import ChannelMix

_TIME_KINDS = frozenset({"time", "list"})
_SPATIAL_KINDS = frozenset({"domain", "space", "none", "???"})
_DTYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "f4": ("float",),
    "f8": ("double",),
}
"""Names of the types that are memory-mapped; others are left to pynrrd."""
_TO_RAS = {
    "right-anterior-superior": (1.0, 1.0, 1.0),
    "ras": (1.0, 1.0, 1.0),
    "left-anterior-superior": (-1.0, 1.0, 1.0),
    "las": (-1.0, 1.0, 1.0),
    "left-posterior-superior": (-1.0, -1.0, 1.0),
    "lps": (-1.0, -1.0, 1.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class NrrdGrid(Grid):
    """The header fields that say where the voxels lie, for the spatial axes only."""

    fields: dict[str, Any] = field(default_factory=dict)


def read_nrrd(
    path: Path,
    *,
    channel: ChannelMix | int | Sequence[float] | None = None,
    time: int | None = None,
) -> VolumeFile:
    """Read a NRRD file; see `read_volume`. Uncompressed data are memory-mapped."""
    with reading(path, "NRRD"):
        header, stored = _load(path)
        axes = _axis_roles(header, stored.ndim, time)
    index: list[int | slice] = [slice(None)] * stored.ndim
    channel_axis = None
    for file_axis, role in enumerate(axes):
        position = stored.ndim - 1 - file_axis
        if role == "t":
            index[position] = time_index(time, stored.shape[position], path)
        elif role == "c" and channel_axis is not None:
            raise VolumeError(f"{path.name} has several channel axes. Split it first.")
        elif role == "c":
            channel_axis = position
    if "t" not in axes:
        time_index(time, 1, path)
    if channel_axis is not None:
        channel_axis -= sum(isinstance(part, int) for part in index[:channel_axis])
    spatial = [i for i, role in enumerate(axes) if role == "s"]
    volume = Volume(
        stored[tuple(index)],
        _spacing_zyx(header, spatial),
        _unit(header, spatial),
        channel_axis,
        channel,
    )
    grid = NrrdGrid(
        affine_ras=_affine_ras(header, spatial),
        is_plane=len(spatial) == 2,
        fields=_spatial_fields(header, spatial),
    )
    return VolumeFile(path, "nrrd", volume, grid)


def write_nrrd(path: Path, labels: NDArray[Any], like: VolumeFile | None) -> None:
    """Write labels (z, y, x) to a new file, on the grid of ``like``."""
    header: dict[str, Any] = {}
    values = labels
    if like is not None:
        values = labels[0] if like.grid.is_plane else labels
        header = _fields_like(like)
    header["kinds"] = ["domain"] * values.ndim
    header["encoding"] = "gzip"
    with warnings.catch_warnings():
        # pynrrd stamps the file with datetime.utcnow, deprecated since Python 3.12.
        warnings.simplefilter("ignore", DeprecationWarning)
        nrrd.write(str(path), values, header, index_order="C", compression_level=4)


def _load(path: Path) -> tuple[Mapping[str, Any], NDArray[Any]]:
    """Return header and array; axes are reversed, so that the last one is the file's first."""
    with path.open("rb") as file:
        header = nrrd.read_header(file)
        offset = file.tell()
        dtype = _mappable_dtype(header)
        if dtype is None:
            return header, nrrd.read_data(header, file, str(path), index_order="C")
    shape = tuple(int(n) for n in reversed(header["sizes"]))
    return header, np.memmap(path, dtype, "r", offset, shape)


def _mappable_dtype(header: Mapping[str, Any]) -> np.dtype[Any] | None:
    """Return the type of data that lie uncompressed behind the header, else None."""
    elsewhere = ("data file", "datafile", "lineskip", "line skip", "byteskip", "byte skip")
    if header.get("encoding") != "raw" or any(header.get(name) for name in elsewhere):
        return None
    order = {"big": ">", "little": "<"}.get(header.get("endian", "little"))
    for code, names in _DTYPES.items():
        if header.get("type") in names and order is not None:
            return np.dtype(order + code)
    return None


def _axis_roles(header: Mapping[str, Any], n_axes: int, time: int | None) -> list[str]:
    """Return "s" (space), "c" (channel) or "t" (time) for each axis, in the file's order."""
    roles = []
    for kind in header.get("kinds") or ["domain"] * n_axes:
        lower = str(kind).lower()
        roles.append("t" if lower in _TIME_KINDS else "s" if lower in _SPATIAL_KINDS else "c")
    directions = header.get("space directions")
    if directions is not None:
        for axis, direction in enumerate(directions):
            if roles[axis] == "s" and (direction is None or np.isnan(direction).any()):
                roles[axis] = "c"
    if roles.count("s") == 4 and time is not None:
        roles[-1] = "t"
    return roles


def _directions(header: Mapping[str, Any], spatial: Sequence[int]) -> NDArray[np.float64] | None:
    """Return one row a spatial axis, in the file's order, or None where there are none."""
    directions = header.get("space directions")
    if directions is None:
        return None
    rows = np.array([directions[i] for i in spatial], dtype=np.float64)
    return rows if np.isfinite(rows).all() and (np.linalg.norm(rows, axis=1) > 0).all() else None


def _spacing_zyx(header: Mapping[str, Any], spatial: Sequence[int]) -> tuple[float, float, float]:
    directions = _directions(header, spatial)
    if directions is not None:
        spacing = [float(s) for s in np.linalg.norm(directions, axis=1)]
    elif header.get("spacings") is not None:
        stored = [float(header["spacings"][i]) for i in spatial]
        spacing = [s if np.isfinite(s) and s > 0 else 1.0 for s in stored]
    else:
        spacing = [1.0] * len(spatial)
    x, y, z = [*spacing, 1.0, 1.0, 1.0][:3]
    return (z, y, x)


def _unit(header: Mapping[str, Any], spatial: Sequence[int]) -> str:
    units = header.get("space units")
    if not units and header.get("units"):
        units = [header["units"][i] for i in spatial]
    if units:
        return canonical_unit(str(units[0]).strip('"'))
    return "mm" if str(header.get("space", "")).lower() in _TO_RAS else UNKNOWN_UNIT


def _affine_ras(header: Mapping[str, Any], spatial: Sequence[int]) -> NDArray[np.float64] | None:
    signs = _TO_RAS.get(str(header.get("space", "")).lower())
    directions = _directions(header, spatial)
    if signs is None or directions is None or directions.shape != (3, 3):
        return None
    affine = np.eye(4)
    affine[:3, :3] = directions.T
    origin = header.get("space origin")
    if origin is not None and np.isfinite(origin).all():
        affine[:3, 3] = origin
    return np.asarray(np.diag([*signs, 1.0]) @ affine)


def _spatial_fields(header: Mapping[str, Any], spatial: Sequence[int]) -> dict[str, Any]:
    """Return the fields that place the voxels, those that count axes cut to the spatial ones."""
    names = ("space", "space dimension", "space origin", "space units", "measurement frame")
    fields = {name: header[name] for name in names if name in header}
    directions = header.get("space directions")
    if directions is not None:
        fields["space directions"] = np.array([directions[i] for i in spatial], dtype=float)
    for name in ("spacings", "units", "centerings", "axis mins", "axismins"):
        if header.get(name) is not None:
            fields[name] = [header[name][i] for i in spatial]
    return fields


def _fields_like(like: VolumeFile) -> dict[str, Any]:
    if isinstance(like.grid, NrrdGrid):
        return dict(like.grid.fields)
    unit = like.volume.unit
    affine = like.grid.affine_ras
    if affine is not None:
        return {
            "space": "right-anterior-superior",
            "space directions": affine[:3, :3].T.copy(),
            "space origin": affine[:3, 3].copy(),
            "space units": [unit] * 3,
        }
    spacing = list(reversed(like.volume.spacing_zyx))[: 2 if like.grid.is_plane else 3]
    fields: dict[str, Any] = {"spacings": spacing}
    if unit != UNKNOWN_UNIT:
        fields["units"] = [unit] * len(spacing)
    return fields
