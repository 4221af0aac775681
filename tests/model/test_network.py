"""The embedded network's shapes, frames and independence of company."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_slidesam.geometry import Box
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite, collate_prompts
from napari_slidesam.model.lite.prompt_encoder import (
    BOTTOM_RIGHT,
    NEGATIVE,
    PAD,
    POSITIVE,
    TOP_LEFT,
    rasterise,
)
from napari_slidesam.model.protocol import WindowModel, WindowPrompt

TINY = LiteConfig(
    stem_channels=(4, 8, 8), embed_dim=16, depth=1, num_heads=2, grid_size=4, viewport_size=64
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SlideSamLite(TINY).eval().requires_grad_(False)


def box_prompt(size=64):
    return WindowPrompt(box_xyxy_model=(size * 0.25, size * 0.25, size * 0.75, size * 0.75))


def test_it_is_a_window_model(network):
    assert isinstance(network, WindowModel)


@pytest.mark.parametrize(("batch", "size"), [(1, 64), (3, 64), (2, 96)])
def test_shapes_and_ranges(network, batch, size):
    out = network.predict_windows(torch.rand(batch, 3, size, size), [box_prompt(size)] * batch)
    assert out.mask_logits.shape == (batch, 3, 3, size // 2, size // 2)
    assert out.predicted_iou.shape == (batch, 3)
    assert out.presence.shape == (batch, 3)
    for share in (out.predicted_iou, out.presence):
        assert 0 <= share.min() <= share.max() <= 1


def test_a_window_does_not_see_its_neighbours_in_the_batch(network):
    windows = torch.rand(3, 3, 64, 64)
    prompts = [
        box_prompt(),
        WindowPrompt(points_xy_model=((10.0, 12.0),), point_labels=(1,)),
        WindowPrompt(
            box_xyxy_model=(1, 2, 30, 40),
            points_xy_model=((5.0, 5.0), (20.0, 9.0)),
            point_labels=(1, 0),
        ),
    ]
    together = network.predict_windows(windows, prompts)
    for i, prompt in enumerate(prompts):
        alone = network.predict_windows(windows[i : i + 1], [prompt])
        torch.testing.assert_close(
            alone.mask_logits[0], together.mask_logits[i], atol=1e-4, rtol=1e-4
        )


def test_prompts_change_the_answer(network):
    window = torch.rand(1, 3, 64, 64)
    mask = np.zeros((3, 64, 64), dtype=np.float32)
    mask[1, 20:40, 20:40] = 1
    answers = [
        network.predict_windows(window, [prompt]).mask_logits
        for prompt in (
            box_prompt(),
            WindowPrompt(box_xyxy_model=(0, 0, 20, 20)),
            WindowPrompt(points_xy_model=((30.0, 30.0),), point_labels=(1,)),
            WindowPrompt(points_xy_model=((30.0, 30.0),), point_labels=(0,)),
            WindowPrompt(box_xyxy_model=(16, 16, 48, 48), mask_logits_model=mask),
        )
    ]
    for i, a in enumerate(answers):
        for b in answers[i + 1 :]:
            assert not torch.allclose(a, b)


def test_collated_prompts_keep_their_types():
    prompts = [
        WindowPrompt(box_xyxy_model=(16, 8, 48, 32)),
        WindowPrompt(points_xy_model=((32.0, 16.0), (0.0, 64.0)), point_labels=(1, 0)),
    ]
    tensors = collate_prompts(prompts, 64, torch.device("cpu"))
    assert tensors.point_types.tolist() == [
        [TOP_LEFT, BOTTOM_RIGHT, PAD, PAD],
        [POSITIVE, NEGATIVE, PAD, PAD],
    ]
    torch.testing.assert_close(tensors.points_xy[0, :2], torch.tensor([[0.25, 0.125], [0.75, 0.5]]))
    assert not tensors.masks.any()


def test_box_is_drawn_where_it_is():
    tensors = collate_prompts(
        [WindowPrompt(box_xyxy_model=(16, 8, 48, 32))], 64, torch.device("cpu")
    )
    drawn = rasterise(tensors)[0, 0] > 0.5
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[8:32, 16:48] = True
    assert (drawn != expected).float().mean() < 0.01


def test_points_are_drawn_in_their_channel():
    prompt = WindowPrompt(points_xy_model=((40.5, 10.5), (5.5, 50.5)), point_labels=(1, 0))
    raster = rasterise(collate_prompts([prompt], 64, torch.device("cpu")))[0]
    assert not raster[0].any()
    assert divmod(int(raster[1].argmax()), 64) == (10, 40)
    assert divmod(int(raster[2].argmax()), 64) == (50, 5)


def test_viewport_has_the_box_in_its_middle(network):
    box = Box(10, 20, 30, 50)
    (view,) = network.viewports(box, (), (100, 100))
    assert view.size == TINY.viewport_size
    assert view.side == 66
    x0, y0, x1, y1 = view.box_xyxy_model(box)
    assert (x0 + x1) / 2 == pytest.approx(32)
    assert (y0 + y1) / 2 == pytest.approx(32)


def test_tiny_objects_keep_context(network):
    (view,) = network.viewports(Box(10, 10, 12, 11), (), (100, 100))
    assert view.side >= TINY.min_viewport_px


def test_a_point_gets_views_of_several_sizes(network):
    views = network.viewports(None, [(50.0, 40.0)], (100, 120))
    sides = [view.side for view in views]
    assert sides == sorted(set(sides))
    assert sides[-1] >= 120
    for view in views:
        assert view.y0 <= 50 < view.y0 + view.side
        assert view.x0 <= 40 < view.x0 + view.side


def test_the_mask_logit_shift_makes_masks_larger(network):
    windows = torch.rand(1, 3, 64, 64)
    before = network.predict_windows(windows, [box_prompt()])
    network.config = replace(TINY, mask_logit_shift=0.4)
    after = network.predict_windows(windows, [box_prompt()])
    torch.testing.assert_close(after.mask_logits, before.mask_logits + 0.4)
    torch.testing.assert_close(after.predicted_iou, before.predicted_iou)
