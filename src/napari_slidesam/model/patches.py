"""Mask logits of a part of a plane: what a window says, and what the next one is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.geometry import Box, Region, mask_to_box
from napari_slidesam.metrics import iou

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOGIT_LIMIT = 8.0
"""Logits are clipped to it before fusion, so that one prediction cannot outvote all others."""

BACKGROUND_LOGIT = -4.0
"""What a prediction says of pixels outside its viewport: most likely not the object."""


@dataclass(frozen=True, slots=True, eq=False)
class LogitPatch:
    """Mask logits of a region of a plane; the object is where they are > 0.

    Parameters
    ----------
    region : Region
    logits : ndarray of float32, shape ``region.shape_yx``
    """

    region: Region
    logits: NDArray[np.float32]

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_]) -> LogitPatch:
        """Return certain logits of a whole plane's mask, shape (Y, X), cut to its box."""
        box = mask_to_box(mask)
        shape = (int(mask.shape[0]), int(mask.shape[1]))
        whole = Box(0, 0, *shape) if box is None else box
        region = whole.enlarged(0.1).outer_region(shape)
        logits = np.where(mask[region.slices], LOGIT_LIMIT, -LOGIT_LIMIT).astype(np.float32)
        return cls(region, logits)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The object within the region; bool."""
        out: NDArray[np.bool_] = self.logits > 0
        return out

    def scaled(self, factor: float) -> LogitPatch:
        """Return the same mask, its logits times a positive factor."""
        return LogitPatch(self.region, self.logits * np.float32(factor))

    def iou(self, other: LogitPatch) -> float:
        """Return the intersection over union of both masks; 1 where both are empty."""
        region = self.region.union(other.region)
        return iou(self.on(region) > 0, other.on(region) > 0)

    def on(self, region: Region, fill: float = BACKGROUND_LOGIT) -> NDArray[np.float32]:
        """Return the logits on another region; ``fill`` where this patch says nothing."""
        if region == self.region:
            return self.logits
        out = np.full(region.shape_yx, fill, dtype=np.float32)
        y0, x0 = max(region.y0, self.region.y0), max(region.x0, self.region.x0)
        y1, x1 = min(region.y1, self.region.y1), min(region.x1, self.region.x1)
        if y1 > y0 and x1 > x0:
            common = Region(y0, x0, y1, x1)
            out[common.within(region)] = self.logits[common.within(self.region)]
        return out
