"""OME-Zarr 0.4 (zarr format 2) and 0.5 (zarr format 3): scale, translation, axes, levels."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io.lazy import SelectedArray
from napari_slidesam.io.units import UNKNOWN_UNIT, canonical_unit, conversion, ngff_unit
from napari_slidesam.io.volume_file import Grid, VolumeFile, reading, time_index
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_slidesam.volume import ArrayLike, ChannelMix

ZARR_MARKERS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""A folder with one of these files is a zarr group or array."""

_DEFAULT_VERSION = "0.5"
_CHUNK_ZYX = (32, 256, 256)
_LEVEL_NAME = "s0"
_LEGACY_AXES = "tczyx"
_AXIS_TYPES = {"t": "time", "c": "channel"}


@dataclass(frozen=True, slots=True)
class ZarrAxis:
    """One axis of a stored array, with the scale and translation of the level that is read."""

    name: str
    type: str
    unit: str | None = None
    scale: float = 1.0
    translation: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ZarrGrid(Grid):
    """The axes that labels keep: all but channels, time with the chosen point only."""

    version: str = _DEFAULT_VERSION
    axes: tuple[ZarrAxis, ...] = ()


def read_ome_zarr(
    path: Path,
    *,
    channel: ChannelMix | int | Sequence[float] | None = None,
    level: int = 0,
    time: int | None = None,
) -> VolumeFile:
    """Read an OME-Zarr image, or a plain zarr array of 2 or 3 axes; see `read_volume`."""
    with reading(path, "zarr"):
        node = zarr.open(str(path), mode="r")
        array, axes, version = (
            _open_plain(node, path, level)
            if isinstance(node, zarr.Array)
            else _open_level(node, path, level)
        )
    fixed: dict[int, int] = {}
    channels: list[int] = []
    kept: list[ZarrAxis] = []
    for i, axis in enumerate(axes):
        if axis.type == "time":
            fixed[i] = time_index(time, array.shape[i], path)
            kept.append(_moved(axis, fixed[i]))
        elif axis.type != "channel":
            kept.append(axis)
        elif array.shape[i] == 1:
            fixed[i] = 0
        else:
            channels.append(i)
    if not any(axis.type == "time" for axis in axes):
        time_index(time, 1, path)
    if len(channels) > 1:
        raise VolumeError(f"{path.name} has several channel axes. Save one of them alone.")
    channel_axis = channels[0] - sum(i < channels[0] for i in fixed) if channels else None
    data: ArrayLike = SelectedArray(array, fixed) if fixed else array
    spatial = [axis for axis in axes if axis.type not in ("time", "channel")]
    volume = Volume(data, _spacing_zyx(spatial), _unit(spatial), channel_axis, channel)
    grid = ZarrGrid(is_plane=len(spatial) == 2, version=version, axes=tuple(kept))
    return VolumeFile(path, "ome-zarr", volume, grid)


def write_ome_zarr(
    path: Path, labels: ArrayLike, max_id: int, like: VolumeFile | None, name: str
) -> None:
    """Write labels (z, y, x) as an OME-Zarr image of its own, marked as labels.

    Axes, scale, units and translation are those of ``like``, channels left out. ``labels`` may
    be lazy: it is read one slab of chunks at a time.
    """
    from ome_zarr.format import format_from_version
    from ome_zarr.writer import add_metadata, write_multiscales_metadata

    grid = _grid_for(like)
    n_axes = len(grid.axes)
    shape = (1,) * (n_axes - 3) + tuple(labels.shape)
    shape, chunk = shape[-n_axes:], ((1,) * n_axes + _CHUNK_ZYX)[-n_axes:]
    version = format_from_version(grid.version)
    group = zarr.open_group(str(path), mode="w", zarr_format=version.zarr_format)
    is_format_2 = version.zarr_format == 2
    array = group.create_array(
        _LEVEL_NAME,
        shape=shape,
        chunks=tuple(max(1, min(c, n)) for c, n in zip(chunk, shape, strict=True)),
        dtype=np.min_scalar_type(max_id),
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"} if is_format_2 else None,
        dimension_names=None if is_format_2 else [axis.name for axis in grid.axes],
    )
    depth = _CHUNK_ZYX[0]
    for start in range(0, labels.shape[0], depth):
        slab = np.asarray(labels[start : start + depth]).astype(array.dtype)
        if grid.is_plane:
            array[...] = slab.reshape(shape)
        else:
            array[(0,) * (n_axes - 3) + (slice(start, start + depth),)] = slab
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [a.scale for a in grid.axes]}]
    translation = [a.translation for a in grid.axes]
    if any(translation):
        transforms.append({"type": "translation", "translation": translation})
    datasets = [{"path": _LEVEL_NAME, "coordinateTransformations": transforms}]
    axes = [
        {"name": a.name, "type": a.type, **({"unit": a.unit} if a.unit else {})} for a in grid.axes
    ]
    write_multiscales_metadata(group, datasets, fmt=version, axes=axes, name=name)
    add_metadata(group, {"image-label": {"version": grid.version}}, fmt=version)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr group or array."""
    return any((path / marker).is_file() for marker in ZARR_MARKERS)


def _open_plain(array: Any, path: Path, level: int) -> tuple[Any, tuple[ZarrAxis, ...], str]:
    if level:
        raise VolumeError(f"{path.name} is one array, it has level 0 only; got level {level}.")
    if not 2 <= array.ndim <= 3:
        raise VolumeError(
            f"{path.name} is a zarr array of shape {array.shape} without OME metadata that name "
            "its axes; 2 or 3 axes were expected. Open it with zarr and choose a part."
        )
    return array, tuple(ZarrAxis(n, "space") for n in "zyx"[-array.ndim :]), _DEFAULT_VERSION


def _open_level(group: Any, path: Path, level: int) -> tuple[Any, tuple[ZarrAxis, ...], str]:
    """Return the array of a level, its axes, and the version of the metadata."""
    attributes = dict(group.attrs)
    ome: Mapping[str, Any] = attributes.get("ome", attributes)
    if not ome.get("multiscales"):
        raise FileFormatError(_no_image_message(group, ome, path))
    multiscale = ome["multiscales"][0]
    version = str(ome.get("version") or multiscale.get("version") or "0.4")
    datasets = multiscale["datasets"]
    if not 0 <= level < len(datasets):
        raise VolumeError(f"{path.name} has levels 0 to {len(datasets) - 1}; got level {level}.")
    array = group[datasets[level]["path"]]
    axes = [_axis(a) for a in multiscale.get("axes") or _LEGACY_AXES[-array.ndim :]]
    if len(axes) != array.ndim:
        raise FileFormatError(
            f"{path} names {len(axes)} axes, but its array has shape {array.shape}."
        )
    steps = [
        *datasets[level].get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]
    placed = _placed(axes, steps, path)
    return array, placed, version if version in ("0.4", "0.5") else "0.4"


def _no_image_message(group: Any, ome: Mapping[str, Any], path: Path) -> str:
    if "plate" in ome or "well" in ome:
        return f"{path} is a plate or a well; give one of its images, such as {path}/A/1/0."
    if "labels" in ome:
        return f"{path} lists label images; give one of them: {', '.join(ome['labels'])}."
    inside = sorted(itertools.islice((str(key) for key in group), 8))
    return (
        f"{path} is a zarr group without an OME-Zarr image ('multiscales' in its metadata). Give "
        f"the folder of an image or of an array; inside are: {', '.join(inside) or 'none'}."
    )


def _axis(axis: str | Mapping[str, Any]) -> ZarrAxis:
    """Return an axis from its metadata: a name only in versions before 0.4."""
    if isinstance(axis, str):
        return ZarrAxis(axis, _AXIS_TYPES.get(axis, "space"))
    name = str(axis["name"])
    return ZarrAxis(name, axis.get("type") or _AXIS_TYPES.get(name, "space"), axis.get("unit"))


def _placed(
    axes: Sequence[ZarrAxis], steps: Sequence[Mapping[str, Any]], path: Path
) -> tuple[ZarrAxis, ...]:
    """Return the axes with all scale and translation steps, in their order, as one of each."""
    scale, translation = np.ones(len(axes)), np.zeros(len(axes))
    for step in steps:
        kind = step.get("type")
        if kind == "scale":
            scale, translation = scale * step["scale"], translation * step["scale"]
        elif kind == "translation":
            translation = translation + step["translation"]
        elif kind != "identity":
            raise FileFormatError(
                f"{path} has a coordinate transformation {kind!r}; scale, translation and "
                "identity are known."
            )
    return tuple(
        ZarrAxis(axis.name, axis.type, axis.unit, float(s), float(t))
        for axis, s, t in zip(axes, scale, translation, strict=True)
    )


def _moved(axis: ZarrAxis, index: int) -> ZarrAxis:
    """Return an axis of length 1 that lies where this index of the axis does."""
    translation = axis.translation + index * axis.scale
    return ZarrAxis(axis.name, axis.type, axis.unit, axis.scale, translation)


def _spacing_zyx(spatial: Sequence[ZarrAxis]) -> tuple[float, float, float]:
    unit = _unit(spatial)
    scales = [axis.scale * (conversion(canonical_unit(axis.unit), unit) or 1.0) for axis in spatial]
    z, y, x = ([1.0] * 3 + scales)[-3:]
    return (z, y, x)


def _unit(spatial: Sequence[ZarrAxis]) -> str:
    return canonical_unit(spatial[-1].unit) if spatial else UNKNOWN_UNIT


def _grid_for(like: VolumeFile | None) -> ZarrGrid:
    """Return the grid of an OME-Zarr image, or one made of spacing and unit."""
    if like is None:
        return ZarrGrid(axes=tuple(ZarrAxis(name, "space") for name in "zyx"))
    if isinstance(like.grid, ZarrGrid):
        return like.grid
    unit = ngff_unit(like.volume.unit)
    placed = zip("zyx", like.volume.spacing_zyx, strict=True)
    axes = tuple(ZarrAxis(name, "space", unit, scale) for name, scale in placed)
    is_plane = like.grid.is_plane
    return ZarrGrid(is_plane=is_plane, axes=axes[1:] if is_plane else axes)
