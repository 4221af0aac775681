"""The coarse look: what is asked of it, what its answer means, and what it changes."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import PlanePrediction, Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.proposal import Proposal
from napari_slidesam.engine.results import StopReason
from napari_slidesam.geometry import Box, Region
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.look import embedded_look
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.protocol import CoarseModel
from napari_slidesam.model.weights import EMBEDDED_PATH, load_weights
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.slice_cache import SliceCache
from napari_slidesam.volume import Volume

CERTAIN = 6.0
BALL_BOX = Box(10, 8, 27, 25)
"""Of the first ball on its middle slice, 14."""


class BrightLook:
    """Calls bright voxels the object, up to a distance from the prompted slice."""

    def __init__(self, reach=1e9):
        self.config = CoarseConfig()
        self.reach, self.asked = reach, []

    def __call__(self, grid, read_plane, masks):
        self.asked.append((grid, masks))
        image = grid.image(read_plane)
        z, _, _ = grid.positions()
        far = np.abs(z - grid.anchor).reshape(self.config.side, -1).mean(axis=1) > self.reach
        image[far] = 0
        return np.where(image > 0.5, CERTAIN, -CERTAIN).astype(np.float32)


@pytest.fixture
def make_looking(make_model):
    class Looking(make_model):
        def __init__(self, coarse, **kwargs):
            super().__init__(**kwargs)
            self.coarse = coarse

    return Looking


@pytest.fixture
def column():
    """A bright column of 12 x 12 through all of 40 slices."""
    image = np.zeros((40, 48, 48), dtype=np.float32)
    image[:, 18:30, 18:30] = 100
    return Volume(image)


def _object(slice_index, box):
    return ObjectPrompts(1, boxes=(BoxPrompt(slice_index, box),))


def _slices(model, volume, prompts, config=None, cancel=None):
    results = propagate(Predictor(model), volume, [prompts], config, cancel=cancel)
    found = {r.slice_index: r for r in results if r.is_final}
    return {i: r for i, r in found.items() if r.mask.any()}


def test_the_proposed_masks_are_where_the_object_is(volume, balls):
    slices = SliceCache(volume.along(0))
    patch = LogitPatch.from_mask(balls[14] == 1)
    proposal = Proposal.of(BrightLook(), slices, 14, BALL_BOX, {14: patch}, lambda: False)
    assert proposal is not None
    assert proposal.presence_on(14) > 0.99
    assert proposal.presence_on(3) < 0.01
    assert proposal.covers(14)
    assert not proposal.covers(14 + 1.2 * BALL_BOX.height)
    for index in (9, 14, 18):
        found = proposal.patch_on(index)
        mask = np.zeros((48, 56), dtype=bool)
        mask[found.region.slices] = found.mask
        truth = (balls[index] == 1) | (balls[index] == 2)
        near = Region(0, 0, 38, 36).slices
        overlap = 2 * (mask & truth)[near].sum() / (mask[near].sum() + truth[near].sum())
        assert overlap > 0.85


def test_thick_slices_and_an_object_at_the_corner():
    image = np.zeros((6, 30, 30), dtype=np.float32)
    image[1:4, :8, :8] = 1
    volume = Volume(image, spacing_zyx=(3.0, 1.0, 1.0))
    patch = LogitPatch.from_mask(image[2] > 0)
    look = BrightLook()
    slices = SliceCache(volume.along(0))
    proposal = Proposal.of(look, slices, 2, Box(0, 0, 8, 8), {2: patch}, lambda: False)
    assert proposal is not None
    ((grid, masks),) = look.asked
    plane_mask = masks[2]
    assert plane_mask.shape == grid.region.shape_yx
    assert plane_mask.sum() == 64
    inside = grid.inside()
    assert inside.shape == (3, 32)
    assert not inside[1][0]
    assert inside[1][16]
    assert [proposal.presence_on(i) > 0.5 for i in range(5)] == [False, True, True, True, False]
    assert proposal.patch_on(2).region.y0 == 0


def test_combined_with_what_was_handed_on(volume, balls):
    patch = LogitPatch.from_mask(balls[14] == 1)
    slices = SliceCache(volume.along(0))
    proposal = Proposal.of(BrightLook(), slices, 14, BALL_BOX, {14: patch}, lambda: False)
    assert proposal is not None
    both = proposal.combined(14, patch, 2.0, 0.5)
    pixel = both.on(Region(18, 16, 19, 17))
    assert pixel == pytest.approx(2 * CERTAIN + 0.5 * 8.0, abs=0.1)


def test_a_window_is_trusted_less_where_it_differs(volume, balls):
    slices = SliceCache(volume.along(0), 1 << 24)
    truth = LogitPatch.from_mask(balls[14] == 1)
    proposal = Proposal.of(BrightLook(), slices, 14, BALL_BOX, {14: truth}, lambda: False)
    same = tuple(proposal.patch_on(i) for i in (13, 14, 15))
    elsewhere = LogitPatch(Region(0, 40, 8, 48), np.full((8, 8), CERTAIN, dtype=np.float32))
    answer = PlanePrediction(same, 0.8, (1.0, 1.0, 1.0), same[1].logits)
    assert proposal.likeness(14, 1, same) == 1
    assert proposal.judged(14, 1, answer).predicted_iou == pytest.approx(0.8, abs=0.01)
    differs = replace(answer, patches=(elsewhere,) * 3)
    assert proposal.likeness(14, 1, differs.patches) == 0
    assert proposal.judged(14, 1, differs).predicted_iou == pytest.approx(0.6, abs=0.01)
    sure_of_nothing = replace(differs, predicted_iou=0.1)
    assert proposal.judged(14, 1, sure_of_nothing).predicted_iou == 0


def test_it_says_where_the_object_ends(make_looking, column):
    prompts = _object(20, Box(18, 18, 30, 30))
    assert set(_slices(make_looking(BrightLook()), column, prompts)) >= set(range(8, 33))
    model = make_looking(BrightLook(reach=4.0))
    assert isinstance(model, CoarseModel)
    found = _slices(model, column, prompts)
    assert 15 <= min(found) <= 17
    assert 23 <= max(found) <= 25
    stops = [stop.reason for result in found.values() for stop in result.stops]
    assert stops == [StopReason.EMPTY, StopReason.EMPTY]
    off = PropagationConfig(coarse_look=False)
    assert set(_slices(make_looking(BrightLook(reach=4.0)), column, prompts, off)) == set(range(40))


def test_where_it_is_sure_no_guard_stops(make_looking, column):
    prompts = _object(20, Box(18, 18, 30, 30))
    look = BrightLook()
    doubting = make_looking(look, predicted_iou=0.3)
    off = PropagationConfig(coarse_look=False)
    assert len(_slices(doubting, column, prompts, off)) < 5
    assert set(_slices(doubting, column, prompts)) == set(range(40))


def test_a_long_object_is_looked_at_again_where_the_look_ends(make_looking, column):
    look = BrightLook()
    _slices(make_looking(look), column, _object(20, Box(18, 18, 30, 30)))
    first, *others = [grid.anchor for grid, _ in look.asked]
    assert first == 20
    quarter = 2.4 * 12 / 4
    assert min(abs(anchor - (20 - quarter)) for anchor in others) < 1.5
    assert min(abs(anchor - (20 + quarter)) for anchor in others) < 1.5
    assert len(set(others)) == len(others)


def test_each_prompted_slice_is_looked_around_and_the_others_are_known(make_looking, column):
    look = BrightLook(reach=4.0)
    box = Box(18, 18, 30, 30)
    prompts = ObjectPrompts(1, boxes=(BoxPrompt(14, box), BoxPrompt(26, box)))
    found = _slices(make_looking(look), column, prompts)
    assert {grid.anchor for grid, _ in look.asked} == {14, 26}
    for grid, masks in look.asked:
        assert set(masks) == {14, 26}
        assert all(mask.shape == grid.region.shape_yx for mask in masks.values())
    assert 9 <= min(found) <= 11
    assert 29 <= max(found) <= 31
    assert set(found) == set(range(min(found), max(found) + 1))


def _boxed(*anchors):
    box = Box(18, 18, 30, 30)
    return ObjectPrompts(1, boxes=tuple(BoxPrompt(anchor, box) for anchor in anchors))


def test_beyond_even_prompts_it_is_believed_less_the_further_it_goes(make_looking, column):
    prompts = _boxed(14, 20, 26)
    doubting = make_looking(BrightLook(), predicted_iou=0.3)
    found = {
        doubt: _slices(doubting, column, prompts, PropagationConfig(coarse_gap_doubt=doubt))
        for doubt in (0.0, 0.5, 2.0)
    }
    assert set(found[0.0]) == set(range(40))
    assert set(range(14, 27)) < set(found[2.0]) < set(found[0.5]) < set(found[0.0])
    assert max(found[2.0]) <= 26 + 2 * 3


def test_uneven_prompts_say_less_of_the_end_than_even_ones(make_looking, column):
    doubting = make_looking(BrightLook(), predicted_iou=0.3)
    even = _slices(doubting, column, _boxed(16, 18, 20))
    uneven = _slices(doubting, column, _boxed(10, 18, 20))
    assert max(even) < max(uneven)


def test_a_second_prompt_ends_nothing(make_looking, column):
    doubting = make_looking(BrightLook(), predicted_iou=0.3)
    assert set(_slices(doubting, column, _boxed(18, 20))) == set(range(40))


def test_between_two_prompts_the_network_gets_what_it_proposes(make_looking, column):
    seen = []

    class Attentive(make_looking):
        def predict_windows(self, windows, prompts):
            seen.extend(p.mask_logits_model for p in prompts)
            return super().predict_windows(windows, prompts)

    box = Box(18, 18, 30, 30)
    prompts = ObjectPrompts(1, boxes=(BoxPrompt(10, box), BoxPrompt(30, box)))
    answers = {}
    for weight in (0.0, 2.0):
        seen.clear()
        config = PropagationConfig(coarse_weight=weight)
        _slices(Attentive(BrightLook()), column, prompts, config)
        between = [m for m in seen if m is not None and m[1].any() and not m[0].any()]
        answers[weight] = max(float(m[1].max()) for m in between)
    assert answers[2.0] > answers[0.0]


def test_the_published_predictor_takes_none(make_looking, column):
    look = BrightLook()
    config = PropagationConfig(compat="published")
    _slices(make_looking(look), column, _object(20, Box(18, 18, 30, 30)), config)
    assert not look.asked
    assert replace(config, compat=None).coarse_look


def test_cancelled_while_it_looks(make_looking, column):
    cancel = threading.Event()

    class Slow(BrightLook):
        def __call__(self, grid, read_plane, masks):
            cancel.set()
            return super().__call__(grid, read_plane, masks)

    found = _slices(make_looking(Slow()), column, _object(20, Box(18, 18, 30, 30)), cancel=cancel)
    assert found
    assert len(found) < 5


def test_values_that_are_no_numbers(column):
    image = np.array(column.data)
    image[18:22, 20:24, 20:24] = np.nan
    image[25] = np.inf
    slices = SliceCache(Volume(image).along(0))
    patch = LogitPatch.from_mask(image[10] > 0)
    box = Box(18, 18, 30, 30)
    proposal = Proposal.of(embedded_look(), slices, 20, box, {20: patch}, lambda: False)
    assert proposal is not None
    assert np.isfinite(proposal.logits).all()


def test_the_embedded_network_takes_it(column):
    model = load_weights(EMBEDDED_PATH)
    assert isinstance(model, CoarseModel)
    assert model.coarse is embedded_look()
    assert not any("coarse" in name for name in model.state_dict())
