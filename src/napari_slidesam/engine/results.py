"""What propagation yields: one frozen result per slice."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_slidesam.geometry import Region


class StopReason(enum.StrEnum):
    """Why a mask grew no further in one direction (Slide-SAM 2.4 and C.1)."""

    EMPTY = "empty"
    PREDICTED_IOU = "predicted-iou"
    STABILITY = "stability"
    DRIFT = "drift"
    Z_RANGE = "z-range"
    END_OF_VOLUME = "end-of-volume"
    CANCELLED = "cancelled"
    MET_PROMPT = "met-prompt"
    """The next prompted slice of the same object was reached; not an end of the object."""


@dataclass(frozen=True, slots=True)
class TrackStop:
    """The end of one direction of travel: -1 towards slice 0, +1 away from it."""

    direction: int
    reason: StopReason


@dataclass(frozen=True, slots=True)
class SliceQuality:
    """How far a slice's mask can be trusted; each in [0, 1], higher is better.

    ``predicted_iou`` is the network's own estimate, ``stability_score`` the ratio of the areas
    at logits > +offset and > -offset (C.1 b), ``agreement`` the mean Dice of the single
    predictions of this slice with their fusion (1 where there was only one).
    """

    predicted_iou: float
    stability_score: float
    agreement: float

    @property
    def score(self) -> float:
        """The product of the three: one number to rank slices by."""
        return self.predicted_iou * self.stability_score * self.agreement


@dataclass(frozen=True, slots=True, eq=False)
class SliceResult:
    """The mask of one object on one slice.

    A slice may come more than once: first as a preview, last with ``is_final``. A later result
    for the same object and slice replaces the earlier one.

    Parameters
    ----------
    object_id : int
    axis : int
        The volume axis that ``slice_index`` counts along.
    slice_index : int
    region : Region
        Where ``mask`` lies in the plane; outside it the object is not.
    mask : ndarray of bool, shape ``region.shape_yx``
        May be empty (all False), e.g. where a preview is taken back.
    quality : SliceQuality
    is_prompted : bool
        The slice carries a prompt of this object.
    is_final : bool
    stops : tuple of TrackStop
        The directions of travel that ended here, with their reasons.
    """

    object_id: int
    axis: int
    slice_index: int
    region: Region
    mask: NDArray[np.bool_]
    quality: SliceQuality
    is_prompted: bool
    is_final: bool
    stops: tuple[TrackStop, ...] = ()
