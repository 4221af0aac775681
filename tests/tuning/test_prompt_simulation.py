from __future__ import annotations

import pytest
import torch

from napari_slidesam.model.lite.prompt_encoder import (
    BOTTOM_RIGHT,
    NEGATIVE,
    PAD,
    POSITIVE,
    TOP_LEFT,
)
from napari_slidesam.tuning.prompt_simulation import PromptConfig, PromptSimulator

SIZE = 64


def masks(n=200):
    out = torch.zeros(n, SIZE, SIZE)
    out[:, 16:48, 20:44] = 1
    return out


def simulator(seed=0, **kwargs):
    return PromptSimulator(PromptConfig(**kwargs), torch.Generator().manual_seed(seed))


def test_every_window_has_a_prompt():
    types = simulator().drawn(masks(), masks()).point_types
    has_box = (types == TOP_LEFT).any(1)
    has_point = (types == POSITIVE).any(1)
    assert (has_box | has_point).all()
    assert ((types == BOTTOM_RIGHT).any(1) == has_box).all()
    assert 0.6 < has_box.float().mean() < 1
    assert (~has_box).any()


def test_exact_boxes_without_noise():
    prompts = simulator(box_share=1, point_share=0, box_noise=0, careful_noise=0, loose_share=0)
    tensors = prompts.drawn(masks(3), masks(3))
    torch.testing.assert_close(
        tensors.points_xy[:, :2] * SIZE, torch.tensor([[20.0, 16], [44, 48]]).repeat(3, 1, 1)
    )


def test_box_noise_has_the_papers_size_and_cap():
    prompts = simulator(box_share=1, point_share=0, careful_noise=0.1, loose_share=0)
    drawn = prompts.drawn(masks(4000), masks(4000)).points_xy[:, 0] * SIZE
    error = drawn - torch.tensor([20.0, 16.0])
    assert error[:, 0].std() == pytest.approx(2.4, rel=0.1)  # 10 % of 24 pixels
    assert error[:, 1].std() == pytest.approx(3.2, rel=0.1)  # 10 % of 32 pixels
    capped = simulator(box_share=1, point_share=0, box_noise=9, careful_noise=9, loose_share=0,
                       box_noise_px=2)  # fmt: skip
    error = capped.drawn(masks(), masks()).points_xy[:, 0] * SIZE - torch.tensor([20.0, 16.0])
    assert error.abs().max() <= 2 + 1e-4


def test_positive_points_lie_inside_and_negative_ones_beside():
    tensors = simulator(box_share=0, point_share=1).drawn(masks(), masks())
    xy = (tensors.points_xy * SIZE).long().clamp(0, SIZE - 1)
    for row, types in enumerate(tensors.point_types):
        for k in (2, 3):
            inside = masks(1)[0, xy[row, k, 1], xy[row, k, 0]] == 1
            if types[k] == POSITIVE:
                assert inside
            elif types[k] == NEGATIVE:
                assert not inside


def test_box_from_the_neighbour():
    other = torch.zeros(5, SIZE, SIZE)
    other[:, 4:12, 6:10] = 1
    prompts = simulator(box_share=1, point_share=0, box_noise=0, careful_noise=0, loose_share=0)
    tensors = prompts.drawn(torch.zeros(5, SIZE, SIZE), other)
    torch.testing.assert_close(tensors.points_xy[0, :2] * SIZE, torch.tensor([[6.0, 4], [10, 12]]))
    assert not tensors.masks.any()


def test_mask_prompts_are_wrong_but_recognisable():
    tensors = simulator(mask_share=1).drawn(masks(), masks())
    given = tensors.masks[:, 1]
    assert set(given.unique().tolist()) == {-1.0, 1.0}
    overlap = ((given > 0) & (masks() > 0)).sum((1, 2)) / ((given > 0) | (masks() > 0)).sum((1, 2))
    assert 0.4 < overlap.mean() < 0.97
    assert not tensors.masks[:, [0, 2]].any()


def test_handed_on_prompts_carry_two_known_slices():
    logits = torch.randn(8, 2, SIZE, SIZE)
    boxes = torch.tensor([[10.0, 12, 40, 44]]).repeat(8, 1)
    tensors = simulator(handed_mask_share=1).handed_on(boxes, logits)
    torch.testing.assert_close(tensors.masks[:, :2], torch.tanh(logits / 2))
    assert not tensors.masks[:, 2].any()
    assert (tensors.point_types[:, 2:] == PAD).all()


def test_seeded():
    one, two = (simulator(seed=5).drawn(masks(), masks()) for _ in range(2))
    torch.testing.assert_close(one.points_xy, two.points_xy)
    assert (one.point_types == two.point_types).all()
