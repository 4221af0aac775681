"""Stored values of a volume as the range [0, 1] that networks see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from napari_slidesam.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_slidesam.volume import SliceStack

_SAMPLE_SLICES = 5
"""Slices read at most to find an intensity range."""

_SAMPLE_VALUES = 2**14
"""Values a percentile is taken of at most; 16,384 put the 99th within 0.1 points."""

WINDOW_PERCENTILES = (1.0, 99.0)
"""Percentiles of a window that become 0 and 1."""

IntensityKind = Literal["window", "ct", "mr", "percentiles", "limits"]

_PRESETS: dict[str, tuple[float, float]] = {"ct": (-200.0, 400.0), "mr": (0.0, 600.0)}
_DEFAULT_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class Intensity:
    """How stored values become the range [0, 1] that networks see.

    Parameters
    ----------
    kind : str
        ``"window"``: each window by its own percentiles 1 and 99. ``"ct"``: -200 to 400 and
        ``"mr"``: 0 to 600 (Slide-SAM, 3.1). ``"percentiles"``: percentiles ``lower`` and
        ``upper`` (0.5 and 99.5) of a few slices around the prompt. ``"limits"``: the stored
        values ``lower`` and ``upper``.
    lower, upper : float, optional
        Only for ``"percentiles"`` and ``"limits"``.

    Raises
    ------
    ConfigError
        The kind is unknown, or the limits are missing, superfluous or not in order.
    """

    kind: IntensityKind = "window"
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        kinds = get_args(IntensityKind)
        if self.kind not in kinds:
            raise ConfigError(f"intensity is one of {', '.join(kinds)}; got {self.kind!r}.")
        given = (self.lower, self.upper)
        if self.kind in ("window", *_PRESETS):
            if given != (None, None):
                raise ConfigError(
                    f"intensity {self.kind!r} has no lower and upper; got {given}. Use 'limits' "
                    "for a range of your own."
                )
            return
        if self.kind == "percentiles" and given == (None, None):
            given = _DEFAULT_PERCENTILES
        lower, upper = given
        if lower is None or upper is None:
            raise ConfigError(f"intensity {self.kind!r} needs lower and upper; got {given}.")
        if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
            raise ConfigError(f"intensity needs finite lower < upper; got {lower}, {upper}.")
        if self.kind == "percentiles" and not (lower >= 0 and upper <= 100):
            raise ConfigError(f"Percentiles lie between 0 and 100; got {lower}, {upper}.")
        object.__setattr__(self, "lower", float(lower))
        object.__setattr__(self, "upper", float(upper))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {"kind": self.kind, "lower": self.lower, "upper": self.upper}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Intensity:
        """Return the intensity that `to_dict` wrote; unknown names raise `ConfigError`."""
        unknown = sorted(set(values) - {"kind", "lower", "upper"})
        if unknown:
            raise ConfigError(f"intensity has kind, lower and upper; got also {unknown}.")
        try:
            return cls(**values)
        except TypeError as error:  # limits that are not numbers
            raise ConfigError(f"intensity cannot be made of {dict(values)}: {error}.") from error

    def fixed_range(self, stack: SliceStack, near_index: int) -> tuple[float, float] | None:
        """Return the stored values that become 0 and 1, or None where each window has its own.

        Parameters
        ----------
        stack : SliceStack
        near_index : int
            For percentiles: the slice around which at most five are read.

        Raises
        ------
        VolumeError
            A slice cannot be read.
        """
        if self.kind == "window":
            return None
        if self.kind in _PRESETS:
            return _PRESETS[self.kind]
        limits = (cast("float", self.lower), cast("float", self.upper))
        if self.kind == "limits":
            return limits
        last, half = stack.n_slices - 1, _SAMPLE_SLICES // 2
        step = max(1, stack.n_slices // (2 * _SAMPLE_SLICES))
        near = (near_index + k * step for k in range(-half, half + 1))
        indices = sorted({min(max(i, 0), last) for i in near})
        values = np.concatenate([_subsampled(stack.read(i)).ravel() for i in indices])
        values = values[np.isfinite(values)]
        if values.size == 0:
            return (0.0, 1.0)
        low, high = (float(v) for v in np.percentile(values, limits))
        return (low, high) if high > low else (low, low + 1.0)


def normalise(
    values: NDArray[np.float32], low_high: tuple[float, float] | None
) -> NDArray[np.float32]:
    """Map stored values to [0, 1].

    Parameters
    ----------
    values : ndarray of float32, any shape
        A window or a slice. Values that are not finite become 0.
    low_high : tuple of 2 floats, optional
        What becomes 0 and 1; values beyond are clipped. None: percentiles 1 and 99 of the
        values, or their extremes where these percentiles are equal.

    Returns
    -------
    ndarray of float32, range [0, 1]
        All zero where the values are constant or none is finite.
    """
    finite = np.isfinite(values)
    low, high = _window_range(values, finite) if low_high is None else low_high
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        offset = np.float32(low)
        scale = np.float32(1.0 / (high - low)) if high > low else np.float32(np.inf)
        if not (np.isfinite(offset) and np.isfinite(scale)):
            return np.zeros(values.shape, dtype=np.float32)
        scaled = (values - offset) * scale
    np.clip(scaled, 0.0, 1.0, out=scaled)
    if not finite.all():
        scaled[~finite] = 0.0
    return scaled


def _window_range(values: NDArray[np.float32], finite: NDArray[np.bool_]) -> tuple[float, float]:
    sample = _subsampled(values)
    sample = sample[_subsampled(finite)]
    if sample.size:
        low, high = (float(v) for v in np.percentile(sample, WINDOW_PERCENTILES))
        if high > low:
            return low, high
    inside = values[finite]  # a small bright object in a constant window
    return (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)


def _subsampled(values: NDArray[Any]) -> NDArray[Any]:
    """Return every n-th pixel of the last two axes, about `_SAMPLE_VALUES` in all."""
    stride = max(1, round(math.sqrt(values.size / _SAMPLE_VALUES)))
    return values[..., ::stride, ::stride] if values.ndim > 1 else values
