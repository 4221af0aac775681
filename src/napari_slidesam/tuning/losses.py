"""The hybrid loss (Slide-SAM 2.3, equations 2 to 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the terms.

    ``cross_entropy`` and ``dice`` are the paper's lambda_1 = 20 and lambda_2 = 1 (2.3).
    ``all_candidates`` adds a share of the mean over candidates to the best one's loss, which
    keeps the others from dying; ``presence`` weighs the score the paper does not have;
    ``side_slices`` weighs the top and bottom slice, beside 1 for the centre.
    """

    cross_entropy: float = 20.0
    dice: float = 1.0
    predicted_iou: float = 1.0
    presence: float = 1.5
    all_candidates: float = 0.1
    side_slices: float = 1.0


@dataclass(frozen=True, slots=True)
class LossReport:
    """The loss to minimise and what it is made of.

    ``true_iou`` is the IoU of each candidate over the labelled slices, shape (B, M).
    """

    total: torch.Tensor
    segmentation: torch.Tensor
    predicted_iou: torch.Tensor
    presence: torch.Tensor
    true_iou: torch.Tensor


def hybrid_loss(
    mask_logits: torch.Tensor,
    iou_logits: torch.Tensor,
    presence_logits: torch.Tensor | None,
    targets: torch.Tensor,
    indicator: torch.Tensor,
    config: LossConfig,
    *,
    iou_is_logit: bool = True,
) -> LossReport:
    """Return the loss of the best candidate (equation 3) on the labelled slices (equation 4).

    Parameters
    ----------
    mask_logits : Tensor, shape (B, M, 3, h, w)
    iou_logits : Tensor, shape (B, M)
    presence_logits : Tensor, shape (B, 3), optional
    targets : Tensor, shape (B, 3, H, W), range [0, 1]
        H and W are multiples of h and w; averaged down to them.
    indicator : Tensor, shape (B, 3)
        1 where the slice is labelled. Where not all three are, the IoU loss is 0.
    config : LossConfig
    iou_is_logit : bool
        A sigmoid makes the IoU of ``iou_logits``; else they are the IoU itself (equation 2).
    """
    logits = mask_logits.float()
    height, width = logits.shape[-2:]
    small = F.adaptive_avg_pool2d(targets, (height, width)).unsqueeze(1).expand_as(logits)
    known = indicator.unsqueeze(1).float()
    entropy = F.binary_cross_entropy_with_logits(logits, small, reduction="none").mean((-2, -1))
    probability = logits.sigmoid()
    overlap = (probability * small).sum((-2, -1))
    total = (probability + small).sum((-2, -1))
    dice = 1 - (2 * overlap + 5) / (total + 5)
    per_slice = config.cross_entropy * entropy + config.dice * dice
    side = config.side_slices
    shares = known * known.new_tensor([side, 1.0, side])
    loss = (per_slice * shares).sum(-1) / shares.sum(-1).clamp(min=1e-3)
    best = loss.min(dim=1).values
    segmentation = (
        (1 - config.all_candidates) * best + config.all_candidates * loss.mean(1)
    ).mean()

    with torch.no_grad():
        found, true = logits > 0, small > 0.5
        mask = known.unsqueeze(-1).unsqueeze(-1) > 0
        both = (found & true & mask).sum((-3, -2, -1)).float()
        either = ((found | true) & mask).sum((-3, -2, -1)).float()
        true_iou = (both + 1) / (either + 1)
    complete = (indicator > 0).all(dim=1).float()
    predicted = iou_logits.float().sigmoid() if iou_is_logit else iou_logits.float()
    iou_error = (predicted - true_iou).square().mean(1)
    iou_loss = (iou_error * complete).sum() / complete.sum().clamp(min=1)

    presence_loss = logits.new_zeros(())
    if presence_logits is not None:
        present = (targets.flatten(2).sum(-1) >= 4).float()
        each = F.binary_cross_entropy_with_logits(
            presence_logits.float(), present, reduction="none"
        )
        presence_loss = (each * indicator).sum() / indicator.sum().clamp(min=1)
    return LossReport(
        total=segmentation + config.predicted_iou * iou_loss + config.presence * presence_loss,
        segmentation=segmentation.detach(),
        predicted_iou=iou_loss.detach(),
        presence=presence_loss.detach(),
        true_iou=true_iou,
    )
