"""The outline look: on which slices it is asked, and what its answer changes."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.errors import ConfigError
from napari_slidesam.geometry import Box, Region, mask_to_box
from napari_slidesam.metrics import dice
from napari_slidesam.model.outline.look import GLANCES, ONE_GLANCE, OutlineView, embedded_look
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.protocol import OutlineModel
from napari_slidesam.model.weights import EMBEDDED_PATH, load_weights
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt

BALL_BOX = Box(10, 8, 27, 25)
"""Of the first ball on its middle slice, 14."""
HALF = Region(8, 6, 18, 27)
"""Upper half of what the box's surroundings are, which the tests' look calls the object."""
SEEN = Region(5, 3, 32, 30)


class UpperHalf:
    """Says that the upper half of a part of the plane is the object, and keeps the questions."""

    def __init__(self):
        self.asked, self.glances = [], []

    def views(self, questions, glances=GLANCES):
        self.asked += questions
        self.glances += [glances] * len(questions)
        logits = np.full(SEEN.shape_yx, -6, dtype=np.float32)
        logits[HALF.within(SEEN)] = 6
        logits[-1] = np.nan
        return [OutlineView(LogitPatch(SEEN, logits), 0.9) for _ in questions]


@pytest.fixture
def make_outlining(make_model):
    class Outlining(make_model):
        def __init__(self, outline, **kwargs):
            super().__init__(**kwargs)
            self.outline = outline

    return Outlining


def boxed(*points):
    return ObjectPrompts(1, boxes=(BoxPrompt(14, BALL_BOX),), points=points)


def preview(model, volume, prompts, config=None, index=14):
    """Return the mask of a prompted slice, which alone is looked at."""
    config = replace(config or PropagationConfig(), slid_outline_weight=0.0)
    results = propagate(Predictor(model), volume, [prompts], config)
    (found,) = [r for r in results if not r.is_final and r.slice_index == index]
    mask = np.zeros(volume.along(prompts.axis).plane_shape_yx, dtype=bool)
    mask[found.region.slices] = found.mask
    return mask


@pytest.fixture
def half():
    mask = np.zeros((48, 56), dtype=bool)
    mask[HALF.slices] = True
    return mask


def test_both_are_averaged(make_outlining, volume, balls, half):
    look = UpperHalf()
    for weight, expected in ((1.0, half), (1e-6, balls[14] == 1)):
        config = PropagationConfig(outline_weight=weight)
        mask = preview(make_outlining(look), volume, boxed(), config)
        beyond = np.zeros_like(mask)
        beyond[SEEN.slices] = True
        assert dice(mask & beyond, expected & beyond) > 0.95
    assert {q.box for q in look.asked} == {BALL_BOX}
    assert {q.plane_shape_yx for q in look.asked} == {balls.shape[1:]}


def test_two_opinions_that_differ_are_trusted_less(make_outlining, make_model, volume):
    def trust(model):
        results = propagate(Predictor(model), volume, [boxed()])
        (found,) = [r for r in results if not r.is_final and r.slice_index == 14]
        return found.quality.predicted_iou

    alone = trust(make_model())
    assert trust(make_outlining(UpperHalf())) < alone


def test_slid_slices_on_which_two_opinions_differ_are_trusted_less(
    make_outlining, make_model, volume
):
    def trusts(model):
        config = PropagationConfig(prompt_trust=0.0, slid_outline_weight=0.5)
        results = propagate(Predictor(model), volume, [boxed()], config)
        return {r.slice_index: r.quality.predicted_iou for r in results if r.is_final}

    alone, both = trusts(make_model()), trusts(make_outlining(UpperHalf()))
    slid = sorted(set(alone) & set(both) - {14})
    assert len(slid) > 10
    own_iou = 0.9 / 1.1
    for index in slid:
        masks_iou = (both[index] / alone[index]) ** 6 / own_iou
        assert 0.05 < masks_iou < 0.6


def test_it_is_shown_the_slice_and_its_neighbours(make_outlining, volume):
    look = UpperHalf()
    preview(make_outlining(look), volume, boxed())
    (question,) = look.asked
    for offset in (-1, 0, 1):
        expected = volume.data[14 + offset][SEEN.slices]
        assert np.array_equal(question.read(offset, SEEN), expected)


@pytest.mark.parametrize("index", [0, 29])
def test_at_the_ends_of_a_volume_the_last_slice_is_repeated(make_outlining, volume, index):
    look = UpperHalf()
    data = np.array(volume.data)
    data[index] = data[14]
    prompts = ObjectPrompts(1, boxes=(BoxPrompt(index, BALL_BOX),))
    preview(make_outlining(look), type(volume)(data), prompts, index=index)
    beyond = 1 if index else -1
    assert np.array_equal(look.asked[0].read(beyond, SEEN), data[index][SEEN.slices])


@pytest.mark.parametrize(
    "config",
    [
        PropagationConfig(outline_look=False),
        PropagationConfig(outline_weight=0, slid_outline_weight=0),
        PropagationConfig(compat="published"),
    ],
)
def test_it_can_be_turned_off(make_outlining, volume, config):
    look = UpperHalf()
    finals(make_outlining(look), volume, boxed(), config)
    assert not look.asked


def finals(model, volume, prompts, config=None):
    """Return the finished masks by slice."""
    found = {}
    for result in propagate(Predictor(model), volume, [prompts], config):
        if result.is_final:
            mask = np.zeros(volume.along(prompts.axis).plane_shape_yx, dtype=bool)
            mask[result.region.slices] = result.mask
            found[result.slice_index] = mask
    return found


def test_each_prompted_slice_is_looked_at_as_it_is_prompted(make_outlining, volume):
    look = UpperHalf()
    prompts = ObjectPrompts(1, boxes=(BoxPrompt(10, BALL_BOX), BoxPrompt(16, BALL_BOX)))
    finals(make_outlining(look), volume, prompts, PropagationConfig(slid_outline_weight=0))
    assert look.glances == [GLANCES, GLANCES]


def test_each_other_slice_is_looked_at_once_when_it_is_finished(make_outlining, volume, balls):
    look = UpperHalf()
    config = PropagationConfig(outline_weight=1e-6, slid_outline_weight=1.0)
    masks = finals(make_outlining(look), volume, boxed(), config)
    plain = finals(
        make_outlining(UpperHalf()), volume, boxed(), PropagationConfig(outline_look=False)
    )
    assert set(masks) == set(plain)
    found = [i for i, mask in plain.items() if mask.any() and i != 14]
    assert len(found) > 10
    slid = [q for q, g in zip(look.asked, look.glances, strict=True) if g == ONE_GLANCE]
    assert sorted(q.box.yxyx for q in slid) == sorted(mask_to_box(plain[i]).yxyx for i in found)
    known = np.zeros(masks[14].shape, dtype=bool)
    known[SEEN.y0 : SEEN.y1 - 1, SEEN.x0 : SEEN.x1] = True
    for index in found:
        assert not masks[index][known & ~in_half(masks[index])].any()
    assert np.array_equal(masks[14], plain[14])


def in_half(mask):
    half = np.zeros_like(mask)
    half[HALF.slices] = True
    return half


def test_between_two_prompts_the_box_is_pulled_to_theirs(make_outlining, volume):
    wide = Box(4, 4, 32, 30)
    prompts = ObjectPrompts(1, boxes=(BoxPrompt(12, wide), BoxPrompt(16, wide)))
    asked = {}
    for pull in (0.0, 1.0):
        look = UpperHalf()
        config = PropagationConfig(prompt_interpolation=pull, z_range=(12, 17))
        finals(make_outlining(look), volume, prompts, config)
        slid = [q for q, g in zip(look.asked, look.glances, strict=True) if g == ONE_GLANCE]
        asked[pull] = {q.box for q in slid}
        assert len(slid) == 3
    assert asked[1.0] == {wide}
    assert wide not in asked[0.0]


def test_nothing_of_an_object_is_lost(make_outlining, volume):
    class Nothing(UpperHalf):
        def views(self, questions, glances=GLANCES):
            none = np.full(SEEN.shape_yx, -9, dtype=np.float32)
            return [OutlineView(LogitPatch(SEEN, none), 0.9) for _ in questions]

    config = PropagationConfig(outline_weight=1e-6, slid_outline_weight=1.0)
    plain = finals(
        make_outlining(UpperHalf()), volume, boxed(), PropagationConfig(outline_look=False)
    )
    drawn = finals(make_outlining(Nothing()), volume, boxed(), config)
    for index, mask in plain.items():
        assert drawn[index].any() == mask.any()


def test_a_way_point_is_shown(make_outlining, volume):
    look = UpperHalf()
    point = PointPrompt(17, 12, 16)
    finals(make_outlining(look), volume, boxed(point))
    assert [q.points for q in look.asked if q.points] == [(point,)]


def test_once_cancelled_nothing_more_is_looked_at(make_outlining, volume):
    look, cancel = UpperHalf(), threading.Event()
    results = propagate(Predictor(make_outlining(look)), volume, [boxed()], cancel=cancel)
    next(results)
    cancel.set()
    assert [r.slice_index for r in results if r.is_final]
    assert ONE_GLANCE not in look.glances


def test_a_given_mask_is_left_alone(make_outlining, volume, balls):
    look = UpperHalf()
    prompts = ObjectPrompts(1, masks=(MaskPrompt(14, balls[14] == 1),))
    preview(make_outlining(look), volume, prompts)
    assert not look.asked


@pytest.mark.parametrize(
    ("point", "is_heard"),
    [
        (PointPrompt(14, 12, 16), True),
        (PointPrompt(14, 24, 16), False),
        (PointPrompt(14, 12, 16, positive=False), False),
        (PointPrompt(14, 24, 16, positive=False), True),
    ],
)
def test_around_a_click_that_it_contradicts_it_is_not_heard(
    make_outlining, make_model, volume, point, is_heard
):
    config = PropagationConfig(outline_weight=1)
    look = UpperHalf()
    found = preview(make_outlining(look), volume, boxed(point), config)
    alone = preview(make_model(), volume, boxed(point), config)
    fully = preview(make_outlining(UpperHalf()), volume, boxed(), config)
    (question,) = look.asked
    assert question.points == (point,)
    y, x = int(point.y), int(point.x)
    assert found[y, x] == (fully if is_heard else alone)[y, x]
    rows, columns = np.indices(found.shape)
    far = np.hypot(rows - y, columns - x) > 12
    assert np.array_equal(found & far, fully & far)


def test_a_click_alone_is_drawn_in_the_box_that_it_was_found_to_mean(make_outlining, volume):
    class Click:
        def box(self, positive_yx, negative_yx, plane_shape_yx, read):
            return BALL_BOX

    look = UpperHalf()
    model = make_outlining(look)
    model.click = Click()
    preview(model, volume, ObjectPrompts(1, points=(PointPrompt(14, 12, 16),)))
    (question,) = look.asked
    assert question.box == BALL_BOX


@pytest.mark.parametrize("weight", [-0.1, 1.1])
@pytest.mark.parametrize("name", ["outline_weight", "slid_outline_weight", "prompt_trust"])
def test_a_weight_is_a_share(name, weight):
    with pytest.raises(ConfigError, match=f"{name} is a share between 0 and 1"):
        PropagationConfig(**{name: weight})


def test_networks_without_it_stay_as_they_are(make_model, volume, balls):
    model = make_model()
    assert not isinstance(model, OutlineModel)
    assert dice(preview(model, volume, boxed()), balls[14] == 1) > 0.9


def test_the_embedded_network_takes_it(volume, balls):
    model = load_weights(EMBEDDED_PATH)
    assert isinstance(model, OutlineModel)
    assert model.outline is embedded_look()
    assert not any("outline" in name for name in model.state_dict())
    with_it = preview(model, volume, boxed())
    without = preview(model, volume, boxed(), PropagationConfig(outline_look=False))
    assert dice(with_it, balls[14] == 1) > 0.9
    assert not np.array_equal(with_it, without)


def test_values_that_are_no_numbers(make_outlining, volume):
    data = np.array(volume.data, dtype=np.float32)
    data[14, 5:9] = np.nan
    assert preview(make_outlining(embedded_look()), type(volume)(data), boxed()).any()
