"""Dimensions of the coarse network and of what it sees."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from napari_slidesam.model.small_weights import known_settings

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class CoarseConfig:
    """The coarse network's dimensions, kept in the header of its weights.

    Parameters
    ----------
    side : int
        Voxels along each edge of the cube it sees (N); a multiple of 8.
    context : float
        Physical edge of the cube, in units of the longer side of the prompted slice's box.
    samples : int
        Values of the volume along each axis that are averaged to a voxel.
    widths : tuple of 3 int
        Channels at a half, a quarter and an eighth of the resolution; multiples of 8.
    """

    side: int = 32
    context: float = 2.4
    samples: int = 2
    widths: tuple[int, int, int] = (24, 48, 64)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as JSON can hold them."""
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CoarseConfig:
        """Return what `to_dict` gave.

        Raises
        ------
        CheckpointError
            A field is unknown.
        """
        return cls(**known_settings(values, [f.name for f in fields(cls)], "coarse"))
