"""Objects' masks as OME-Zarr: one label image an object, so that overlaps are kept.

``masks.ome.zarr`` is a group that lists label images (OME-Zarr 0.5); each has the volume's
shape and scale, holds the object's id where the object is, and stores only the chunks that the
object touches.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from napari_slidesam.engine.objects import SlicePatch
from napari_slidesam.engine.planes import (
    bounding_box,
    filled_slices,
    object_planes,
    plane_axes,
)
from napari_slidesam.errors import SessionError
from napari_slidesam.geometry import Region
from napari_slidesam.io.units import ngff_unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.engine.objects import ObjectState
    from napari_slidesam.engine.session_state import SessionInfo

OME_ZARR_VERSION = "0.5"

CHUNK_SLICES = 16
"""Chunk length along the object's own axis."""

CHUNK_SIDE_PX = 256
"""Chunk length along the two axes of its planes; 1 MiB a chunk before compression."""

_ARRAY = "0"


def object_path(object_id: int) -> str:
    """Return the name of an object's label image in the group."""
    return f"object-{object_id:06d}"


def holds_mask(folder: Path, object_id: int) -> bool:
    """Whether a group holds an object's mask."""
    return (folder / object_path(object_id) / _ARRAY / "zarr.json").is_file()


def write_masks(
    folder: Path,
    info: SessionInfo,
    objects: Mapping[int, ObjectState],
    unchanged: Mapping[int, Path],
) -> None:
    """Write the masks of objects to a new group.

    Parameters
    ----------
    folder : path
        Does not exist yet.
    info : SessionInfo
    objects : mapping of int to ObjectState
    unchanged : mapping of int to path
        Objects that another such group holds as they are: their files are linked.
    """
    # Each node is made as a store of its own: a node below another's root would have zarr make
    # hard links, which some file systems lack.
    paths = [object_path(object_id) for object_id in objects]
    _make_group(folder, {"version": OME_ZARR_VERSION, "labels": paths})
    for object_id, state in objects.items():
        image = folder / object_path(object_id)
        _make_group(image, _label_metadata(state, info))
        if object_id in unchanged:
            _link_tree(unchanged[object_id] / object_path(object_id) / _ARRAY, image / _ARRAY)
        else:
            _write_mask(image / _ARRAY, state, info.shape_zyx)


def _make_group(folder: Path, metadata: dict[str, Any]) -> None:
    zarr.create_group(store=folder, zarr_format=3, attributes={"ome": metadata})


def _label_metadata(state: ObjectState, info: SessionInfo) -> dict[str, Any]:
    unit = ngff_unit(info.unit)
    axes = [{"name": name, "type": "space"} | ({"unit": unit} if unit else {}) for name in "zyx"]
    scale = {"type": "scale", "scale": list(info.spacing_zyx)}
    return {
        "version": OME_ZARR_VERSION,
        "multiscales": [
            {
                "name": state.name,
                "axes": axes,
                "datasets": [{"path": _ARRAY, "coordinateTransformations": [scale]}],
            }
        ],
        "image-label": {
            "version": OME_ZARR_VERSION,
            "properties": [{"label-value": state.object_id, "name": state.name}],
        },
    }


def _chunks(axis: int, shape_zyx: tuple[int, int, int]) -> tuple[int, int, int]:
    lengths = [CHUNK_SLICES if a == axis else CHUNK_SIDE_PX for a in range(3)]
    z, y, x = (min(length, n) for length, n in zip(lengths, shape_zyx, strict=True))
    return z, y, x


def _write_mask(path: Path, state: ObjectState, shape_zyx: tuple[int, int, int]) -> None:
    dtype = np.min_scalar_type(state.object_id)
    chunks = _chunks(state.axis, shape_zyx)
    array = zarr.create_array(
        store=path,
        shape=shape_zyx,
        chunks=chunks,
        dtype=dtype,
        fill_value=0,
        dimension_names=tuple("zyx"),
        config={"write_empty_chunks": False},
    )
    box = bounding_box(state.axis, filled_slices(state))
    if box is None:
        return
    # Whole chunks at a time: a chunk written in parts would be read again for each.
    where = [
        slice(start - start % n, min(-(-end // n) * n, length))
        for start, end, n, length in zip(*box, chunks, shape_zyx, strict=True)
    ]
    y_axis, x_axis = plane_axes(state.axis)
    frame = Region(where[y_axis].start, where[x_axis].start, where[y_axis].stop, where[x_axis].stop)
    depth = chunks[state.axis]
    for slab, planes in groupby(object_planes(state), key=lambda item: item[0] // depth):
        start = slab * depth
        where[state.axis] = slice(start, min(start + depth, shape_zyx[state.axis]))
        block = np.zeros([s.stop - s.start for s in where], dtype=dtype)
        stack = np.moveaxis(block, state.axis, 0)
        for index, plane in planes:
            target = stack[index - start][plane.region.within(frame)]
            target[plane.mask] = state.object_id
        array[tuple(where)] = block


def read_patches(folder: Path, state: ObjectState) -> ObjectState:
    """Return an object with the pixels of its patches read from a group.

    The group holds what slices and edits make together; each patch gets its part of that, which
    makes the same object again.

    Parameters
    ----------
    folder : path
    state : ObjectState
        Its patches have their regions, but no pixels yet.

    Raises
    ------
    SessionError
        The group does not hold this object.
    """
    try:
        array = zarr.open_array(store=folder / object_path(state.object_id) / _ARRAY, mode="r")
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise SessionError(
            f"The masks of object {state.object_id} are missing from {folder}: the folder was "
            "copied in part. Copy it again as a whole."
        ) from error
    regions = {index: patch.region for index, patch in state.slices.items()}
    slices = {
        index: _with_pixels(state.slices[index], pixels)
        for index, pixels in _read_planes(array, state.axis, regions)
    }
    edits = {}
    for (axis, index), patch in state.edits.items():
        for _, pixels in _read_planes(array, axis, {index: patch.region}):
            edits[axis, index] = _with_pixels(patch, pixels)
    return replace(state, slices=MappingProxyType(slices), edits=MappingProxyType(edits))


def _with_pixels(patch: SlicePatch, pixels: NDArray[np.bool_]) -> SlicePatch:
    return SlicePatch.from_mask(
        pixels,
        patch.region,
        patch.quality,
        is_prompted=patch.is_prompted,
        is_final=patch.is_final,
        is_edited=patch.is_edited,
    )


def _read_planes(
    array: zarr.Array[Any], axis: int, regions: Mapping[int, Region]
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield regions of planes in order; planes of the same chunks are read together."""
    depth = array.chunks[axis]
    for _, group in groupby(sorted(regions), key=lambda index: index // depth):
        indices = list(group)
        frame = regions[indices[0]]
        for index in indices[1:]:
            frame = frame.union(regions[index])
        where: list[slice] = list(frame.slices)
        where.insert(axis, slice(indices[0], indices[-1] + 1))
        block = np.moveaxis(np.asarray(array[tuple(where)]), axis, 0) != 0
        for index in indices:
            yield index, block[index - indices[0]][regions[index].within(frame)]


def _link_tree(source: Path, target: Path) -> None:
    """Make a folder whose files are those of another; copied where links are not possible."""
    for folder, _, names in os.walk(source):
        into = target / os.path.relpath(folder, source)
        into.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                os.link(os.path.join(folder, name), into / name)
            except OSError:
                shutil.copy2(os.path.join(folder, name), into / name)
