"""Which of a network's candidate masks is meant; the same in propagation and in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from napari_slidesam.geometry import mask_to_box
from napari_slidesam.model.protocol import WINDOW_SLICES
from napari_slidesam.model.sliding import BOX_WEIGHT, CANDIDATE_SHARPNESS, CONSISTENCY_WEIGHT

if TYPE_CHECKING:
    from napari_slidesam.geometry import Box, Region
    from napari_slidesam.model.patches import LogitPatch

_CENTRE = WINDOW_SLICES // 2


def candidate_scores(
    logits: torch.Tensor,
    trust: torch.Tensor,
    outer: Region,
    *,
    reference: LogitPatch | None = None,
    consistency_weight: float = CONSISTENCY_WEIGHT,
    box: Box | None = None,
    box_weight: float = BOX_WEIGHT,
) -> torch.Tensor:
    """Return the scores of M candidates, shape (M,).

    Parameters
    ----------
    logits : Tensor of float32, shape (M, 3, h, w), on the CPU
        In the model frame of ``outer``.
    trust : Tensor of float32, shape (M,)
        Predicted IoU.
    outer : Region
        The part of the plane that the network sees.
    reference : LogitPatch, optional
        The mask expected on the centre slice.
    consistency_weight : float
        Weight of a candidate's IoU with it, beside its predicted IoU.
    box : Box, optional
        A box that a person drew, in the plane.
    box_weight : float
        Weight of the IoU of a candidate's bounding box with it.
    """
    score = trust
    if reference is not None:
        small = torch.from_numpy(reference.on(outer))
        small = F.adaptive_max_pool2d(small[None], logits.shape[-2:])[0] > 0
        masks = logits[:, _CENTRE] > 0
        union = (masks | small).sum((-2, -1)).clamp(min=1)
        score = trust + consistency_weight * (masks & small).sum((-2, -1)) / union
    if box is not None and box_weight > 0:
        fit = [_box_fit(masks, box, outer) for masks in logits[:, _CENTRE] > 0]
        score = score + box_weight * torch.tensor(fit)
    return score


def blended(
    logits: torch.Tensor, scores: torch.Tensor, sharpness: float = CANDIDATE_SHARPNESS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one mask's logits, shape (3, h, w), and the candidates' shares in it, shape (M,)."""
    shares = (sharpness * scores).softmax(0)
    return (shares[:, None, None, None] * logits).sum(0), shares


def _box_fit(mask: torch.Tensor, box: Box, outer: Region) -> float:
    """Return the IoU of the bounding box of a mask, at any size of the frame, with a plane box."""
    found = mask_to_box(mask.numpy())
    if found is None:
        return 0.0
    height, width = outer.shape_yx
    sy, sx = height / mask.shape[-2], width / mask.shape[-1]
    y0, x0, y1, x1 = found.y0 * sy, found.x0 * sx, found.y1 * sy, found.x1 * sx
    common_y = min(y1, box.y1 - outer.y0) - max(y0, box.y0 - outer.y0)
    common_x = min(x1, box.x1 - outer.x0) - max(x0, box.x0 - outer.x0)
    common = max(0.0, common_y) * max(0.0, common_x)
    return common / ((y1 - y0) * (x1 - x0) + box.height * box.width - common)
