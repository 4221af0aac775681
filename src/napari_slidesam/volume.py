"""Any array as slices along any axis.

An array is never copied or computed as a whole: a slice is read when it is asked for, so memory
is bounded by the cache, whatever the volume's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_slidesam.arrays import (
    ArrayLike,
    ChannelMix,
    check_axes,
    checked_channel_axis,
    checked_dtype,
    checked_shape,
)
from napari_slidesam.errors import VolumeError
from napari_slidesam.geometry import Region
from napari_slidesam.intensity import Intensity, normalise
from napari_slidesam.slice_cache import SliceCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "ArrayLike",
    "ChannelMix",
    "Intensity",
    "SliceCache",
    "SliceStack",
    "Volume",
    "axis_from_name",
    "normalise",
]

AXIS_NAMES = "zyx"
"""The letters of a volume's axes 0, 1 and 2."""


def axis_from_name(axis: str | int) -> int:
    """Return 0, 1 or 2 for the axis named ``"z"``, ``"y"``, ``"x"``, 0, 1 or 2.

    Raises
    ------
    VolumeError
        There is no such axis.
    """
    if isinstance(axis, str):
        name = axis.strip().lower()
        if len(name) == 1 and name in AXIS_NAMES:
            return AXIS_NAMES.index(name)
        if name in ("0", "1", "2"):
            return int(name)
    elif not isinstance(axis, bool) and axis in (0, 1, 2):
        return int(axis)
    raise VolumeError(f"An axis is 'z', 'y' or 'x', or 0, 1 or 2; got {axis!r}.")


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An array with its spacing, seen as (z, y, x), whatever it is stored as.

    Parameters
    ----------
    data : array-like, 2 or 3 axes, and one more with ``channel_axis``
        Integer, floating or bool values of any byte order. Two axes are a single slice.
    spacing_zyx : tuple of 3 floats
        Distance between voxels, in ``unit``.
    unit : str
        Unit of the spacing, such as ``"mm"``; ``"px"`` where it is not known.
    channel_axis : int, optional
        Which axis of ``data`` holds channels (-1 for RGB and RGBA pictures).
    channels : ChannelMix, int or sequence of float, optional
        The channel to take or a weight per channel. Without it: luminance for 8-bit colour,
        else the mean of the channels.

    Raises
    ------
    VolumeError
        The array has another number of axes, an empty axis or a type that is not a number, or
        spacing, channel axis or channels do not fit.
    """

    data: ArrayLike
    spacing_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0)
    unit: str = "px"
    channel_axis: int | None = None
    channels: ChannelMix | int | Sequence[float] | None = None

    def __post_init__(self) -> None:
        dtype = checked_dtype(self.data)
        shape = checked_shape(self.data)
        channel_axis = checked_channel_axis(self.channel_axis, shape)
        check_axes(shape, channel_axis)
        object.__setattr__(self, "channel_axis", channel_axis)
        object.__setattr__(self, "spacing_zyx", _checked_spacing(self.spacing_zyx))
        if channel_axis is None:
            if self.channels is not None:
                raise VolumeError(
                    f"channels={self.channels!r} needs channel_axis: say which axis of shape "
                    f"{shape} holds the channels."
                )
            return
        n_channels = shape[channel_axis]
        if self.channels is None:
            is_last = channel_axis == len(shape) - 1
            mix = ChannelMix.default(n_channels, dtype, is_last)
        else:
            mix = ChannelMix.of(self.channels).checked(n_channels)
        object.__setattr__(self, "channels", mix)

    @classmethod
    def from_multiscale(
        cls,
        levels: Sequence[Any],
        level: int = 0,
        *,
        spacing_zyx: Sequence[float] = (1.0, 1.0, 1.0),
        unit: str = "px",
        channel_axis: int | None = None,
        channels: ChannelMix | int | Sequence[float] | None = None,
    ) -> Volume:
        """Return one level of a multiscale image, such as napari's or an OME-Zarr's.

        Parameters
        ----------
        levels : sequence of array-like
            Arrays of decreasing size.
        level : int
            Which of them; 0 is the largest.
        spacing_zyx : sequence of 3 floats
            Spacing of level 0; that of a smaller level follows from the ratio of shapes.
        unit, channel_axis, channels
            As for `Volume`.
        """
        if not 0 <= level < len(levels):
            raise VolumeError(
                f"The image has levels 0 to {len(levels) - 1}; got level {level}."
                if len(levels)
                else "A multiscale image needs at least one level; got none."
            )
        spacing = _checked_spacing(spacing_zyx)
        full = cls(levels[0], spacing, unit, channel_axis, channels)
        chosen = cls(levels[level], spacing, unit, channel_axis, channels)
        ratios = (n0 / n for n0, n in zip(full.shape_zyx, chosen.shape_zyx, strict=True))
        scaled = tuple(s * ratio for s, ratio in zip(spacing, ratios, strict=True))
        return cls(levels[level], _checked_spacing(scaled), unit, channel_axis, channels)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Lengths of the three axes; a 2D image has one slice."""
        spatial = [int(n) for i, n in enumerate(self.data.shape) if i != self.channel_axis]
        z, y, x = [1] * (3 - len(spatial)) + spatial
        return (z, y, x)

    def along(self, axis: str | int) -> SliceStack:
        """Return the volume as slices along an axis (0, 1, 2 or z, y, x).

        Raises
        ------
        VolumeError
            There is no such axis.
        """
        return SliceStack(self, axis_from_name(axis))


@dataclass(frozen=True, slots=True, eq=False)
class SliceStack:
    """The slices of a volume along one axis; made by `Volume.along`.

    The plane's own axes are called y and x, whatever axis the slices are along.
    """

    volume: Volume
    axis: int

    @property
    def n_slices(self) -> int:
        """Number of slices."""
        return self.volume.shape_zyx[self.axis]

    @property
    def plane_shape_yx(self) -> tuple[int, int]:
        """Lengths of a slice's two axes."""
        y, x = (n for i, n in enumerate(self.volume.shape_zyx) if i != self.axis)
        return (y, x)

    @property
    def step(self) -> float:
        """Distance between slices, in the volume's unit."""
        return self.volume.spacing_zyx[self.axis]

    @property
    def spacing_yx(self) -> tuple[float, float]:
        """Distance between the pixels of a slice, in the volume's unit."""
        y, x = (s for i, s in enumerate(self.volume.spacing_zyx) if i != self.axis)
        return (y, x)

    @property
    def step_ratio(self) -> float:
        """Distance between slices in pixels of the plane."""
        return self.step / (sum(self.spacing_yx) / 2)

    @property
    def chunk_shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns that storage holds together; (1, 1, 1) without chunks."""
        depth, height, width = (self.n_slices, *self.plane_shape_yx)
        chunks = getattr(self.volume.data, "chunks", None)
        if not isinstance(chunks, tuple) or len(chunks) != len(self.volume.data.shape):
            return (1, 1, 1)
        lengths = []
        for axis, whole in zip(self._order, (depth, height, width), strict=True):
            length = whole if axis is None else chunks[axis]
            # dask lists the length of every chunk
            length = max(length) if isinstance(length, tuple) else length
            lengths.append(max(1, min(int(length), whole)))
        n, y, x = lengths
        return (n, y, x)

    def read(self, index: int) -> NDArray[np.float32]:
        """Read exactly one slice.

        Returns
        -------
        ndarray of float32, shape (Y, X)
            Stored values, channels mixed; native byte order, C-contiguous.

        Raises
        ------
        VolumeError
            There is no such slice, or it cannot be read.
        """
        self.check_index(index)
        block: NDArray[np.float32] = self.read_block(index, index + 1)[0]
        return block

    def read_block(
        self, start: int, stop: int, region: Region | None = None
    ) -> NDArray[np.float32]:
        """Read the slices ``[start, stop)``, or a region of them; float32, shape (n, Y, X)."""
        self.check_index(start)
        self.check_index(stop - 1)
        where = self.plane_region if region is None else region
        try:
            values = np.asarray(self.volume.data[self._array_index(start, stop, where)])
        except Exception as error:
            raise VolumeError(
                f"Slice {start} along {AXIS_NAMES[self.axis]} cannot be read: "
                f"{type(error).__name__}: {error}. Check the file or the connection it is on."
            ) from error
        return self._as_block(values, (stop - start, *where.shape_yx))

    @property
    def plane_region(self) -> Region:
        """The whole plane."""
        return Region(0, 0, *self.plane_shape_yx)

    def check_index(self, index: int) -> None:
        """Raise `VolumeError` where there is no such slice."""
        if not 0 <= index < self.n_slices:
            raise VolumeError(
                f"Slice {index} does not exist: along {AXIS_NAMES[self.axis]} the volume has "
                f"slices 0 to {self.n_slices - 1}."
            )

    @property
    def _order(self) -> tuple[int | None, int | None, int | None]:
        """Positions in the array of slice axis, y and x; None for the one slice of a 2D image."""
        volume = self.volume
        spatial: list[int | None] = [
            i for i in range(len(volume.data.shape)) if i != volume.channel_axis
        ]
        z, y, x = [None] * (3 - len(spatial)) + spatial
        return ((z, y, x), (y, z, x), (x, z, y))[self.axis]

    def _array_index(self, start: int, stop: int, region: Region) -> tuple[int | slice, ...]:
        index: list[int | slice] = [slice(None)] * len(self.volume.data.shape)
        for axis, part in zip(self._order, (slice(start, stop), *region.slices), strict=True):
            if axis is not None:
                index[axis] = part
        mix = self.volume.channels
        if isinstance(mix, ChannelMix) and self.volume.channel_axis is not None:
            index[self.volume.channel_axis] = slice(None) if mix.index is None else mix.index
        return tuple(index)

    def _as_block(self, values: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[np.float32]:
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(np.float32)  # a copy: never a view of the volume itself
        mix = self.volume.channels
        if isinstance(mix, ChannelMix) and mix.weights is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                weights = np.asarray(mix.weights, dtype=np.float32)
                used = np.flatnonzero(weights)
                values = np.moveaxis(values, cast("int", self.volume.channel_axis), -1)
                values = values[..., used] @ weights[used]
        if values.ndim == 2:
            values = values[np.newaxis]
        block = np.ascontiguousarray(np.moveaxis(values, self.axis, 0), dtype=np.float32)
        if block.shape != shape:
            raise VolumeError(
                f"Expected {shape[0]} slices of shape {shape[1:]} along {AXIS_NAMES[self.axis]}; "
                f"the array gave shape {block.shape}."
            )
        return block


def _checked_spacing(spacing: Sequence[float]) -> tuple[float, float, float]:
    try:
        z, y, x = (float(s) for s in spacing)
    except (TypeError, ValueError) as error:
        raise VolumeError(f"spacing_zyx is three numbers; got {spacing!r}.") from error
    if not all(math.isfinite(s) and s > 0 for s in (z, y, x)):
        raise VolumeError(f"spacing_zyx is positive and finite; got {(z, y, x)}.")
    return (z, y, x)
