"""The published predictor's ways, each alone and against a plain account of the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_slidesam.engine.compat import (
    PUBLISHED,
    PUBLISHED_OPTIONS,
    Quirks,
    inclusive_drawn,
    inclusive_handed,
    lopsided,
    min_max_range,
    opened_by_square,
    opened_patch,
    quirks_of,
    unite,
)
from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.fusion import Vote
from napari_slidesam.engine.predictor import Predictor, WindowRequest
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.results import StopReason
from napari_slidesam.engine.windows import Frame, Window, window_prompt
from napari_slidesam.errors import ConfigError
from napari_slidesam.geometry import Box, Region, Viewport, mask_to_box
from napari_slidesam.metrics import stability_score
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.protocol import WindowPrediction, WindowPrompt
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts, PointPrompt
from napari_slidesam.slice_cache import SliceCache
from napari_slidesam.volume import Intensity, Volume


def patch(mask, level=5.0, y0=0, x0=0):
    logits = np.where(mask, level, -level).astype(np.float32)
    return LogitPatch(Region(y0, x0, y0 + mask.shape[0], x0 + mask.shape[1]), logits)


def square(start, stop, size=30):
    mask = np.zeros((size, size), dtype=bool)
    mask[start:stop, start:stop] = True
    return mask


def test_nothing_is_asked_for_by_default():
    config = PropagationConfig()
    assert config.quirks == Quirks()
    assert config.resolved() == config


def test_published_asks_for_all_and_takes_its_options():
    config = PropagationConfig(compat=PUBLISHED)
    assert all(getattr(config.quirks, name) for name in Quirks.__dataclass_fields__)
    for name, value in PUBLISHED_OPTIONS.items():
        assert getattr(config.resolved(), name) == value
    kept = PropagationConfig(compat=PUBLISHED, min_predicted_iou=0.2).resolved()
    assert (kept.min_predicted_iou, kept.stability_offset) == (0.2, 1.0)
    assert PropagationConfig.from_dict(config.to_dict()) == config


def test_quirks_by_name():
    assert quirks_of("min-max, lopsided-margin") == Quirks(min_max=True, lopsided_margin=True)
    assert PropagationConfig(compat="union").resolved().stability_offset == 0.1
    with pytest.raises(ConfigError, match=r"min-max.*got 'shaky'"):
        PropagationConfig(compat="shaky")


def test_extremes_of_a_window_inside_the_presets_range():
    values = np.array([-900, 30, 200, np.nan, np.inf], dtype=np.float32)
    assert min_max_range(values, None) == (-900, 200)
    assert min_max_range(values, (-200, 400)) == (-200, 200)
    assert min_max_range(values, (300, 400)) == (300, 300)
    assert min_max_range(np.full(3, np.nan, np.float32), None) == (0, 0)


def test_a_box_names_its_first_and_last_pixel():
    # The mask covers the columns 10..19 and rows 4..7 of a plane half the network's size.
    assert inclusive_drawn((20, 8, 40, 16), (2, 2)) == (20.5, 8.5, 38.5, 14.5)
    # Resized to twice its size it covers the columns 20..39.
    assert inclusive_handed((20, 8, 40, 16)) == (20.5, 8.5, 39.5, 15.5)


def test_enlarging_moves_two_sides_inwards():
    """40 wide and 100 high: the corners move by 2 (5 % of 40) and by 5 (5 % of 100)."""
    assert lopsided((100, 200, 140, 300), 1024) == (98, 198, 135, 295)
    assert lopsided((1.5, 1.5, 41.5, 41.5), 1024)[:2] == (0.5, 0.5)
    assert lopsided((900, 900, 1200, 1200), 1024)[2:] == (1023.5, 1023.5)


@pytest.mark.parametrize(
    ("start", "stop", "first", "last"),
    [
        (6, 18, 6, 17),  # area 144: a square of 7 px, odd
        (5, 18, 6, 18),  # area 169: 8 px, even, one pixel down and right
        (5, 8, 5, 7),  # area 9: the empty square is one of 3 px
    ],
)
def test_opening_by_an_even_square_moves_the_mask(start, stop, first, last):
    rows = np.flatnonzero(opened_by_square(square(start, stop)).any(axis=1))
    assert (rows[0], rows[-1]) == (first, last)


def test_opening_at_the_border_does_not_eat_the_mask():
    mask = np.zeros((24, 24), dtype=bool)
    mask[:13, :13] = True
    assert opened_by_square(mask)[:13, :13].all()


def test_logits_follow_the_opened_mask():
    mask = square(4, 18)
    mask[8, 18:26] = True
    found = opened_patch(patch(mask))
    np.testing.assert_array_equal(found.mask, opened_by_square(mask))
    assert not found.mask[8, 20:].any()
    empty = patch(np.zeros((5, 5), bool))
    assert opened_patch(empty) is empty


def test_union_of_what_one_prompts_windows_say():
    votes = [
        Vote(patch(square(2, 6)), 0.8, 0.7, source=3),
        Vote(patch(square(5, 9)), 1e-6, 0.6, source=3),
        Vote(patch(square(20, 28)), 0.5, 0.9, source=8),
    ]
    fused = unite(votes)
    np.testing.assert_array_equal(fused.patch.mask, square(2, 6) | square(5, 9))
    assert fused.predicted_iou == 0.7
    assert 0 < fused.agreement < 1
    later = unite([*votes[:1], Vote(patch(square(20, 28)), 0.8, 0.9, source=8)])
    np.testing.assert_array_equal(later.patch.mask, square(20, 28))


def test_a_plane_that_is_not_square_is_stretched():
    view = Viewport(0, 0, 40, 64)
    shape = (20, 40)
    padded, stretched = (Frame.of(view, shape, q) for q in (Quirks(), quirks_of(PUBLISHED)))
    assert padded.shape_yx == (40, 40)
    assert stretched.shape_yx == (20, 40)
    assert stretched.box_xyxy(Box(5, 10, 10, 20)) == (16, 16, 32, 32)
    assert stretched.point_xy(5, 10, Quirks()) == pytest.approx((16.8, 17.6))
    assert stretched.point_xy(5, 10, quirks_of(PUBLISHED)) == (16.5, 16.5)


def test_pixels_are_those_of_the_nearest_neighbour_and_the_windows_extremes(volume):
    rng = np.random.default_rng(1)
    data = rng.normal(50, 100, (5, 20, 20)).astype(np.float32)
    cache = SliceCache(Volume(data).along(0))
    request = WindowRequest(
        slices=cache,
        position=2,
        box=Box(2, 2, 9, 9),
        low_high=(-200, 400),
        quirks=quirks_of(PUBLISHED),
    )
    frame = Frame.of(Viewport(0, 0, 20, 64), (20, 20), request.quirks)
    clipped = np.clip(data[1:4], -200, 400)
    span = clipped.max() - clipped.min()
    wanted = F.interpolate(torch.from_numpy((clipped - clipped.min()) / span)[None], 64)[0]
    np.testing.assert_allclose(Window.read(request, frame).pixels(), wanted.numpy(), atol=1e-6)


def test_the_box_handed_on_is_not_the_drawn_one(volume):
    cache = SliceCache(volume.along(0))
    frame = Frame(Region(0, 0, 64, 64), 128)
    given = {
        "slices": cache,
        "position": 14,
        "box": Box(10, 10, 50, 20),
        "quirks": quirks_of(PUBLISHED),
    }
    drawn = window_prompt(WindowRequest(**given), frame)
    handed = window_prompt(WindowRequest(**given, is_handed_on=True), frame)
    assert drawn.box_xyxy_model == (20.5, 20.5, 38.5, 98.5)
    assert handed.box_xyxy_model == (20.5, 20.5, 36.5, 96.5)


def finals(predictor, volume, prompts, **options):
    config = PropagationConfig(**options)
    return {r.slice_index: r for r in propagate(predictor, volume, [prompts], config) if r.is_final}


def test_a_click_gets_no_second_look(make_model, volume):
    click = ObjectPrompts(1, points=(PointPrompt(14, 18, 16),))
    counts = []
    for compat in (None, "single-look"):
        model = make_model()
        finals(Predictor(model), volume, click, compat=compat, max_extent_slices=0)
        counts.append(sum(model.batches))
    # Three sizes of view; then the first mask's box, then its mask.
    assert counts == [5, 3]


def test_no_window_is_centred_on_the_first_or_last_slice(make_sam):
    bar = np.zeros((7, 48, 48), np.float32)
    bar[:, 10:30, 10:30] = 100
    sam = make_sam()
    rod = ObjectPrompts(1, (BoxPrompt(3, Box(10, 10, 30, 30)),))
    found = finals(Predictor(sam), Volume(bar), rod, compat=PUBLISHED)
    assert sorted(found) == list(range(7))
    assert sum(sam.decoded) == 5
    assert {s.reason for r in found.values() for s in r.stops} == {StopReason.END_OF_VOLUME}


def naive_published(sam, volume, slice_index, box):
    """Grow one box as the published predictor does, told as plainly as possible."""
    n, height, width = volume.shape
    size = sam.size

    def predict(z, box_px):
        planes = torch.from_numpy(np.clip(volume[z - 1 : z + 2], -200, 400))[:, None]
        window = F.interpolate(planes, (size, size))[:, 0]
        window = (window - window.min()) / (window.max() - window.min())
        # The network adds no half pixel itself: box_px are pixel indices.
        prompt = WindowPrompt(tuple(v + 0.5 for v in box_px))
        with torch.inference_mode():
            out = sam.predict_windows(window[None], [prompt])
        best = int(out.predicted_iou[0].argmax())
        iou = float(out.predicted_iou[0, best])
        logits = F.interpolate(out.mask_logits[0, best][None], (size, size), mode="bilinear")
        logits = F.interpolate(logits, (height, width), mode="bilinear")[0].numpy()
        if iou <= 0.5 or stability_score(logits, 1.0) < 0.6:
            return None
        return [opened_by_square(layer > 0) if (layer > 0).any() else layer > 0 for layer in logits]

    def next_box(mask):
        if mask.sum() <= 50:
            return None
        large = F.interpolate(torch.from_numpy(mask).float()[None, None], (size, size))[0, 0]
        ys, xs = np.nonzero(large.numpy())
        x0, y0, x1, y1 = xs.min(), ys.min(), xs.max(), ys.max()
        dx, dy = int((x1 - x0) * 0.05), int((y1 - y0) * 0.05)
        return (
            max(x0 - dx, 0),
            max(y0 - dx, 0),
            min(x1 - dy, size - 1),
            min(y1 - dy, size - 1),
        )

    total = np.zeros(volume.shape, dtype=bool)
    sy, sx = size / height, size / width
    (y0, x0, y1, x1) = box
    first = predict(slice_index, (x0 * sx, y0 * sy, (x1 - 1) * sx, (y1 - 1) * sy))
    total[slice_index - 1 : slice_index + 2] |= first
    for direction in (1, -1):
        masks, z = first, slice_index + direction
        while 1 <= z <= n - 2:
            following = next_box(masks[1 + direction])
            masks = None if following is None else predict(z, following)
            if masks is None or not masks[1].any():
                break
            total[z - 1 : z + 2] |= masks
            z += direction
    return total


@pytest.mark.parametrize(
    ("shape", "n_different"),
    [
        ((64, 64), 0),
        ((50, 64), 0),
        ((32, 32), 0),
        # Shrunk by nearest neighbour, a mask may lose its outermost pixels and its box a pixel.
        ((96, 80), 25),
    ],
)
def test_published_is_what_a_plain_account_of_it_gives(make_sam, shape, n_different):
    """A tilted ellipsoid in noise, on planes smaller, larger and longer than the network's."""
    height, width = shape
    z, y, x = np.ogrid[:24, :height, :width]
    far = ((z - 11) / 9) ** 2 + ((y - height / 2 - (z - 11)) / (height / 4)) ** 2
    far = far + ((x - width / 2 + (z - 11) / 2) / (width / 5)) ** 2
    noise = np.random.default_rng(4).normal(0, 30, far.shape)
    data = (np.where(far < 1, 150, -100) + noise).astype(np.float32)
    truth = far[11] < 1
    box = mask_to_box(truth)
    sam = make_sam()
    expected = naive_published(sam, data, 11, tuple(int(v) for v in box.yxyx))
    found = finals(
        Predictor(sam),
        Volume(data),
        ObjectPrompts(1, (BoxPrompt(11, box),)),
        compat=PUBLISHED,
        intensity=Intensity("ct"),
    )
    masks = np.zeros_like(expected)
    for index, result in found.items():
        masks[index][result.region.slices] = result.mask
    assert expected.any(axis=(1, 2)).sum() > 8
    assert np.count_nonzero(masks != expected) <= n_different


def test_several_prompts_travel_alone_and_the_steadiest_gets_the_slice(make_sam):
    class Unsteady(make_sam):
        """Less sharp the narrower the box."""

        def predict_embedded(self, embeddings, prompts):
            out = super().predict_embedded(embeddings, prompts)
            logits = out.mask_logits.clone()
            for row, prompt in enumerate(prompts):
                x0, _, x1, _ = prompt.box_xyxy_model
                if x1 - x0 < 30:
                    logits[row] *= 0.02
            return WindowPrediction(logits, out.predicted_iou)

    bar = np.zeros((20, 64, 64), np.float32)
    bar[:, 10:50, 10:50] = 100
    wide, narrow = Box(10, 10, 50, 50), Box(10, 10, 50, 30)
    prompts = ObjectPrompts(1, (BoxPrompt(5, wide), BoxPrompt(14, narrow)))
    options = {"compat": PUBLISHED, "min_stability": 1e-3, "intensity": Intensity("limits", 0, 100)}
    found = finals(Predictor(Unsteady()), Volume(bar), prompts, **options)
    alone = finals(
        Predictor(Unsteady()), Volume(bar), ObjectPrompts(1, (BoxPrompt(5, wide),)), **options
    )
    assert sorted(found) == list(range(20))
    for index, result in found.items():  # the wide box is steadier on every slice
        assert math.isclose(result.mask.sum(), alone[index].mask.sum())
