"""Crops for training: what inference would compute, and the truth in the same places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.errors import TuningError
from napari_slidesam.geometry import Box
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.crops import CropGrid
from napari_slidesam.tuning import coarse_crops
from napari_slidesam.tuning.coarse_crops import CropSampler, DrawConfig
from napari_slidesam.tuning.coarse_paint import painted
from napari_slidesam.tuning.labelled import LabelledVolume
from napari_slidesam.tuning.synthetic import SyntheticVolumes

EXACT = DrawConfig(
    real=1,
    painted=0,
    procedural=0,
    middle=(0.5, 0.5),
    anywhere=(0.5, 0.5),
    context_spread=0,
    jitter=0,
)


@pytest.fixture
def volume() -> LabelledVolume:
    """A bright ellipsoid (3) and a less bright block (7) at the border, thick slices."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:24, :60, :60]
    labels = np.zeros((24, 60, 60), np.uint16)
    labels[(z - 11) ** 2 / 36 + (y - 30) ** 2 / 225 + (x - 24) ** 2 / 100 < 1] = 3
    labels[:10, 40:, 44:] = 7
    image = 100 + rng.normal(0, 5, labels.shape) + 200 * (labels == 3) + 100 * (labels == 7)
    return LabelledVolume.from_arrays("blobs", image, labels, (2.5, 1.0, 1.0))


def crops_of(sampler: CropSampler, count: int):
    return [sampler.draw(np.random.default_rng((5, k))) for k in range(count)]


def test_shapes_and_ranges(volume):
    side = CoarseConfig(side=16)
    for crop in crops_of(CropSampler([volume], cubes=side), 12):
        assert (crop.image.shape, crop.truth.shape) == ((16,) * 3, (16,) * 3)
        assert (crop.mask.shape, crop.inside.shape) == ((16, 16), (3, 16))
        assert crop.inside.dtype == np.bool_
        for values in (crop.image, crop.truth, crop.mask):
            assert values.dtype == np.float32
            assert values.min() >= 0
            assert 0 < values.max() <= 1 + 1e-6
        assert 0.02 < crop.mask.mean() < 0.6
        assert crop.source in ("real/blobs", "painted/blobs")


def test_the_truth_lies_where_the_image_and_the_mask_show_the_object(volume):
    config = replace(EXACT, middle=(0.3, 0.7))
    for crop in crops_of(CropSampler([volume], config=config), 8):
        middle = crop.truth[15:17].mean(0)
        assert np.abs(middle - crop.mask).mean() < 0.05
        whole = crop.inside[0][:, None, None] & crop.inside[1][:, None] & crop.inside[2]
        inside, outside = crop.image[(crop.truth > 0.9) & whole], crop.image[crop.truth < 0.1]
        assert np.median(inside) > np.median(outside) + 0.2


def test_a_crop_is_what_inference_computes(volume):
    ellipsoid = replace(volume, object_ids=(3,))
    crop = CropSampler([ellipsoid], config=EXACT).draw(np.random.default_rng(1))
    matches = []
    for axis in range(3):
        labels, image = (np.moveaxis(v, axis, 0) for v in (volume.labels, volume.image))
        step, *spacing = (volume.spacing_zyx[k] for k in (axis, *({0, 1, 2} - {axis})))
        slices = np.flatnonzero((labels == 3).any((1, 2)))
        anchor = int(slices[0] + len(slices) * 0.5)
        rows, columns = (np.flatnonzero((labels[anchor] == 3).any(k)) for k in (1, 0))
        box = Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        grid = CropGrid.around(
            CoarseConfig(),
            anchor,
            box,
            step=step,
            spacing_yx=tuple(spacing),
            n_slices=len(labels),
            plane_shape_yx=labels.shape[1:],
        )
        seen = grid.image(lambda k, region, image=image: image[k][region.slices])
        mask = grid.mask(labels[anchor][grid.region.slices] == 3)
        if np.array_equal(seen, crop.image):
            matches.append(axis)
            np.testing.assert_array_equal(mask, crop.mask)
            np.testing.assert_array_equal(grid.inside(), crop.inside)
    assert len(matches) == 1


def test_the_same_draw_gives_the_same_crop(volume):
    first, second = (crops_of(CropSampler([volume]), 4) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert one.source == two.source
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.truth, two.truth)


def test_every_source_is_drawn_from(volume):
    label_map = replace(volume, image=None, name="map")
    sampler = CropSampler([volume, label_map], SyntheticVolumes(0, 40), 1)
    kinds = {crop.source for crop in crops_of(sampler, 30)}
    assert kinds == {"real/blobs", "painted/blobs", "painted/map", "procedural/ellipsoids"}


def test_a_source_without_volumes_leaves_its_share_to_the_others(volume):
    label_map = replace(volume, image=None)
    sources = {crop.source for crop in crops_of(CropSampler([label_map]), 5)}
    assert sources == {"painted/blobs"}


def test_objects_too_thin_to_prompt_are_an_error():
    labels = np.zeros((12, 40, 40), np.uint16)
    labels[6:8, 10:30, 10:12] = 1
    labels[6:8, 10:12, 10:30] = 1
    volume = LabelledVolume.from_arrays("plate", None, labels, (1.0, 1.0, 1.0))
    sampler = CropSampler([volume], config=DrawConfig(min_slices=30))
    with pytest.raises(TuningError, match="larger objects"):
        sampler.draw(np.random.default_rng(0))


def test_a_constant_image_is_no_crop(volume, monkeypatch):
    monkeypatch.setattr(coarse_crops, "MAX_VOLUMES", 1)
    black = replace(volume, image=np.zeros_like(volume.image))
    with pytest.raises(TuningError, match="No crop"):
        CropSampler([black], config=EXACT).draw(np.random.default_rng(0))


def test_volumes_or_shares_are_needed(volume):
    with pytest.raises(TuningError, match="source with a share"):
        CropSampler([])
    with pytest.raises(TuningError, match="source with a share"):
        CropSampler([volume], config=DrawConfig(real=0, painted=0))


def test_paint_gives_the_object_a_look_of_its_own():
    labels = np.zeros((24, 24, 24), np.uint16)
    labels[6:18, 6:18, 6:18] = 900
    contrasts = []
    for seed in range(8):
        image = painted(labels, 900, np.random.default_rng(seed))
        assert image.shape == labels.shape
        assert image.dtype == np.float32
        contrasts.append(abs(image[labels == 900].mean() - image[labels == 0].mean()))
    assert np.median(contrasts) > 0.1
