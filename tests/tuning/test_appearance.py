from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.tuning.appearance import degrade, paint, remap, to_uint8
from napari_slidesam.tuning.fields import averaging_matrix, stack_field, upsampling_matrix

SIZE = 64


def disc_in_rings() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices((SIZE, SIZE)) - SIZE / 2
    plane = np.digitize(np.hypot(y, x), [12, 20, 27])
    labels = np.repeat((4 - plane)[None], 5, 0).astype(np.uint16)
    return labels, labels == 4


def test_the_target_mostly_stands_out() -> None:
    labels, target = disc_in_rings()
    ring = labels == 3
    gaps = []
    for seed in range(60):
        image = paint(labels, target, np.random.default_rng(seed))
        assert image.shape == labels.shape
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        gaps.append(abs(image[target].mean() - image[ring].mean()))
    assert np.mean(np.array(gaps) > 0.05) > 0.75


def test_the_same_seed_paints_the_same() -> None:
    labels, target = disc_in_rings()
    first, second = (
        degrade(paint(labels, target, np.random.default_rng(5)), rng)
        for rng in (
            np.random.default_rng(6),
            np.random.default_rng(6),
        )
    )
    np.testing.assert_array_equal(first, second)
    other = paint(labels, target, np.random.default_rng(7))
    assert (first != other).any()


def test_paint_without_a_target_and_with_one_label() -> None:
    labels = np.full((3, SIZE, SIZE), 9, np.int32)
    image = paint(labels, np.zeros(labels.shape, bool), np.random.default_rng(0), (6.0, 3.0))
    assert np.isfinite(image).all()


@pytest.mark.parametrize("seed", range(25))
def test_degraded_and_remapped_images_stay_finite_and_scaled(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, target = disc_in_rings()
    image = remap(np.clip(paint(labels, target, rng), 0, 1), rng)
    assert 0 <= image.min() <= image.max() <= 1
    degraded = degrade(image, rng)
    assert degraded.shape == labels.shape
    assert degraded.dtype == np.float32
    scaled = to_uint8(degraded)
    assert scaled.dtype == np.uint8
    assert scaled.max() >= 250


def test_a_constant_image_is_scaled_to_nothing_strange() -> None:
    assert to_uint8(np.full((3, 8, 8), 0.4, np.float32)).max() <= 1


def test_fields_share_what_the_correlation_says() -> None:
    rng = np.random.default_rng(0)
    same = stack_field(rng, 3, SIZE, 6, 1.0)
    np.testing.assert_allclose(same[0], same[2], atol=1e-5)
    own = stack_field(rng, 3, SIZE, 1, 0.0)
    assert abs(np.corrcoef(own[0].ravel(), own[1].ravel())[0, 1]) < 0.1


def test_interpolation_and_averaging_keep_constants() -> None:
    np.testing.assert_allclose(upsampling_matrix(7, 50).sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(averaging_matrix(50, 7).sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(averaging_matrix(6, 3)[1], [0, 0, 0.5, 0.5, 0, 0])
