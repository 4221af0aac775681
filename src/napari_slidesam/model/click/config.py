"""Dimensions of the click network and of what it sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from napari_slidesam.model.small_weights import known_settings

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ClickConfig:
    """The click network's dimensions, kept in the header of its weights.

    Parameters
    ----------
    rings : int
        Radii at which the slice is sampled, evenly spaced in their logarithm; a multiple of 16.
    angles : int
        Directions; a multiple of 16.
    octaves : float
        How often the radius doubles from the first ring to the last.
    reach : float
        Radius of the last ring over the plane's longer side.
    max_side_px : int
        A plane with a longer side is seen as if it were cut to this one around the click.
    widths : tuple of 4 int
        Channels at a half, a quarter, an eighth and a sixteenth of the resolution; multiples
        of 8.
    """

    rings: int = 64
    angles: int = 64
    octaves: float = 8.0
    reach: float = 0.75
    max_side_px: int = 1024
    widths: tuple[int, int, int, int] = (16, 32, 64, 96)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as JSON can hold them."""
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClickConfig:
        """Return what `to_dict` gave.

        Raises
        ------
        CheckpointError
            A field is unknown.
        """
        return cls(**known_settings(values, [f.name for f in fields(cls)], "click"))
