from __future__ import annotations

import math

import pytest
import torch

from napari_slidesam.tuning.losses import LossConfig, hybrid_loss

ALL = torch.ones(2, 3)


def target(n=2):
    out = torch.zeros(n, 3, 16, 16)
    out[:, :, 4:12, 4:12] = 1
    return out


def logits_of(masks, level=12.0):
    """Certain logits at half size, one candidate."""
    small = torch.nn.functional.avg_pool2d(masks, 2)
    return ((small * 2 - 1) * level).unsqueeze(1)


def loss(masks, iou=None, presence=None, indicator=ALL, config=None, targets=None):
    iou = torch.full(masks.shape[:2], 9.0) if iou is None else iou
    return hybrid_loss(
        masks, iou, presence, target() if targets is None else targets, indicator,
        config or LossConfig(),
    )  # fmt: skip


def test_perfect_masks_cost_nothing():
    report = loss(logits_of(target()))
    assert report.segmentation < 1e-3
    torch.testing.assert_close(report.true_iou, torch.ones(2, 1))


def test_weights_are_the_papers():
    wrong = logits_of(1 - target(), level=2.0)
    both = loss(wrong).segmentation
    entropy = loss(wrong, config=LossConfig(cross_entropy=20, dice=0)).segmentation
    dice = loss(wrong, config=LossConfig(cross_entropy=0, dice=1)).segmentation
    assert float(both) == pytest.approx(float(entropy + dice), rel=1e-5)
    assert float(entropy) == pytest.approx(20 * math.log1p(math.exp(2)), rel=1e-5)


def test_only_the_best_candidate_counts():
    good, bad = logits_of(target()), logits_of(1 - target())
    config = LossConfig(all_candidates=0)
    report = loss(torch.cat([bad, good], dim=1), config=config)
    assert report.segmentation < 1e-3


def test_unlabelled_slices_do_not_count_and_switch_the_iou_loss_off():
    masks = target()
    masks[:, [0, 2]] = 1 - masks[:, [0, 2]]
    centre_only = torch.tensor([[0, 1, 0], [0, 1, 0]])
    report = loss(logits_of(masks), iou=torch.full((2, 1), -9.0), indicator=centre_only)
    assert report.segmentation < 1e-3
    assert report.predicted_iou == 0
    torch.testing.assert_close(report.true_iou, torch.ones(2, 1))


def test_iou_head_learns_the_true_iou():
    half = target()
    half[..., :, 8:] = 0
    report = loss(logits_of(half), iou=torch.zeros(2, 1))
    assert report.true_iou[0, 0] == pytest.approx(0.5, abs=0.02)
    assert report.predicted_iou < 1e-3


def test_presence_is_the_object_on_each_slice():
    targets = target()
    targets[:, 2] = 0
    right = torch.tensor([[9.0, 9, -9]]).repeat(2, 1)
    assert loss(logits_of(targets), presence=right, targets=targets).presence < 1e-3
    assert loss(logits_of(targets), presence=-right, targets=targets).presence > 5


def test_empty_target_and_empty_mask_agree():
    nothing = torch.zeros(2, 3, 16, 16)
    report = loss(logits_of(nothing), targets=nothing)
    assert report.segmentation < 0.01
    torch.testing.assert_close(report.true_iou, torch.ones(2, 1))


def test_gradients_reach_every_head():
    masks = torch.randn(2, 3, 3, 8, 8, requires_grad=True)
    iou, presence = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    loss(masks, iou=iou, presence=presence).total.backward()
    for tensor in (masks, iou, presence):
        assert tensor.grad.abs().sum() > 0


def test_side_slices_count_as_much_as_they_are_told_to():
    wrong_side = target()
    wrong_side[:, 0] = 1 - wrong_side[:, 0]
    costs = [
        loss(logits_of(wrong_side, 2.0), config=LossConfig(side_slices=share)).segmentation
        for share in (1.0, 0.5, 0.0)
    ]
    right = loss(logits_of(target(), 2.0)).segmentation
    assert costs[0] > costs[1] > costs[2]
    torch.testing.assert_close(costs[2], right)
