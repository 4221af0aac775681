from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.evaluation.protocols import (
    PROTOCOLS,
    innermost_point,
    jittered,
    make_prompts,
)
from napari_slidesam.geometry import Box


@pytest.fixture
def cuboid():
    mask = np.zeros((20, 40, 50), bool)
    mask[4:14, 10:30, 5:45] = True
    return PlacedMask.from_array(mask)


def prompts_of(truth, protocol, **options):
    given = {"volume_name": "v", "object_id": 2, "axis": 1, "plane_shape_yx": (40, 50)}
    return make_prompts(protocol, truth, **{**given, **options})


@pytest.mark.parametrize(
    ("protocol", "slices"),
    [
        ("1-box", (9,)),
        ("3-box", (5, 9, 12)),
        ("5-box", (5, 7, 9, 11, 13)),
        ("n-box", tuple(range(4, 14))),
        ("1-point", (9,)),
    ],
)
def test_slices_are_evenly_spaced(cuboid, protocol, slices):
    prompts = prompts_of(cuboid, protocol)
    assert prompts.anchor_slices == slices
    assert (prompts.object_id, prompts.axis) == (2, 1)


def test_only_slices_that_hold_the_object_are_prompted():
    mask = np.zeros((20, 8, 8), bool)
    mask[[2, 3, 15]] = True
    truth = PlacedMask.from_array(mask)
    assert prompts_of(truth, "n-box").anchor_slices == (2, 3, 15)
    assert prompts_of(truth, "1-box").anchor_slices == (3,)
    assert prompts_of(truth, "5-box").anchor_slices == (2, 3, 15)


def test_boxes_without_jitter_are_exact(cuboid):
    prompts = prompts_of(cuboid, "3-box", jitter=0.0)
    assert {p.box.yxyx for p in prompts.boxes} == {(10.0, 5.0, 30.0, 45.0)}


def test_jitter_is_a_share_of_the_side(cuboid):
    boxes = [prompts_of(cuboid, "1-box", seed=s).boxes[0].box.yxyx for s in range(300)]
    assert np.mean(boxes, axis=0) == pytest.approx((10, 5, 30, 45), abs=0.5)
    assert np.std(boxes, axis=0) == pytest.approx((1.0, 2.0, 1.0, 2.0), rel=0.15)


def test_a_box_depends_on_seed_volume_object_and_slice_alone(cuboid):
    def boxes(protocol="n-box", **options):
        return {p.slice_index: p.box for p in prompts_of(cuboid, protocol, **options).boxes}

    assert boxes() == boxes()
    assert boxes("5-box").items() <= boxes().items()
    assert len(set(boxes().values())) == 10
    others = [boxes(seed=1), boxes(volume_name="w"), boxes(object_id=3)]
    assert all(other[9] != boxes()[9] for other in others)


@given(
    st.integers(0, 2**32),
    st.floats(0, 1),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(1, 3),
    st.integers(1, 3),
)
@settings(max_examples=50, deadline=None)
def test_jittered_boxes_stay_in_the_plane(seed, share, y0, x0, height, width):
    shape = (12, 12)
    box = Box(y0, x0, y0 + height, x0 + width)
    noisy = jittered(box, np.random.default_rng(seed), share, shape)
    assert noisy.clipped(shape) == noisy
    assert min(noisy.height, noisy.width) >= 1 - 1e-9


def test_the_point_is_furthest_from_the_outline():
    mask = np.zeros((3, 20, 30), bool)
    mask[1, :, :4] = True
    mask[1, 5:16, 3:28] = True
    point = innermost_point(PlacedMask.from_array(mask), 1)
    assert point.y == 10.0, "the middle row of the block"
    assert 5 <= point.x <= 22
    assert point.positive


def test_the_rim_of_the_plane_is_an_outline():
    mask = np.ones((1, 9, 9), bool)
    point = innermost_point(PlacedMask.from_array(mask), 0)
    assert (point.y, point.x) == (4.0, 4.0)


def test_unknown_protocol(cuboid):
    assert PROTOCOLS == ("1-box", "3-box", "5-box", "n-box", "1-point")
    with pytest.raises(EvaluationError, match="2-box"):
        prompts_of(cuboid, "2-box")


def test_an_object_without_voxels():
    with pytest.raises(EvaluationError, match="no voxel"):
        prompts_of(PlacedMask.from_planes({}), "1-box")
