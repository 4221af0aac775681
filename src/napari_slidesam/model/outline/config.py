"""Dimensions of the outline network and of what it sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from napari_slidesam.model.small_weights import known_settings

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class OutlineConfig:
    """The outline network's dimensions, kept in the header of its weights.

    Parameters
    ----------
    slices : int
        Shown at once, the prompted one in the middle; odd.
    side : int
        Samples along each axis; a multiple of 16.
    context : float
        Sides of what is seen over the box's.
    least_side : float
        A box's shorter side counts as at least this share of the longer one.
    least_half_px : float
        Least distance from the centre to the border of what is seen, over ``context / 2``.
    widths : tuple of 4 int
        Channels at a half, a quarter, an eighth and a sixteenth of the resolution; multiples
        of 16.
    """

    slices: int = 3
    side: int = 64
    context: float = 1.6
    least_side: float = 0.4
    least_half_px: float = 4.0
    widths: tuple[int, int, int, int] = (48, 96, 160, 224)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as JSON can hold them."""
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OutlineConfig:
        """Return what `to_dict` gave.

        Raises
        ------
        CheckpointError
            A field is unknown.
        """
        return cls(**known_settings(values, [f.name for f in fields(cls)], "outline"))
