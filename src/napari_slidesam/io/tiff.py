"""TIFF stacks, ImageJ hyperstacks and OME-TIFF, with resolution, spacing and unit."""

from __future__ import annotations

import struct
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io.lazy import SelectedArray
from napari_slidesam.io.units import UNKNOWN_UNIT, canonical_unit, conversion, ome_unit
from napari_slidesam.io.volume_file import Grid, VolumeFile, reading, time_index
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.volume import ChannelMix

_LARGEST_CLASSIC_TIFF = 2**32 - 2**25
"""Bytes; beyond them offsets need 64 bits, which ImageJ's own format has not."""

_RESOLUTION_UNITS = {1: "NONE", 2: "INCH", 3: "CENTIMETER"}
_IMAGEJ_ORIGINS = ("xorigin", "yorigin", "zorigin")


@dataclass(frozen=True, slots=True, eq=False)
class TiffGrid(Grid):
    """What a TIFF says about its pixels' size.

    Parameters
    ----------
    is_ome : bool
        The file is OME-TIFF.
    resolution_xy : tuple of 2 floats, optional
        The tags XResolution and YResolution, pixels per resolution unit.
    resolution_unit : int
        The tag ResolutionUnit: 1 none, 2 inch, 3 centimetre.
    imagej_origins : dict
        ImageJ's origin of coordinates, in pixels.
    """

    is_ome: bool = False
    resolution_xy: tuple[float, float] | None = None
    resolution_unit: int = 1
    imagej_origins: dict[str, float] = field(default_factory=dict)


class PagedTiff:
    """The images of a TIFF that cannot be memory-mapped, decoded page by page when read."""

    def __init__(self, path: Path, level: int) -> None:
        import zarr

        tif = tifffile.TiffFile(path)
        try:
            store = tif.series[0].aszarr(level=level)
            self._array = zarr.open_array(store, mode="r")
        except BaseException:
            tif.close()
            raise
        weakref.finalize(self, _close, store, tif)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(self._array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return np.dtype(self._array.dtype)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of what is decoded together."""
        return tuple(self._array.chunks)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self._array[index])


def _close(store: Any, tif: tifffile.TiffFile) -> None:
    store.close()
    tif.close()


def read_tiff(
    path: Path,
    *,
    channel: ChannelMix | int | Sequence[float] | None = None,
    level: int = 0,
    time: int | None = None,
) -> VolumeFile:
    """Read the first image series of a TIFF; see `read_volume`.

    Uncompressed series are memory-mapped, others decoded page by page. Where no metadata say
    which axis z is, the pages of a stack are its slices.
    """
    with reading(path, "TIFF"):
        with tifffile.TiffFile(path) as tif:
            if not tif.series:
                raise FileFormatError(f"{path} holds no image.")
            series = tif.series[0]
            if not 0 <= level < len(series.levels):
                raise VolumeError(
                    f"{path.name} has levels 0 to {len(series.levels) - 1}; got level {level}."
                )
            chosen = series.levels[level]
            _check_complete(tif, chosen, path)
            axes, is_contiguous = chosen.axes, chosen.dataoffset is not None
            spacing_zyx, unit = _spacing(tif, chosen.keyframe)
            ratios = _level_ratios(series.shape, chosen.shape, axes)
            grid = _grid(tif, chosen.keyframe)
        data: Any = (
            tifffile.memmap(path, series=0, level=level, mode="r")
            if is_contiguous
            else PagedTiff(path, level)
        )
    fixed, channel_axis, is_plane = _axis_roles(axes, data.shape, time, path)
    volume = Volume(
        SelectedArray(data, fixed) if fixed else data,
        tuple(s * r for s, r in zip(spacing_zyx, ratios, strict=True)),  # type: ignore[arg-type]
        unit,
        channel_axis,
        channel,
    )
    is_full_size = level == 0
    grid = TiffGrid(
        is_plane=is_plane,
        is_ome=grid.is_ome,
        resolution_xy=grid.resolution_xy if is_full_size else None,
        resolution_unit=grid.resolution_unit if is_full_size else 1,
        imagej_origins=grid.imagej_origins if is_full_size else {},
    )
    return VolumeFile(path, "tiff", volume, grid)


def write_tiff(path: Path, labels: NDArray[Any], like: VolumeFile | None) -> None:
    """Write labels (z, y, x) to a new file, with the resolution, spacing and unit of ``like``.

    OME-TIFF where the image is one or the name says so, else an ImageJ hyperstack; that format
    holds ids up to 65,535 and 4 GB, so what is larger becomes OME-TIFF too.
    """
    grid = like.grid if like is not None and isinstance(like.grid, TiffGrid) else TiffGrid()
    spacing_zyx = like.volume.spacing_zyx if like is not None else (1.0, 1.0, 1.0)
    unit = like.volume.unit if like is not None else UNKNOWN_UNIT
    is_plane = like is not None and like.grid.is_plane
    values, axes = (labels[0], "YX") if is_plane else (labels, "ZYX")
    is_large = labels.nbytes > _LARGEST_CLASSIC_TIFF
    resolution = grid.resolution_xy or (1.0 / spacing_zyx[2], 1.0 / spacing_zyx[1])
    options: dict[str, Any] = {
        "photometric": "minisblack",
        "resolution": resolution,
        "resolutionunit": _RESOLUTION_UNITS.get(grid.resolution_unit, "NONE"),
    }
    if grid.is_ome or ".ome." in path.name.lower() or labels.dtype.itemsize > 2 or is_large:
        metadata = {"axes": axes, **_ome_sizes(spacing_zyx, unit)}
        tifffile.imwrite(
            path,
            values,
            ome=True,
            bigtiff=is_large,
            compression="zlib",
            metadata=metadata,
            **options,
        )
        return
    metadata = {"axes": axes, "spacing": spacing_zyx[0], **grid.imagej_origins}
    if unit != UNKNOWN_UNIT:
        metadata["unit"] = unit
    tifffile.imwrite(path, values, imagej=True, metadata=metadata, **options)


def _check_complete(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    """Raise where pages lie beyond the file's end, before a slice is asked for."""
    size = tif.filehandle.size
    ends = [0]
    for page in series.pages:
        if page is not None:
            pairs = zip(page.dataoffsets, page.databytecounts, strict=False)
            ends.extend(offset + count for offset, count in pairs)
    if series.dataoffset is not None:
        ends.append(series.dataoffset + series.nbytes)
    ends.append(_next_page_offset(tif))
    if max(ends) > size:
        raise FileFormatError(
            f"{path} is truncated: its pages end at byte {max(ends)}, the file at {size}. Copy "
            "it again."
        )


def _next_page_offset(tif: tifffile.TiffFile) -> int:
    """Return where the page after the last one found should be: 0, or beyond a cut file's end.

    tifffile ends the chain of pages there and only logs it.
    """
    file, layout = tif.filehandle, tif.tiff
    start = tif.pages[-1].offset
    file.seek(start)
    (n_tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    file.seek(start + layout.tagnosize + n_tags * layout.tagsize)
    (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    return int(offset)


def _axis_roles(
    axes: str, shape: Sequence[int], time: int | None, path: Path
) -> tuple[dict[int, int], int | None, bool]:
    """Return the axes held at one index, the channel axis then, and whether a plane is left."""
    fixed: dict[int, int] = {}
    channels: list[int] = []
    others: list[int] = []
    for i, letter in enumerate(axes):
        if letter == "T":
            fixed[i] = time_index(time, shape[i], path)
        elif letter in "CS":
            channels.append(i)
        elif letter not in "ZYX":
            others.append(i)
    if "T" not in axes:
        time_index(time, 1, path)
    long_channels = [i for i in channels if shape[i] > 1]
    fixed.update({i: 0 for i in channels if shape[i] == 1})
    if len(long_channels) > 1:
        raise VolumeError(
            f"{path.name} has axes {axes} of shape {tuple(shape)}: two of them hold channels. "
            "Save the channels one by one."
        )
    n_spatial = sum(letter in "ZYX" for letter in axes)
    if n_spatial + len(others) > 3:
        raise VolumeError(
            f"{path.name} has axes {axes} of shape {tuple(shape)}; a volume has z, y, x, and "
            "perhaps channels or time. Save one position or one angle alone."
        )
    channel_axis = None
    if long_channels:
        channel_axis = long_channels[0] - sum(i < long_channels[0] for i in fixed)
    return fixed, channel_axis, n_spatial + len(others) == 2


def _level_ratios(full: Sequence[int], level: Sequence[int], axes: str) -> tuple[float, ...]:
    ratios = {letter: f / n for letter, f, n in zip(axes, full, level, strict=True)}
    return tuple(ratios.get(letter, 1.0) for letter in "ZYX")


def _spacing(tif: tifffile.TiffFile, page: Any) -> tuple[tuple[float, float, float], str]:
    """Return spacing (z, y, x) and unit where OME or ImageJ metadata give them."""
    if tif.is_ome and tif.ome_metadata is not None:
        return _ome_spacing(tif.ome_metadata)
    resolution = _resolution_xy(page)
    if tif.is_imagej and resolution is not None:
        metadata = tif.imagej_metadata or {}
        unit = canonical_unit(str(metadata.get("unit", "")))
        depth = float(metadata.get("spacing", 1.0))
        # Without a unit of its own the tags count per inch or cm, mostly a printer's 72 dpi.
        if unit != UNKNOWN_UNIT or _tag(page, "ResolutionUnit") in (None, 1):
            return (abs(depth) or 1.0, 1.0 / resolution[1], 1.0 / resolution[0]), unit
        return (abs(depth) or 1.0, 1.0, 1.0), UNKNOWN_UNIT
    return (1.0, 1.0, 1.0), UNKNOWN_UNIT


def _ome_spacing(xml: str) -> tuple[tuple[float, float, float], str]:
    images = tifffile.xml2dict(xml)["OME"]["Image"]
    pixels = (images[0] if isinstance(images, list) else images)["Pixels"]
    if pixels.get("PhysicalSizeX") is None or pixels.get("PhysicalSizeY") is None:
        return (1.0, 1.0, 1.0), UNKNOWN_UNIT
    unit = canonical_unit(pixels.get("PhysicalSizeXUnit", "um"))
    spacing = []
    for letter in "ZYX":
        # A depth that is not given is taken as the width of a pixel.
        size = float(pixels.get(f"PhysicalSize{letter}", pixels["PhysicalSizeX"]))
        own_unit = canonical_unit(pixels.get(f"PhysicalSize{letter}Unit", "um"))
        if pixels.get(f"PhysicalSize{letter}") is None or own_unit == unit:
            spacing.append(size)
        else:
            spacing.append(size * (conversion(own_unit, unit) or 1.0))
    z, y, x = spacing
    return (z, y, x), unit


def _ome_sizes(spacing_zyx: tuple[float, float, float], unit: str) -> dict[str, Any]:
    name = ome_unit(unit)
    if name is None:
        return {}
    sizes = zip("ZYX", spacing_zyx, strict=True)
    return {
        key: value
        for letter, size in sizes
        for key, value in ((f"PhysicalSize{letter}", size), (f"PhysicalSize{letter}Unit", name))
    }


def _grid(tif: tifffile.TiffFile, page: Any) -> TiffGrid:
    metadata = (tif.imagej_metadata or {}) if tif.is_imagej else {}
    return TiffGrid(
        is_ome=bool(tif.is_ome),
        resolution_xy=_resolution_xy(page),
        resolution_unit=int(_tag(page, "ResolutionUnit") or 1),
        imagej_origins={k: metadata[k] for k in _IMAGEJ_ORIGINS if k in metadata},
    )


def _resolution_xy(page: Any) -> tuple[float, float] | None:
    """Return the tags XResolution and YResolution where both are positive."""
    found = []
    for name in ("XResolution", "YResolution"):
        value = _tag(page, name)
        if not isinstance(value, tuple) or len(value) != 2 or 0 in value:
            return None
        found.append(value[0] / value[1])
    return (found[0], found[1])


def _tag(page: Any, name: str) -> Any:
    tag = page.tags.get(name)
    return None if tag is None else tag.value
