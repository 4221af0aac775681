"""Views for training: what inference would see, and the truth in the same places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.tuning.click_views import ClickDraw, ClickSampler
from napari_slidesam.tuning.drawn_volumes import DrawnVolumes, axis_first
from napari_slidesam.tuning.labelled import LabelledVolume
from napari_slidesam.tuning.synthetic import SyntheticVolumes

GRID = ClickConfig(rings=32, angles=32, widths=(8, 8, 16, 16))
PLAIN = ClickDraw(
    real=1, painted=0, procedural=0, scaled_share=0, noise_share=0, inner_share=1, inner_depth=1
)


@pytest.fixture
def volume() -> LabelledVolume:
    """A bright ball (3) and a darker one (7) in two parts, that of 7 cut by the border."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:40, :48, :56]
    labels = np.zeros((40, 48, 56), np.uint16)
    labels[(z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 100] = 3
    labels[(z - 20) ** 2 + (y - 30) ** 2 + (x - 48) ** 2 < 100] = 7
    labels[:, 2:8, 44:50] = 7
    image = 100 + rng.normal(0, 5, labels.shape) + 200 * (labels == 3) + 100 * (labels == 7)
    return LabelledVolume.from_arrays("balls", image, labels, (1.0, 1.0, 1.0))


def views_of(sampler, count):
    return [sampler.draw(np.random.default_rng((5, k))) for k in range(count)]


def test_shapes_and_ranges(volume):
    sampler = ClickSampler([volume], SyntheticVolumes(0, 48), 1, GRID)
    views = views_of(sampler, 20)
    for view in views:
        assert view.image.shape == view.truth.shape == view.inside.shape == (32, 32)
        assert view.image.dtype == view.truth.dtype == np.float32
        assert view.truth.min() >= 0
        assert 0 < view.truth.max() <= 1 + 1e-6
        assert not view.truth[~view.inside].any()
    kinds = {v.source.partition("/")[0] for v in views}
    assert kinds == {"real", "painted", "procedural"}


def test_the_truth_lies_where_the_image_shows_it(volume):
    alone = replace(volume, object_ids=(3,))
    for view in views_of(ClickSampler([alone], grid=GRID, config=PLAIN), 10):
        assert view.truth[0].min() == 1, "the click is on the object"
        bright, dark = view.image[view.truth > 0.9], view.image[view.truth < 0.1]
        assert bright.mean() > 0.7
        assert dark.mean() < 0.4


def test_only_the_part_that_is_clicked_is_the_truth(volume):
    alone = replace(volume, object_ids=(7,))
    for view in views_of(ClickSampler([alone], grid=GRID, config=PLAIN), 10):
        angles_far_out = (view.truth[-4:] > 0.5).any(axis=0).sum()
        assert angles_far_out < 8
        assert view.truth[0].min() == 1


def test_a_painted_view_has_the_same_truth(volume):
    painted = replace(PLAIN, real=0.0, painted=1.0)
    alone = replace(volume, object_ids=(3,))
    for view in views_of(ClickSampler([alone], grid=GRID, config=painted), 5):
        assert view.source == "painted/balls"
        assert np.isfinite(view.image).all()
        assert 0.2 < view.truth.mean() < 0.9


def test_a_draw_depends_on_its_generator_alone(volume):
    first, second = (ClickSampler([volume], grid=GRID) for _ in range(2))
    views_of(first, 3)
    one, two = (s.draw(np.random.default_rng(8)) for s in (first, second))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.truth, two.truth)


def test_objects_that_are_too_large_or_small_give_no_view(volume):
    none = replace(PLAIN, min_pixels=10_000)
    with pytest.raises(TuningError, match="larger objects"):
        ClickSampler([volume], grid=GRID, config=none).draw(np.random.default_rng(0))


@pytest.mark.parametrize("shares", [(0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (1.0, -1.0, 0.0)])
def test_no_source_is_refused(volume, shares):
    with pytest.raises(TuningError, match="source with a share"):
        DrawnVolumes([volume], None, 5, shares)


def test_the_share_of_a_source_without_volumes_goes_to_the_others(volume):
    label_map = replace(volume, image=None)
    drawn = DrawnVolumes([label_map], None, 0, (0.9, 0.1, 0.0))
    assert {drawn.draw(np.random.default_rng(k))[0] for k in range(5)} == {"painted"}


def test_the_prompted_axis_comes_first():
    assert axis_first(("z", "y", "x"), 1) == ("y", "z", "x")
