"""Propagation with a network whose answers are known."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.results import StopReason
from napari_slidesam.errors import InferenceError, PromptError
from napari_slidesam.geometry import Box, mask_to_box
from napari_slidesam.intensity import Intensity
from napari_slidesam.metrics import dice
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt
from napari_slidesam.volume import Volume

LIMITS = Intensity("limits", 0, 100)
# The ball's caps are a few pixels: its area grows fast there, which is not drift.
CONFIG = PropagationConfig(
    intensity=LIMITS, opening_radius_px=0, max_area_ratio=20, box_margin=0.3, min_stability=0.3
)


def box_of(labels, object_id, index, axis=0):
    box = mask_to_box(np.take(labels, index, axis=axis) == object_id)
    assert box is not None
    return box


def boxes_of(labels, object_id, *indices, axis=0):
    return tuple(BoxPrompt(i, box_of(labels, object_id, i, axis)) for i in indices)


def finals(results):
    return [r for r in results if r.is_final]


def to_mask(results, shape, object_id=1):
    out = np.zeros(shape, dtype=bool)
    for r in finals(results):
        if r.object_id != object_id:
            continue
        plane = np.moveaxis(out, r.axis, 0)[r.slice_index]
        plane[r.region.slices] = r.mask
    return out


def stops_of(results, object_id=1):
    return {
        (r.slice_index, s.direction): s.reason
        for r in results
        for s in r.stops
        if r.object_id == object_id
    }


def test_one_box_gives_the_whole_ball(predictor, volume, balls):
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 14))]
    results = list(propagate(predictor, volume, prompts, CONFIG))
    assert dice(to_mask(results, balls.shape), balls == 1) > 0.95
    assert not to_mask(results, balls.shape)[:6].any()


def test_prompted_slice_comes_first_as_preview_and_each_slice_once_as_final(
    predictor, volume, balls
):
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 14))]
    results = list(propagate(predictor, volume, prompts, CONFIG))
    assert results[0].slice_index == 14
    assert results[0].is_prompted
    assert not results[0].is_final
    last = [r.slice_index for r in finals(results)]
    assert len(last) == len(set(last))
    assert sorted(last) == list(range(min(last), max(last) + 1))


def test_stops_are_named_at_both_ends(predictor, volume, balls):
    results = list(propagate(predictor, volume, [ObjectPrompts(1, boxes_of(balls, 1, 14))], CONFIG))
    stops = stops_of(results)
    assert {direction for _, direction in stops} == {-1, 1}
    assert set(stops.values()) == {StopReason.EMPTY}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis(predictor, volume, balls, axis):
    index = (14, 18, 16)[axis]
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, index, axis=axis), axis=axis)]
    results = list(propagate(predictor, volume, prompts, CONFIG))
    assert {r.axis for r in results} == {axis}
    assert dice(to_mask(results, balls.shape), balls == 1) > 0.95


def test_several_objects_share_batches(make_model, volume, balls):
    model = make_model()
    prompts = [
        ObjectPrompts(1, boxes_of(balls, 1, 14)),
        ObjectPrompts(2, boxes_of(balls, 2, 16)),
    ]
    results = list(propagate(Predictor(model), volume, prompts, CONFIG))
    assert max(model.batches) == 4  # two objects, two directions
    for object_id in (1, 2):
        assert dice(to_mask(results, balls.shape, object_id), balls == object_id) > 0.93


def test_result_does_not_depend_on_company(predictor, volume, balls):
    one = ObjectPrompts(1, boxes_of(balls, 1, 14))
    two = ObjectPrompts(2, boxes_of(balls, 2, 16))
    alone = to_mask(list(propagate(predictor, volume, [one], CONFIG)), balls.shape)
    together = to_mask(list(propagate(predictor, volume, [one, two], CONFIG)), balls.shape)
    np.testing.assert_array_equal(alone, together)


def test_several_boxes_of_one_object_meet(predictor, volume, balls):
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 9, 14, 19))]
    results = list(propagate(predictor, volume, prompts, CONFIG))
    reasons = list(stops_of(results).values())
    assert reasons.count(StopReason.MET_PROMPT) == 4
    assert dice(to_mask(results, balls.shape), balls == 1) > 0.95


def test_box_on_every_slice(predictor, volume, balls):
    indices = np.flatnonzero((balls == 1).any(axis=(1, 2)))
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, *indices))]
    results = list(propagate(predictor, volume, prompts, CONFIG))
    assert dice(to_mask(results, balls.shape), balls == 1) > 0.95


def test_gap_between_two_boxes_is_never_left_open(predictor, balls):
    image = (balls > 0).astype(np.float32) * 100
    image[14:16] = 0  # slices lost by the microscope
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 11, 18))]
    results = list(propagate(predictor, Volume(image), prompts, CONFIG))
    assert {14, 15} <= {r.slice_index for r in finals(results)}


def test_points_alone_find_the_ball(predictor, volume, balls):
    prompts = [ObjectPrompts(1, points=(PointPrompt(14, 18, 16),))]
    results = list(propagate(predictor, volume, prompts, CONFIG))
    assert dice(to_mask(results, balls.shape), balls == 1) > 0.9


def test_negative_point_refines_a_later_slice(predictor, volume, balls):
    boxes = boxes_of(balls, 1, 14)
    plain = to_mask(
        list(propagate(predictor, volume, [ObjectPrompts(1, boxes)], CONFIG)), balls.shape
    )
    refined = ObjectPrompts(1, boxes, points=(PointPrompt(17, 18, 16, positive=False),))
    mask = to_mask(list(propagate(predictor, volume, [refined], CONFIG)), balls.shape)
    assert mask[17].sum() < plain[17].sum()


def test_positive_point_carries_the_mask_across_a_doubtful_slice(predictor, balls):
    image = (balls > 0).astype(np.float32) * 100
    image[17] = 0
    boxes = boxes_of(balls, 1, 14)
    without = list(propagate(predictor, Volume(image), [ObjectPrompts(1, boxes)], CONFIG))
    assert max(r.slice_index for r in finals(without)) < 18
    prompts = ObjectPrompts(1, boxes, points=(PointPrompt(19, 18, 16),))
    reached = list(propagate(predictor, Volume(image), [prompts], CONFIG))
    assert to_mask(reached, balls.shape)[19].any()


def test_mask_prompt_is_kept_as_given(predictor, volume, balls):
    given = balls[14] == 1
    given[18, 16] = False
    prompts = [ObjectPrompts(1, masks=(MaskPrompt(14, given),))]
    mask = to_mask(list(propagate(predictor, volume, prompts, CONFIG)), balls.shape)
    np.testing.assert_array_equal(mask[14], given)
    assert mask[10].any()


def test_z_range_stops_and_is_named(predictor, volume, balls):
    config = PropagationConfig.from_dict({**CONFIG.to_dict(), "z_range": [12, 17]})
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 14))]
    results = list(propagate(predictor, volume, prompts, config))
    assert [r.slice_index for r in sorted(finals(results), key=lambda r: r.slice_index)] == [
        12, 13, 14, 15, 16,
    ]  # fmt: skip
    assert stops_of(results) == {(12, -1): StopReason.Z_RANGE, (16, 1): StopReason.Z_RANGE}


def test_extent_zero_segments_the_prompted_slice_only(predictor, volume, balls):
    config = PropagationConfig.from_dict({**CONFIG.to_dict(), "max_extent_slices": 0})
    results = list(propagate(predictor, volume, [ObjectPrompts(1, boxes_of(balls, 1, 14))], config))
    assert [r.slice_index for r in finals(results)] == [14]


def test_end_of_volume(predictor):
    image = np.zeros((6, 40, 40), dtype=np.float32)
    image[:, 10:25, 12:30] = 100
    prompts = [ObjectPrompts(1, (BoxPrompt(3, Box(10, 12, 25, 30)),))]
    results = list(propagate(predictor, Volume(image), prompts, CONFIG))
    assert stops_of(results) == {
        (0, -1): StopReason.END_OF_VOLUME,
        (5, 1): StopReason.END_OF_VOLUME,
    }
    assert dice(to_mask(results, image.shape), image > 0) > 0.97


def test_low_predicted_iou_stops(make_model, volume, balls):
    predictor = Predictor(make_model(predicted_iou=0.3))
    results = list(propagate(predictor, volume, [ObjectPrompts(1, boxes_of(balls, 1, 14))], CONFIG))
    assert [r.slice_index for r in finals(results)] == [14]
    assert set(stops_of(results).values()) == {StopReason.PREDICTED_IOU}


def test_unstable_mask_stops(make_model, volume, balls):
    predictor = Predictor(make_model(steepness=0.1))
    config = PropagationConfig.from_dict({**CONFIG.to_dict(), "min_stability": 0.6})
    results = list(propagate(predictor, volume, [ObjectPrompts(1, boxes_of(balls, 1, 14))], config))
    assert set(stops_of(results).values()) == {StopReason.STABILITY}


def test_drift_stops(predictor):
    image = np.zeros((8, 60, 60), dtype=np.float32)
    image[:5, 25:33, 25:33] = 100
    image[5:, 15:43, 15:43] = 100  # a vessel that runs into an organ
    config = PropagationConfig.from_dict(
        {**CONFIG.to_dict(), "max_area_ratio": 2.0, "box_margin": 0.5}
    )
    prompts = [ObjectPrompts(1, (BoxPrompt(2, Box(25, 25, 33, 33)),))]
    results = list(propagate(predictor, Volume(image), prompts, config))
    assert stops_of(results)[4, 1] is StopReason.DRIFT


def test_presence_counts_as_empty(make_model, volume, balls):
    predictor = Predictor(make_model(presence=True))
    results = list(propagate(predictor, volume, [ObjectPrompts(1, boxes_of(balls, 1, 14))], CONFIG))
    assert set(stops_of(results).values()) == {StopReason.EMPTY}
    assert dice(to_mask(results, balls.shape), balls == 1) > 0.9


def test_nothing_found_is_a_result_not_an_error(predictor):
    image = np.zeros((5, 30, 30), dtype=np.float32)
    prompts = [ObjectPrompts(1, (BoxPrompt(2, Box(5, 5, 15, 15)),))]
    (result,) = finals(propagate(predictor, Volume(image), prompts, CONFIG))
    assert not result.mask.any()
    assert {s.reason for s in result.stops} == {StopReason.EMPTY}


def test_cancel_leaves_every_slice_final_and_named(predictor, volume, balls):
    cancel = threading.Event()
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 14))]
    seen = []
    for result in propagate(predictor, volume, prompts, CONFIG, cancel=cancel):
        seen.append(result)
        if len(seen) == 4:
            cancel.set()
    assert StopReason.CANCELLED in stops_of(seen).values()
    indices = sorted(r.slice_index for r in finals(seen))
    assert indices == list(range(indices[0], indices[-1] + 1))
    assert len(indices) < 17


def test_cancel_before_the_start(predictor, volume, balls):
    cancel = threading.Event()
    cancel.set()
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 14))]
    assert list(propagate(predictor, volume, prompts, CONFIG, cancel=cancel)) == []


def test_cancel_before_every_anchor_is_seen(make_model, volume, balls):
    cancel = threading.Event()
    predictor = Predictor(make_model(), max_batch=1)
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 10, 14, 18))]
    results = []
    for result in propagate(predictor, volume, prompts, CONFIG, cancel=cancel):
        results.append(result)
        cancel.set()
    assert set(stops_of(results).values()) == {StopReason.CANCELLED}
    assert 10 in {r.slice_index for r in finals(results)}


def test_two_dimensional_image_is_one_slice(predictor, balls):
    image = (balls[14] > 0).astype(np.uint8) * 100
    prompts = [ObjectPrompts(1, boxes_of(balls[14:15], 1, 0))]
    results = finals(propagate(predictor, Volume(image), prompts, CONFIG))
    assert [r.slice_index for r in results] == [0]
    assert dice(to_mask(results, (1, *image.shape))[0], balls[14] == 1) > 0.95


def test_thick_slices_are_bridged(predictor, balls):
    thin = (balls > 0).astype(np.float32) * 100
    thick = Volume(thin[2::4], spacing_zyx=(4.0, 1.0, 1.0))
    config = PropagationConfig.from_dict({**CONFIG.to_dict(), "max_step_ratio": 1.0})
    prompts = [ObjectPrompts(1, boxes_of(balls[2::4], 1, 3))]
    results = list(propagate(predictor, thick, prompts, config))
    mask = to_mask(results, thick.shape_zyx)
    assert dice(mask, balls[2::4] == 1) > 0.85
    indices = [r.slice_index for r in finals(results)]
    assert len(indices) == len(set(indices))


@pytest.mark.parametrize("dtype", [">i2", "<u2", ">f4", "f8", "u1", "f2", "bool"])
def test_any_number_type(predictor, balls, dtype):
    brightest = 1 if dtype == "bool" else 100
    image = ((balls > 0) * brightest).astype(dtype)
    intensity = {"kind": "limits", "lower": 0, "upper": brightest}
    config = PropagationConfig.from_dict({**CONFIG.to_dict(), "intensity": intensity})
    results = list(
        propagate(predictor, Volume(image), [ObjectPrompts(1, boxes_of(balls, 1, 14))], config)
    )
    assert dice(to_mask(results, balls.shape), balls == 1) > 0.95


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(predictor, balls, bad):
    image = (balls > 0).astype(np.float32) * 100
    image[:, :4] = bad
    results = list(
        propagate(predictor, Volume(image), [ObjectPrompts(1, boxes_of(balls, 1, 14))], CONFIG)
    )
    assert dice(to_mask(results, balls.shape), balls == 1) > 0.95


@pytest.mark.parametrize("kind", ["window", "ct", "mr", "percentiles"])
def test_constant_volume(predictor, kind):
    image = np.full((3, 20, 20), 7, dtype=np.int16)
    config = PropagationConfig(intensity=Intensity(kind))
    prompts = [ObjectPrompts(1, (BoxPrompt(1, Box(2, 2, 9, 9)),))]
    results = list(propagate(predictor, Volume(image), prompts, config))
    assert results[-1].is_final


@pytest.mark.parametrize("n_slices", [1, 2])
def test_one_or_two_slices(predictor, balls, n_slices):
    image = (balls[14 : 14 + n_slices] > 0).astype(np.float32) * 100
    prompts = [ObjectPrompts(1, boxes_of(balls[14:15], 1, 0))]
    results = finals(propagate(predictor, Volume(image), prompts, CONFIG))
    assert len(results) == n_slices


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([], "at least one object"),
        ([ObjectPrompts(1, (BoxPrompt(99, Box(1, 1, 5, 5)),))], "slices 0 to 29"),
        ([ObjectPrompts(1, (BoxPrompt(-1, Box(1, 1, 5, 5)),))], "slices 0 to 29"),
        ([ObjectPrompts(1, (BoxPrompt(3, Box(100, 1, 105, 5)),))], "outside the plane"),
        ([ObjectPrompts(1, points=(PointPrompt(3, 1, 400),))], "outside the plane"),
        ([ObjectPrompts(1, masks=(MaskPrompt(3, np.ones((4, 4), bool)),))], "has shape"),
        ([ObjectPrompts(1, (BoxPrompt(3, Box(1, 1, 5, 5)),))] * 2, "given twice"),
    ],
)
def test_bad_prompts_are_refused_before_anything_runs(make_model, volume, prompts, words):
    model = make_model()
    with pytest.raises(PromptError, match=words):
        next(propagate(Predictor(model), volume, prompts, CONFIG))
    assert model.batches == []


def test_prompt_outside_the_z_range_is_refused(predictor, volume, balls):
    config = PropagationConfig(z_range=(0, 10))
    with pytest.raises(PromptError, match="z-range"):
        next(propagate(predictor, volume, [ObjectPrompts(1, boxes_of(balls, 1, 14))], config))


def test_box_partly_outside_is_used(predictor):
    image = np.zeros((3, 30, 30), dtype=np.float32)
    image[:, :10, :10] = 100
    prompts = [ObjectPrompts(1, (BoxPrompt(1, Box(-6, -6, 10, 10)),))]
    results = list(propagate(predictor, Volume(image), prompts, CONFIG))
    assert dice(to_mask(results, image.shape), image > 0) > 0.9


def test_failing_network_loses_nothing(make_model, volume, balls):
    class Failing(make_model):
        def predict_windows(self, windows, prompts):
            if len(self.batches) == 3:
                raise RuntimeError("broken kernel")
            return super().predict_windows(windows, prompts)

    seen = []
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 14))]
    with pytest.raises(InferenceError, match="broken kernel"):
        seen.extend(propagate(Predictor(Failing()), volume, prompts, CONFIG))
    assert seen
    assert all(r.mask.any() for r in seen)


def test_same_prompts_give_the_same_masks(predictor, volume, balls):
    prompts = [ObjectPrompts(1, boxes_of(balls, 1, 10, 16))]
    first = to_mask(list(propagate(predictor, volume, prompts, CONFIG)), balls.shape)
    second = to_mask(list(propagate(predictor, volume, prompts, CONFIG)), balls.shape)
    np.testing.assert_array_equal(first, second)


def test_quality_is_in_range(predictor, volume, balls):
    for r in propagate(predictor, volume, [ObjectPrompts(1, boxes_of(balls, 1, 14))], CONFIG):
        for value in (r.quality.predicted_iou, r.quality.stability_score, r.quality.agreement):
            assert 0.0 <= value <= 1.0


class Recording(Predictor):
    """Keeps what it is asked for."""

    def __init__(self, model):
        super().__init__(model)
        self.requests = []

    def predict(self, requests, ahead=()):
        requests = list(requests)
        self.requests += requests
        return super().predict(requests, ahead)


def asked_for(make_model, volume, boxes, **changes):
    predictor = Recording(make_model())
    config = replace(CONFIG, **changes)
    list(propagate(predictor, volume, [ObjectPrompts(1, boxes)], config))
    return predictor.requests


def test_prompted_slices_are_seen_a_second_time_with_their_own_mask(make_model, volume, balls):
    boxes = boxes_of(balls, 1, 15)
    requests = asked_for(make_model, volume, boxes)
    first, second = (r for r in requests if r.position == 15)
    assert first.masks == (None, None, None)
    assert second.masks[1] is not None
    assert second.masks[1].mask.any()
    once = asked_for(make_model, volume, boxes, refine_prompted=False)
    assert sum(r.position == 15 for r in once) == 1


def test_masks_handed_on_are_less_certain_than_they_were(make_model, volume, balls):
    boxes = boxes_of(balls, 1, 15)
    strong, weak = (
        next(
            r.masks
            for r in asked_for(make_model, volume, boxes, carried_confidence=confidence)
            if r.position == 16
        )
        for confidence in (1.0, 0.25)
    )
    for certain, softer in zip(strong[:2], weak[:2], strict=True):
        np.testing.assert_allclose(softer.logits, 0.25 * certain.logits, rtol=1e-5)
    none = asked_for(make_model, volume, boxes, carry_masks=False)
    assert all(r.masks == (None, None, None) for r in none if r.position != 15)


def test_between_two_boxes_the_interpolated_shape_is_the_mask_prompt(make_model, volume, balls):
    boxes = boxes_of(balls, 1, 12, 18)
    inner = [r for r in asked_for(make_model, volume, boxes) if r.position == 15]
    assert inner
    for request in inner:
        assert request.masks[0] is None
        assert request.masks[2] is None
        plane = np.zeros(balls.shape[1:], dtype=bool)
        plane[request.masks[1].region.slices] = request.masks[1].mask
        assert dice(plane, balls[15] == 1) > 0.85
    carried = asked_for(make_model, volume, boxes, interpolate_shapes=False)
    assert any(r.masks[0] is not None for r in carried if r.position == 15)


def trust_of(predictor, volume, prompts, config):
    found = finals(propagate(predictor, volume, [prompts], config))
    return {r.slice_index: r.quality.predicted_iou for r in found}


def test_trust_in_the_prompt_is_handed_on_and_falls_with_the_distance(predictor, volume, balls):
    prompts = ObjectPrompts(1, boxes_of(balls, 1, 14))
    trust = trust_of(predictor, volume, prompts, CONFIG)
    own = trust_of(predictor, volume, prompts, replace(CONFIG, prompt_trust=0.0))
    assert trust[14] == own[14]
    ahead = [trust[i] for i in range(14, 21)]
    assert ahead == sorted(ahead, reverse=True)
    assert own[19] == pytest.approx(own[14], abs=0.02)
    far = 0.6 * own[19] + 0.4 * (own[14] - 0.25 * 5 / (box_of(balls, 1, 14).height / 2))
    assert trust[19] == pytest.approx(far, abs=0.02)


def test_what_slides_from_a_given_mask_is_trusted_more(predictor, volume, balls):
    drawn = ObjectPrompts(1, boxes_of(balls, 1, 14))
    given = ObjectPrompts(1, masks=(MaskPrompt(14, balls[14] == 1),))
    by_box, by_mask = (trust_of(predictor, volume, p, CONFIG) for p in (drawn, given))
    for index in range(15, 20):
        assert by_mask[index] > by_box[index] + 0.02
