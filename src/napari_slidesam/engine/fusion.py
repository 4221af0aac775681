"""Logits of one slice from several windows, put together.

Each slice gets up to three predictions from one direction of travel, as the bottom, centre and
top of successive windows, and more where several prompts reach it::

    window z-1   [ z-2  z-1   z  ]
    window z           [ z-1   z   z+1 ]
    window z+1               [  z   z+1  z+2 ]
                              fused

Published Slide-SAM overwrites; here the logits are averaged with weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.metrics import dice
from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, eq=False)
class Vote:
    """One window's prediction of one slice and how much it counts (weight > 0).

    ``source`` is the prompted slice that the window's track left from.
    """

    patch: LogitPatch
    weight: float
    predicted_iou: float
    source: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Votes put together; ``agreement`` is their mean Dice with the result."""

    patch: LogitPatch
    predicted_iou: float
    agreement: float


def fuse(votes: Sequence[Vote]) -> Fused:
    """Return the weighted mean of the votes' logits on the union of their regions."""
    assert votes, "a slice without votes has no result"
    region = votes[0].patch.region
    for vote in votes[1:]:
        region = region.union(vote.patch.region)
    total = sum(vote.weight for vote in votes)
    logits = np.zeros(region.shape_yx, dtype=np.float32)
    for vote in votes:
        clipped = np.clip(vote.patch.on(region), -LOGIT_LIMIT, LOGIT_LIMIT)
        logits += np.float32(vote.weight / total) * clipped
    patch = LogitPatch(region, logits)
    agreement = 1.0
    if len(votes) > 1:
        mask = patch.mask
        agreement = float(np.mean([dice(vote.patch.on(region) > 0, mask) for vote in votes]))
    predicted_iou = sum(vote.weight * vote.predicted_iou for vote in votes) / total
    return Fused(patch, predicted_iou, agreement)
