"""Which arrays can be a volume, and how their channels become one value a voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from napari_slidesam.errors import VolumeError

LUMINANCE_WEIGHTS = (0.2126, 0.7152, 0.0722)
"""Red, green and blue in luminance (ITU-R BT.709)."""


class ArrayLike(Protocol):
    """What a volume needs of an array: numpy, memory-mapped, dask, zarr, HDF5 have it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> Any:
        """Type of the stored values."""

    def __getitem__(self, index: Any, /) -> Any:
        """Return the part at this index."""


@dataclass(frozen=True, slots=True)
class ChannelMix:
    """How the channels of a volume become one value a voxel.

    Parameters
    ----------
    index : int, optional
        The one channel to take.
    weights : tuple of float, optional
        One factor a channel; the value is their weighted sum. Exactly one of the two is given.

    Raises
    ------
    VolumeError
        Both or none is given, or a weight is not finite, or all weights are zero.
    """

    index: int | None = None
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (self.index is None) == (self.weights is None):
            raise VolumeError("A channel mix needs either one channel or a weight per channel.")
        if self.weights is not None:
            weights = tuple(float(w) for w in self.weights)
            if not all(math.isfinite(w) for w in weights) or not any(weights):
                raise VolumeError(
                    f"Channel weights are finite and not all zero; got {self.weights}."
                )
            object.__setattr__(self, "weights", weights)

    @classmethod
    def of(cls, channels: ChannelMix | int | Sequence[float]) -> ChannelMix:
        """Return a mix from a channel's number or from weights."""
        if isinstance(channels, ChannelMix):
            return channels
        if isinstance(channels, int | np.integer):
            return cls(index=int(channels))
        return cls(weights=tuple(channels))

    @classmethod
    def default(cls, n_channels: int, dtype: np.dtype[Any], is_last_axis: bool) -> ChannelMix:
        """Return luminance for colour pictures, the mean of the channels for all else."""
        if dtype == np.uint8 and is_last_axis and n_channels in (3, 4):
            return cls(weights=LUMINANCE_WEIGHTS + (0.0,) * (n_channels - 3))
        return cls(weights=(1.0 / n_channels,) * n_channels)

    def checked(self, n_channels: int) -> ChannelMix:
        """Return this mix with a non-negative index, or raise where it does not fit."""
        if self.weights is not None:
            if len(self.weights) != n_channels:
                raise VolumeError(
                    f"The volume has {n_channels} channels, but {len(self.weights)} weights "
                    "were given. Give one weight per channel."
                )
            return self
        index = cast("int", self.index)
        if not -n_channels <= index < n_channels:
            raise VolumeError(
                f"Channel {index} does not exist: the volume has channels 0 to {n_channels - 1}."
            )
        return ChannelMix(index=index % n_channels)


def checked_dtype(data: Any) -> np.dtype[Any]:
    """Return the numpy type of an array of numbers, or raise `VolumeError`."""
    if isinstance(data, Sequence):
        raise VolumeError(
            f"Expected one array; got a sequence ({type(data).__name__}). For a multiscale image "
            "use Volume.from_multiscale(levels, level), for lists of numbers numpy.asarray."
        )
    missing = [n for n in ("shape", "dtype", "__getitem__") if not hasattr(data, n)]
    if missing:
        raise VolumeError(
            f"Expected an array (numpy, dask, zarr, ...); {type(data).__name__} has no "
            f"{', '.join(missing)}. Convert it with numpy.asarray."
        )
    try:
        dtype: np.dtype[Any] = np.dtype(data.dtype)
    except TypeError as error:
        raise VolumeError(
            f"Expected an array with a numpy type; got {data.dtype!r}. Convert it to numpy."
        ) from error
    if dtype.kind not in "biuf":
        advice = {
            "c": "Take its magnitude or its real part.",
            "O": "Convert it to one number a voxel, all slices of one shape.",
            "V": "Make its fields a channel axis.",
        }.get(dtype.kind, "Convert it to numbers.")
        raise VolumeError(f"A volume holds integer, floating or bool values; got {dtype}. {advice}")
    return dtype


def checked_shape(data: ArrayLike) -> tuple[int, ...]:
    """Return the shape of an array whose lengths are known, or raise `VolumeError`."""
    try:
        return tuple(int(n) for n in data.shape)
    except (TypeError, ValueError) as error:  # dask gives nan where a length is not known
        raise VolumeError(
            f"A volume needs known lengths of its axes; got shape {data.shape}. For dask call "
            "compute_chunk_sizes() first."
        ) from error


def checked_channel_axis(channel_axis: int | None, shape: tuple[int, ...]) -> int | None:
    """Return the channel axis counted from the front, or raise `VolumeError`."""
    if channel_axis is None:
        return None
    if not -len(shape) <= channel_axis < len(shape):
        raise VolumeError(
            f"channel_axis {channel_axis} does not exist in an array of shape {shape}."
        )
    return channel_axis % len(shape)


def check_axes(shape: tuple[int, ...], channel_axis: int | None) -> None:
    """Raise `VolumeError` unless 2 or 3 axes beside the channels hold a voxel."""
    n_spatial = len(shape) - (channel_axis is not None)
    if n_spatial < 2:
        raise VolumeError(
            f"A volume needs 2 or 3 axes{' beside its channels' * (channel_axis is not None)}; "
            f"got shape {shape}."
        )
    if n_spatial > 3:
        raise VolumeError(
            f"A volume needs 2 or 3 axes; got {n_spatial} in shape {shape}. Choose one time "
            "point (data[t]), and say which axis holds channels with channel_axis."
        )
    if 0 in shape:
        raise VolumeError(f"A volume needs at least one voxel; got the empty shape {shape}.")
