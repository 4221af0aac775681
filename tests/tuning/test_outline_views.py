"""Views for training: what inference would see, and the truth in the same places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.geometry import mask_to_box
from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.grid import BoxGrid
from napari_slidesam.model.outline.look import scaled
from napari_slidesam.tuning.labelled import LabelledVolume
from napari_slidesam.tuning.outline_views import OutlineDraw, OutlineSampler
from napari_slidesam.tuning.synthetic import SyntheticVolumes

GRID = OutlineConfig(side=32, widths=(16, 16, 16, 16))
PLAIN = OutlineDraw(
    real=1.0, painted=0.0, procedural=0.0, turned_share=0.0, sheared_share=0.0, loose_share=0.0,
    exact_share=1.0, zoomed_share=0.0, shifted_share=0.0, other_step_share=0.0, noise_share=0.0,
    middle_share=1.0,
)  # fmt: skip


@pytest.fixture
def volume() -> LabelledVolume:
    """A bright ball (3) and a darker one (7), that is cut by the border."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:40, :48, :56]
    labels = np.zeros((40, 48, 56), np.uint16)
    labels[(z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 144] = 3
    labels[(z - 20) ** 2 + (y - 30) ** 2 + (x - 50) ** 2 < 144] = 7
    image = 100 + rng.normal(0, 5, labels.shape) + 200 * (labels == 3) + 100 * (labels == 7)
    return LabelledVolume.from_arrays("balls", image, labels, (1.0, 1.0, 1.0))


def views_of(sampler, count):
    return [sampler.draw(np.random.default_rng((5, k))) for k in range(count)]


def edges_of(mask):
    """Return the y0, x0, y1, x1 of a mask on a grid that reaches from -1 to 1."""
    return np.array(mask_to_box(mask).yxyx) / len(mask) * 2 - 1


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_as_many_slices_are_seen_as_the_network_takes(volume):
    three, five = (
        views_of(OutlineSampler([volume], grid=replace(GRID, slices=n), config=PLAIN), 4)
        for n in (3, 5)
    )
    for few, many in zip(three, five, strict=True):
        assert many.images.shape == (5, 32, 32)
        np.testing.assert_array_equal(many.images[1:4], few.images)
        np.testing.assert_array_equal(many.truth, few.truth)


def test_shapes_and_ranges(volume):
    views = views_of(OutlineSampler([volume], SyntheticVolumes(0, 48), 1, GRID), 30)
    for view in views:
        assert view.images.shape == (3, 32, 32)
        assert view.truth.shape == view.inside.shape == (32, 32)
        assert (view.images.dtype, view.truth.dtype) == (np.uint16, np.uint8)
        assert (view.box.dtype, view.inside.dtype) == (np.float32, np.bool_)
        assert (view.box[2:] > view.box[:2]).all()
        assert not view.truth[~view.inside].any()
        assert view.truth.max() > 0
    assert {v.source.partition("/")[0] for v in views} == {"real", "painted", "procedural"}


def test_a_view_is_what_inference_sees(volume):
    alone = replace(volume, object_ids=(3,))
    sampler = OutlineSampler([alone], grid=GRID, config=PLAIN)
    slices = {
        (axis, k): np.moveaxis(volume.labels, axis, 0)[k] == 3
        for axis in range(3) for k in range(14, 27)
    }  # fmt: skip
    for view in views_of(sampler, 5):
        found = 0
        for (axis, k), mask in slices.items():
            box = mask_to_box(mask)
            grid = BoxGrid.around(GRID, box, mask.shape)
            planes = np.moveaxis(volume.image, axis, 0)[k - 1 : k + 2]
            images = scaled(grid.images(planes[:, *grid.region.slices] / np.float32(65535)))
            if np.abs(images - view.images / 65535).max() < 1e-3:
                found += 1
                np.testing.assert_allclose(view.box, grid.box_on_grid(box), atol=1e-6)
                np.testing.assert_array_equal(view.inside, grid.inside)
        assert found == 1


def test_truth_image_and_box_belong_together_however_they_are_turned(volume):
    turned = replace(
        PLAIN, turned_share=1.0, sheared_share=1.0, zoomed_share=1.0, shifted_share=1.0
    )
    sampler = OutlineSampler([replace(volume, object_ids=(3,))], grid=GRID, config=turned)
    boxes = []
    for view in views_of(sampler, 15):
        truth = view.truth > 127
        assert dice(view.images[1] > 65535 * 0.5, truth) > 0.9
        np.testing.assert_allclose(view.box, edges_of(truth), atol=0.1)
        boxes.append(tuple(view.box))
    assert len(set(boxes)) == 15


def test_the_sides_of_a_box_are_moved(volume):
    loose = replace(PLAIN, exact_share=0.0, loose_share=1.0)
    sampler = OutlineSampler([replace(volume, object_ids=(3,))], grid=GRID, config=loose)
    away = [
        (view.box - edges_of(view.truth > 127)) / np.tile(view.box[2:] - view.box[:2], 2)
        for view in views_of(sampler, 30)
    ]
    assert 0.06 < np.std(away) < 0.16


def test_a_mask_at_the_border_of_a_plane_ends_with_it(volume):
    at_border = replace(volume, object_ids=(7,))
    seen = 0
    for view in views_of(OutlineSampler([at_border], grid=GRID, config=PLAIN), 20):
        seen += not view.inside.all()
        assert not view.truth[~view.inside].any()
        np.testing.assert_allclose(view.box, edges_of(view.truth > 127), atol=0.1)
    assert seen > 5


def test_a_painted_view_has_the_same_truth(volume):
    painted = replace(PLAIN, real=0.0, painted=1.0)
    alone = replace(volume, object_ids=(3,))
    seen, real = (
        views_of(OutlineSampler([alone], grid=GRID, config=c), 10) for c in (painted, PLAIN)
    )
    for view in seen:
        assert view.source == "painted/balls"
        assert max(dice(view.truth > 127, v.truth > 127) for v in real) > 0.93
        np.testing.assert_allclose(view.box, edges_of(view.truth > 127), atol=0.1)


def test_a_draw_depends_on_its_generator_alone(volume):
    first, second = (OutlineSampler([volume], SyntheticVolumes(0, 48), 2, GRID) for _ in range(2))
    views_of(first, 3)
    one, two = (s.draw(np.random.default_rng(8)) for s in (first, second))
    for name in ("images", "truth", "inside", "box"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize("change", [{"min_pixels": 10_000}, {"min_side": 60}, {"min_range": 2.0}])
def test_objects_that_show_too_little_give_no_view(volume, change):
    sampler = OutlineSampler([volume], grid=GRID, config=replace(PLAIN, **change))
    with pytest.raises(TuningError, match="larger objects"):
        sampler.draw(np.random.default_rng(0))


def test_planes_of_unequal_spacing_are_left_out(volume):
    flat = replace(volume, spacing_zyx=(5.0, 1.0, 1.0), object_ids=(3,))
    for view in views_of(OutlineSampler([flat], grid=GRID, config=PLAIN), 10):
        height, width = view.box[2:] - view.box[:2]
        assert height == pytest.approx(width, abs=0.05)
    with pytest.raises(TuningError, match="larger objects"):
        OutlineSampler([replace(volume, spacing_zyx=(9.0, 3.0, 1.0))], config=PLAIN).draw(
            np.random.default_rng(0)
        )
