"""Where napari layers become core types, and where layers are made on the grid of an image.

::

    axes of an image layer     leading axes (t, ...)  |  z  y  x   [ | r g b ]
    axes of a volume                                     z  y  x

Leading axes are sliders that a volume has no part of: the volume is the one at their current
position. A 2D image is a volume of one slice. The image layer is never changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from napari.layers import Image, Labels, Points, Shapes

from napari_slidesam.errors import SlideSamError
from napari_slidesam.gui.state import ImageChoice
from napari_slidesam.io.files import read_volume
from napari_slidesam.io.units import canonical_unit
from napari_slidesam.io.volume_file import Grid, VolumeFile
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_slidesam.volume import ArrayLike

N_SPATIAL = 3

LABELS_DTYPE = np.dtype(np.uint16)
"""65,535 objects; napari draws it without a lookup table."""

LARGEST_NUMPY_LABELS = 2**31
"""Bytes above which labels are kept compressed, in chunks of one slice."""

RGB_CHANNELS = ("red", "green", "blue", "alpha")


@dataclass(frozen=True, slots=True)
class Plane:
    """A slice of a volume, and where the leading axes stand.

    Parameters
    ----------
    axis : int
        The volume axis (0, 1, 2) that ``slice_index`` counts along.
    slice_index : int
    leading : tuple of int
        Positions along the axes before z; empty for most images.
    """

    axis: int
    slice_index: int
    leading: tuple[int, ...] = ()


class At:
    """An array with its first axes fixed, and z put before a 2D array; nothing is read."""

    def __init__(self, data: Any, leading: tuple[int, ...] = (), *, is_plane: bool = False) -> None:
        self._data, self._leading, self._is_plane = data, leading, is_plane

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes that are left."""
        rest = tuple(int(n) for n in self._data.shape[len(self._leading) :])
        return (1, *rest) if self._is_plane else rest

    @property
    def dtype(self) -> Any:
        """Type of the stored values."""
        return self._data.dtype

    @property
    def chunks(self) -> tuple[Any, ...] | None:
        """Chunks of the axes that are left, where the array has some."""
        chunks = getattr(self._data, "chunks", None)
        if not isinstance(chunks, tuple) or self._is_plane:
            return None
        return chunks[len(self._leading) :]

    def _index(self, index: Any) -> tuple[Any, ...]:
        parts = index if isinstance(index, tuple) else (index,)
        if self._is_plane:
            parts = parts[1:]
        return (*self._leading, *parts)

    def __getitem__(self, index: Any, /) -> Any:
        values = self._data[self._index(index)]
        if self._is_plane:
            first = index[0] if isinstance(index, tuple) else index
            if isinstance(first, slice):
                return np.asarray(values)[np.newaxis]
        return values

    def __setitem__(self, index: Any, values: Any) -> None:
        if self._is_plane:
            first = index[0] if isinstance(index, tuple) else index
            if isinstance(first, slice):
                values = np.asarray(values)[0]
        self._data[self._index(index)] = values


def image_choices(layers: Iterable[Layer]) -> tuple[ImageChoice, ...]:
    """Return the image layers that can be segmented."""
    return tuple(
        ImageChoice(layer.name, _channel_names(layer))
        for layer in layers
        if isinstance(layer, Image) and layer.ndim >= 2
    )


def _channel_names(layer: Image) -> tuple[str, ...]:
    if not layer.rgb:
        return ()
    return RGB_CHANNELS[: int(_full_data(layer).shape[-1])]


def _full_data(layer: Image) -> Any:
    """Return the array of an image, the largest level of a multiscale one."""
    return layer.data[0] if layer.multiscale else layer.data


def n_leading(layer: Layer) -> int:
    """Return the number of axes before z."""
    return max(0, int(layer.ndim) - N_SPATIAL)


def spatial_shape(layer: Image) -> tuple[int, int, int]:
    """Return the shape (z, y, x) of the volumes of an image."""
    shape = [int(n) for n in _full_data(layer).shape]
    spatial = (shape[:-1] if layer.rgb else shape)[n_leading(layer) :]
    z, y, x = [1] * (N_SPATIAL - len(spatial)) + spatial
    return (z, y, x)


def full_shape(layer: Image) -> tuple[int, ...]:
    """Return the shape of labels on an image: all its axes but the colours'."""
    shape = tuple(int(n) for n in _full_data(layer).shape)
    return shape[:-1] if layer.rgb else shape


def volume_of(layer: Image, channel: int | None = None, leading: tuple[int, ...] = ()) -> Volume:
    """Return an image as a volume; nothing is read or copied.

    Parameters
    ----------
    layer : napari.layers.Image
        2D or more, RGB or not, multiscale (its largest level), of any array type.
    channel : int, optional
        The colour of an RGB image to take; luminance without it.
    leading : tuple of int
        Position along each axis before z.

    Raises
    ------
    VolumeError
        The array cannot be a volume.
    """
    data: ArrayLike = _full_data(layer)
    if leading:
        data = data[leading] if isinstance(data, np.ndarray) else At(data, leading)
    return Volume(
        data,
        spacing_zyx(layer),
        unit_of(layer),
        channel_axis=-1 if layer.rgb else None,
        channels=channel if layer.rgb else None,
    )


def spacing_zyx(layer: Layer) -> tuple[float, float, float]:
    """Return the distance between voxels in world units, whatever the layer's transform."""
    matrix = linear_matrix(layer)
    lengths = [float(n) for n in np.linalg.norm(matrix, axis=0)[n_leading(layer) :]]
    z, y, x = [1.0] * (N_SPATIAL - len(lengths)) + [
        n if math.isfinite(n) and n > 0 else 1.0 for n in lengths
    ]
    return (z, y, x)


def linear_matrix(layer: Layer) -> NDArray[np.float64]:
    """Return the matrix of a layer's whole transform, data to world, without translation."""
    origin = np.asarray(layer.data_to_world((0.0,) * layer.ndim), dtype=float)
    columns = [np.asarray(layer.data_to_world(tuple(e)), dtype=float) for e in np.eye(layer.ndim)]
    return np.stack([column - origin for column in columns], axis=1)


def unit_of(layer: Layer) -> str:
    """Return the unit of a layer's spatial axes; ``px`` where they differ or are not known."""
    units = {canonical_unit(str(u)) for u in tuple(layer.units)[n_leading(layer) :]}
    return units.pop() if len(units) == 1 else "px"


def grid_of(layer: Layer) -> dict[str, Any]:
    """Return the arguments that put another layer on the grid of this one."""
    return {
        "scale": np.array(layer.scale),
        "translate": np.array(layer.translate),
        "rotate": np.array(layer.rotate),
        "shear": np.array(layer.shear),
        "affine": np.array(layer.affine.affine_matrix),
        "units": tuple(layer.units),
        "axis_labels": tuple(layer.axis_labels),
    }


def new_labels_layer(image: Image, name: str) -> Labels:
    """Return empty labels on an image's grid, in memory or compressed where they are large."""
    shape = full_shape(image)
    if math.prod(shape) * LABELS_DTYPE.itemsize <= LARGEST_NUMPY_LABELS:
        data: Any = np.zeros(shape, dtype=LABELS_DTYPE)
    else:
        data = zarr.create_array(
            store=zarr.storage.MemoryStore(),
            shape=shape,
            chunks=(1,) * (len(shape) - 2) + shape[-2:],
            dtype=LABELS_DTYPE,
        )
    return Labels(data, name=name, multiscale=False, **grid_of(image))


def new_boxes_layer(image: Image, name: str) -> Shapes:
    """Return an empty layer for boxes on an image's grid; lines are 2 screen pixels wide."""
    return Shapes(
        ndim=image.ndim,
        name=name,
        edge_color="yellow",
        face_color="transparent",
        edge_width=line_width(image),
        features={"object": np.zeros(0, dtype=int)},
        feature_defaults={"object": 0},
        **grid_of(image),
    )


def new_points_layer(image: Image, name: str) -> Points:
    """Return an empty layer for points on an image's grid."""
    longest = max(full_shape(image)[-2:])
    return Points(
        ndim=image.ndim,
        name=name,
        face_color="limegreen",
        border_color="white",
        size=max(1.0, longest / 50),
        features={"object": np.zeros(0, dtype=int), "sign": np.zeros(0, dtype=object)},
        feature_defaults={"object": 0, "sign": "+"},
        **grid_of(image),
    )


def line_width(image: Image) -> float:
    """Return a width of lines, in pixels of the image, that is seen at its whole extent."""
    return max(0.2, max(full_shape(image)[-2:]) / 300)


def spatial_view(labels: Labels, leading: tuple[int, ...]) -> Any:
    """Return a labels layer's array at a leading position, as (z, y, x), to write into."""
    data = labels.data
    is_plane = labels.ndim < N_SPATIAL
    if isinstance(data, np.ndarray):
        return data[np.newaxis] if is_plane else data[leading]
    return At(data, leading, is_plane=is_plane) if leading or is_plane else data


def file_of(layer: Image, volume: Volume) -> VolumeFile:
    """Return an image as a file that labels are written like.

    The file that the layer was opened from keeps its header; without one the layer's own
    transform becomes the affine.
    """
    source = layer.source.path
    if source is not None and Path(source).name.lower().endswith((".nii", ".nii.gz")):
        try:
            opened = read_volume(source)
        except SlideSamError:  # 4D, moved, changed: the layer's transform says the same
            pass
        else:
            if opened.volume.shape_zyx == volume.shape_zyx:
                return opened
    grid = Grid(affine_ras=affine_xyz(layer), is_plane=layer.ndim < N_SPATIAL)
    return VolumeFile(Path(layer.name), "npy", volume, grid)


def affine_xyz(layer: Layer) -> NDArray[np.float64]:
    """Return a layer's transform from indices x, y, z to world x, y, z; shape (4, 4)."""
    matrix = np.eye(N_SPATIAL + 1)
    linear = linear_matrix(layer)[n_leading(layer) :, n_leading(layer) :]
    origin = np.asarray(layer.data_to_world((0.0,) * layer.ndim))[n_leading(layer) :]
    n = len(origin)
    matrix[:n, :n] = linear[::-1, ::-1]
    matrix[:n, N_SPATIAL] = origin[::-1]
    return matrix
