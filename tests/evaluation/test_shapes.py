from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.evaluation.protocols import make_prompts
from napari_slidesam.evaluation.shapes import inside_ellipse, trace_box, trace_ellipse
from napari_slidesam.evaluation.tracing import BoxTask
from napari_slidesam.geometry import Box
from napari_slidesam.metrics import dice


def ellipsoid(shape, centre, semi_axes):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    parts = zip(grid, centre, semi_axes, strict=True)
    return sum(((g - c) / r) ** 2 for g, c, r in parts) <= 1.0


def found(trace, shape):
    return PlacedMask.from_planes(trace.planes).to_array(shape)


def task_of(truth, protocol, spacing_syx=(1.0, 1.0, 1.0)):
    prompts = make_prompts(
        protocol,
        PlacedMask.from_array(truth),
        volume_name="v",
        object_id=1,
        axis=0,
        plane_shape_yx=truth.shape[1:],
        jitter=0.0,
    )
    return BoxTask.from_prompts(np.zeros(truth.shape), spacing_syx, prompts)


def test_one_box_gives_the_ellipsoid():
    truth = ellipsoid((41, 60, 70), (20, 28, 33), (8.2, 15.2, 17.2))
    # The depth of an ellipsoid from one box is its mean side: 32.4 px of 0.5 is 8.1 slices.
    trace = trace_ellipse(task_of(truth, "1-box", (1.0, 0.5, 0.5)))
    assert dice(found(trace, truth.shape), truth) > 0.97
    assert sorted(trace.planes) == list(range(12, 29))


@pytest.mark.parametrize(("protocol", "least"), [("3-box", 0.95), ("5-box", 0.97), ("n-box", 0.97)])
def test_several_boxes_give_any_ellipsoid(protocol, least):
    truth = ellipsoid((61, 60, 70), (30, 28, 33), (27.3, 15.2, 9.2))
    trace = trace_ellipse(task_of(truth, protocol))
    assert dice(found(trace, truth.shape), truth) > least
    extent = np.flatnonzero(truth.any((1, 2)))
    assert abs(min(trace.planes) - extent[0]) <= 1
    assert abs(max(trace.planes) - extent[-1]) <= 1


@pytest.mark.parametrize("protocol", ["3-box", "5-box", "n-box"])
def test_boxes_swept_give_a_slanted_prism(protocol):
    truth = np.zeros((49, 50, 80), bool)
    for z in range(2, 47):
        truth[z, 10:30, 5 + z : 25 + z] = True
    trace = trace_box(task_of(truth, protocol))
    # Straight beyond the outer boxes: up to 7 px beside the slanted ends by 3 boxes.
    assert dice(found(trace, truth.shape), truth) > (0.999 if protocol == "n-box" else 0.9)
    assert sorted(trace.planes) == list(range(2, 47))


def test_one_box_swept_is_as_deep_as_its_mean_side():
    truth = np.zeros((60, 60, 60), bool)
    truth[20:41, 10:30, 10:50] = True
    trace = trace_box(task_of(truth, "1-box", (3.0, 1.0, 2.0)))
    # Mean side (20 * 1 + 40 * 2) / 2 = 50, by 3 a slice: within 8.33 of slice 30.
    assert sorted(trace.planes) == list(range(22, 39))
    assert all(plane.mask.sum() == 800 for plane in trace.planes.values())


def test_slices_of_a_thick_stack():
    truth = np.zeros((9, 30, 30), bool)
    truth[3:6, 10:20, 10:20] = True
    for trace in (trace_box, trace_ellipse):
        planes = trace(task_of(truth, "1-box", (50.0, 1.0, 1.0))).planes
        assert sorted(planes) == [4]
        assert planes[4].mask.any()


def test_shapes_stay_in_the_volume():
    truth = np.zeros((6, 12, 12), bool)
    truth[:, :10, :4] = True
    for protocol in ("1-box", "3-box"):
        for trace in (trace_box, trace_ellipse):
            mask = found(trace(task_of(truth, protocol, (0.5, 1.0, 1.0))), truth.shape)
            assert mask.any()


def test_an_ellipse_in_a_box():
    inside = inside_ellipse(Box(0, 0, 100, 60), 0, 0, (100, 60))
    assert inside.sum() == pytest.approx(np.pi * 50 * 30, rel=0.01)
    assert not inside[0, 0]
    assert inside[50, 0]
    moved = inside_ellipse(Box(7, 9, 107, 69), 7, 9, (100, 60))
    assert np.array_equal(moved, inside)
