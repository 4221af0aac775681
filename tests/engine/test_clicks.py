"""The click look: when it is asked, and what its answer changes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.geometry import Box
from napari_slidesam.metrics import dice
from napari_slidesam.model.click.look import embedded_look
from napari_slidesam.model.protocol import ClickModel
from napari_slidesam.model.weights import EMBEDDED_PATH, load_weights
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt

BALL_BOX = Box(10, 8, 27, 25)
"""Of the first ball on its middle slice, 14."""
CLICK = PointPrompt(14, 18, 16)
BESIDE = PointPrompt(14, 30, 30, positive=False)


class KnownClick:
    """Answers with one box, and keeps what it was asked."""

    def __init__(self, answer=BALL_BOX):
        self.answer, self.asked = answer, []

    def box(self, positive_yx, negative_yx, plane_shape_yx, read):
        self.asked.append((list(positive_yx), list(negative_yx), plane_shape_yx))
        return self.answer


@pytest.fixture
def make_clicking(make_model):
    class Clicking(make_model):
        def __init__(self, click, **kwargs):
            super().__init__(**kwargs)
            self.click = click

    return Clicking


def previews(model, volume, prompts, config=None):
    results = propagate(Predictor(model), volume, [prompts], config)
    return {r.slice_index: r for r in results if not r.is_final}


def overlap(result, truth):
    mask = np.zeros(truth.shape, dtype=bool)
    mask[result.region.slices] = result.mask
    return dice(mask, truth)


def test_a_click_is_sized_before_the_network_is_asked(make_clicking, volume, balls):
    look = KnownClick()
    model = make_clicking(look)
    prompts = ObjectPrompts(1, points=(CLICK, BESIDE))
    found = previews(model, volume, prompts)
    assert look.asked == [([(18, 16)], [(30, 30)], balls.shape[1:])]
    assert model.batches[0] == 1, "one view instead of several"
    assert overlap(found[14], balls[14] == 1) > 0.9


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ({"boxes": (BoxPrompt(14, BALL_BOX),)}, None),
        ({}, PropagationConfig(click_look=False)),
        ({}, PropagationConfig(compat="published")),
    ],
)
def test_a_box_wins_and_it_can_be_turned_off(make_clicking, volume, given, config):
    look = KnownClick()
    previews(make_clicking(look), volume, ObjectPrompts(1, points=(CLICK,), **given), config)
    assert not look.asked


def test_a_mask_wins(make_clicking, volume, balls):
    look = KnownClick()
    prompts = ObjectPrompts(1, points=(CLICK,), masks=(MaskPrompt(14, balls[14] == 1),))
    previews(make_clicking(look), volume, prompts)
    assert not look.asked


def test_where_nothing_is_seen_the_views_decide(make_clicking, volume, balls):
    model = make_clicking(KnownClick(None))
    found = previews(model, volume, ObjectPrompts(1, points=(CLICK,)))
    assert sum(model.batches) > 3
    assert overlap(found[14], balls[14] == 1) > 0.9


def test_each_prompted_slice_is_looked_at(make_clicking, volume):
    look = KnownClick()
    points = (CLICK, PointPrompt(12, 18, 16))
    previews(make_clicking(look), volume, ObjectPrompts(1, points=points))
    assert len(look.asked) == 2


def test_networks_without_it_stay_as_they_are(make_model, volume, balls):
    model = make_model()
    assert not isinstance(model, ClickModel)
    found = previews(model, volume, ObjectPrompts(1, points=(CLICK,)))
    assert overlap(found[14], balls[14] == 1) > 0.9


def test_the_embedded_network_takes_it(volume, balls):
    model = load_weights(EMBEDDED_PATH)
    assert isinstance(model, ClickModel)
    assert model.click is embedded_look()
    assert not any("click" in name for name in model.state_dict())
    found = previews(model, volume, ObjectPrompts(1, points=(CLICK,)))
    assert overlap(found[14], balls[14] == 1) > 0.8


def test_values_that_are_no_numbers(make_clicking, volume):
    image = np.array(volume.data, dtype=np.float32)
    image[14, 5:9] = np.nan
    changed = type(volume)(image)
    assert previews(make_clicking(embedded_look()), changed, ObjectPrompts(1, points=(CLICK,)))
