from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.objects import PlaneMask
from napari_slidesam.engine.results import StopReason, TrackStop
from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.evaluation.planar import otsu_in_box
from napari_slidesam.evaluation.sliding import trace_sliding
from napari_slidesam.evaluation.tracing import BoxTask
from napari_slidesam.geometry import Box, Region
from napari_slidesam.metrics import dice


def threshold(plane, box):
    """What is over 0.5 in the box, exactly."""
    region = box.outer_region(plane.shape)
    return PlaneMask(region, plane[region.slices] > 0.5)


def task_of(image, boxes):
    return BoxTask(image, (1.0, 1.0, 1.0), boxes)


def found(trace, shape):
    return PlacedMask.from_planes(trace.planes).to_array(shape)


@pytest.fixture
def tube():
    """A tube that moves one pixel a slice from slice 3 to 16."""
    image = np.zeros((20, 40, 50), np.float32)
    for z in range(3, 17):
        image[z, 10 + z : 22 + z, 15:30] = 1
    return image


def test_slides_to_both_ends(tube):
    trace = trace_sliding(task_of(tube, {8: Box(17, 14, 31, 31)}), threshold)
    # The box grows by 5 % a side, less than the tube moves: a pixel's row is lost at times.
    assert sorted(trace.planes) == [*range(3, 17)]
    assert trace.stops == (TrackStop(-1, StopReason.EMPTY), TrackStop(1, StopReason.EMPTY))


def test_otsu_finds_a_noisy_tube(tube):
    noisy = tube + np.random.default_rng(0).normal(0, 0.1, tube.shape).astype(np.float32)
    trace = trace_sliding(task_of(noisy, {8: Box(17, 14, 31, 31)}), otsu_in_box)
    assert dice(found(trace, tube.shape)[3:17], tube[3:17]) > 0.98


def test_the_end_of_the_volume(tube):
    trace = trace_sliding(task_of(tube[5:12], {2: Box(16, 14, 30, 31)}), threshold)
    assert sorted(trace.planes) == [*range(7)]
    assert {s.reason for s in trace.stops} == {StopReason.END_OF_VOLUME}


@pytest.mark.parametrize("second", [13, 14], ids=["even", "odd"])
def test_prompts_meet_halfway(tube, second):
    asked = []

    def segment(plane, box):
        asked.append(int(plane.sum()))
        return threshold(plane, box)

    image = tube.copy()
    image[:] = 0
    image[:, 10:20, 10:20] = 1
    image[:, 0, 0] = np.arange(20) * 10  # a mark of the slice, outside the box
    boxes = {6: Box(9, 9, 21, 21), second: Box(9, 9, 21, 21)}
    trace = trace_sliding(task_of(image, boxes), segment)
    slices = [(a - 100) // 10 for a in asked]
    assert sorted(slices) == [*range(20)], "each slice once"
    assert slices.index(second) > slices.index((6 + second) // 2)
    assert slices.index(second) < slices.index((6 + second) // 2 + 1)
    assert [s.reason.value for s in trace.stops] == [
        "end-of-volume", "met-prompt", "met-prompt", "end-of-volume",
    ]  # fmt: skip


def test_neighbouring_prompts_leave_nothing_between(tube):
    boxes = {z: Box(9 + z, 14, 23 + z, 31) for z in range(3, 17)}
    trace = trace_sliding(task_of(tube, boxes), threshold)
    assert np.array_equal(found(trace, tube.shape), tube > 0)


def test_a_jump_in_area_stops():
    image = np.zeros((9, 60, 60), np.float32)
    image[:6, 20:30, 20:30] = 1
    image[6:, :, :] = 1

    def greedy(plane, box):
        return PlaneMask(Region(0, 0, 60, 60), plane > 0.5)

    trace = trace_sliding(task_of(image, {3: Box(19, 19, 31, 31)}), greedy)
    assert sorted(trace.planes) == [*range(6)]
    assert trace.stops[1] == TrackStop(1, StopReason.DRIFT)


def test_a_jump_aside_stops():
    image = np.zeros((9, 60, 60), np.float32)
    image[:6, 20:30, 20:30] = 1
    image[6:, 30:40, 30:40] = 1

    def greedy(plane, box):
        return PlaneMask(Region(0, 0, 60, 60), plane > 0.5)

    task = task_of(image, {3: Box(19, 19, 31, 31)})
    assert sorted(trace_sliding(task, greedy).planes) == [*range(6)]
    patient = PropagationConfig(max_centroid_shift=1.1)
    assert sorted(trace_sliding(task, greedy, patient).planes) == [*range(9)]


def test_nothing_on_the_prompted_slice():
    trace = trace_sliding(task_of(np.zeros((5, 9, 9)), {2: Box(1, 1, 8, 8)}), threshold)
    assert not found(trace, (5, 9, 9)).any()
    assert [s.reason for s in trace.stops] == [StopReason.EMPTY] * 2


def test_opening_cuts_a_thread_off():
    """A one-pixel thread to the side must not widen the next box."""
    image = np.zeros((3, 40, 60), np.float32)
    image[:, 10:20, 10:20] = 1
    image[0, 14, 20:40] = 1
    image[1, 12:18, 30:40] = 1
    boxes = []

    def segment(plane, box):
        boxes.append(box)
        return threshold(plane, box)

    trace_sliding(task_of(image, {0: Box(9, 9, 21, 41)}), segment)
    assert boxes[1].x1 < 22
