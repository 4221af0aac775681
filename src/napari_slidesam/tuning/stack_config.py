"""What training stacks look like, and how often which kind is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_slidesam.errors import TuningError


@dataclass(frozen=True, slots=True)
class StackConfig:
    """What stacks look like.

    Parameters
    ----------
    slices, side_px : int
        Slices of a stack, odd, and the side of each in pixels.
    context : float
        Side of the canvas over the longest side of the object's box on the centre slice.
    size_spread : tuple of 2 floats
        That longest side varies by a factor between these, log-uniform.
    jitter : float
        Standard deviation of the object's place on the canvas, in sides of its box.
    end_share : float
        Stacks laid so that the object ends within them.
    step_factors : tuple of 2 floats
        Distance between slices over the object's size, log-uniform.
    native_share : float
        Stacks of real volumes that are the volume's own neighbouring slices.
    rotation_real, rotation_labels : float
        Stacks on a plane of any direction; the others lie along an axis or nearly.
    tilt_deg : float
        Standard deviation of the tilt of half of the others.
    union_real, union_labels : float
        Stacks whose target is an object together with some of its neighbours. Of the real
        volumes only those with more than 20 objects have such.
    real, painted, procedural : float
        Shares of the three sources: real images, real label maps painted, procedural volumes.
    max_volume_share : float
        No volume gives more than this share of its source's stacks.
    remap, degrade : float
        Real images behind a random intensity curve, and degraded ones.
    focus : float
        Real images whose intensities are cut to those around the target, as a person who looks
        at soft tissue sets the window.

    Raises
    ------
    TuningError
        A value is outside its range.
    """

    slices: int = 5
    side_px: int = 192
    context: float = 2.7
    size_spread: tuple[float, float] = (0.8, 1.2)
    jitter: float = 0.12
    end_share: float = 0.36
    step_factors: tuple[float, float] = (0.015, 0.14)
    native_share: float = 0.5
    rotation_real: float = 0.25
    rotation_labels: float = 0.5
    tilt_deg: float = 8.0
    union_real: float = 0.2
    union_labels: float = 0.35
    real: float = 0.40
    painted: float = 0.25
    procedural: float = 0.35
    max_volume_share: float = 0.25
    remap: float = 0.6
    degrade: float = 0.3
    focus: float = 0.4

    def __post_init__(self) -> None:
        if self.slices < 3 or self.slices % 2 == 0 or self.slices > 8 or self.side_px < 32:
            raise TuningError(
                "A stack needs 3, 5 or 7 slices of at least 32 pixels; got "
                f"{self.slices} of {self.side_px}."
            )
        if min(self.real, self.painted, self.procedural) < 0:
            raise TuningError("Shares of the sources cannot be negative. Set those unwanted to 0.")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> StackConfig:
        """Return the config that was written as JSON, whose lists were tuples."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fields)
