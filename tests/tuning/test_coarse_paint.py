"""Painted cubes: what a label says is there can be seen, whatever else is."""

from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.tuning import coarse_paint
from napari_slidesam.tuning.coarse_paint import painted

SIDE = 32


@pytest.fixture
def labels() -> np.ndarray:
    """A ball (5) among eight blocks."""
    z, y, x = np.indices((SIDE,) * 3)
    blocks = 1 + (z >= 16) + 2 * (y >= 16) + 4 * (x >= 16)
    blocks[blocks == 5] = 9
    return np.where((z - 16) ** 2 + (y - 16) ** 2 + (x - 16) ** 2 < 81, 5, blocks).astype(np.uint16)


@pytest.fixture
def plain(monkeypatch):
    """Nothing but means and textures."""
    for name in ("EDGE_SHARE", "STRUCTURE_SHARE", "BLURRED_SHARE", "UNEVEN_SHARE", "THICK_SHARE"):
        monkeypatch.setattr(coarse_paint, name, 0.0)
    return monkeypatch


def stripes(period: int = 8) -> np.ndarray:
    image = np.zeros((40, 40, 40), np.uint16)
    image[:, :, np.arange(40) % period < period // 2] = 65535
    return image


def test_values_are_finite_and_the_same_draw_is_the_same(labels):
    for seed in range(40):
        images = [stripes(), np.full((3, 4, 5), 7, np.uint16)]
        one, other = (painted(labels, 5, np.random.default_rng(seed), images) for _ in range(2))
        assert one.shape == labels.shape
        assert one.dtype == np.float32
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


def test_the_object_mostly_differs_from_what_is_around_it(labels, plain):
    contrasts = []
    for seed in range(60):
        image = painted(labels, 5, np.random.default_rng(seed))
        contrasts.append(abs(image[labels == 5].mean() - image[labels != 5].mean()))
    assert np.mean(np.array(contrasts) > 0.04) > 0.7


def test_textures_are_taken_from_real_images(plain):
    plain.setattr(coarse_paint, "TAKEN_SIDE", (40.0, 40.0))
    axes = set()
    for seed in range(12):
        taken = coarse_paint._taken(SIDE, np.random.default_rng(seed), [stripes()])
        assert taken.std() == pytest.approx(1, abs=0.01)
        (axis,) = (k for k in range(3) if np.ptp(taken, axis=k).any())
        line = np.moveaxis(taken, axis, 0)[:, 0, 0]
        # Stripes of eight voxels of 40: five of them.
        assert np.abs(np.fft.rfft(line))[1:].argmax() + 1 == 5
        axes.add(axis)
    assert axes == {0, 1, 2}


def test_an_image_without_contrast_gives_grain():
    flat = np.full((9, 9, 9), 3, np.uint16)
    assert coarse_paint._taken(16, np.random.default_rng(0), [flat]).std() == pytest.approx(1)


def test_real_textures_are_painted(labels, plain):
    plain.setattr(coarse_paint, "TAKEN_SHARE", 1.0)
    with_them = painted(labels, 5, np.random.default_rng(3), [stripes()])
    without = painted(labels, 5, np.random.default_rng(3))
    assert np.abs(with_them - without).max() > 0.01


def test_thick_slices_repeat():
    image = np.zeros((8, 4, 4), np.float32)
    image[:] = np.arange(8)[:, None, None]
    coarse_paint._thicken(image, 3)
    assert image[:, 0, 0].tolist() == [1, 1, 1, 4, 4, 4, 6.5, 6.5]


def test_lines_are_drawn_where_labels_meet(labels):
    image = np.full(labels.shape, 0.5, np.float32)
    coarse_paint._draw_edges(image, labels.astype(np.intp), np.random.default_rng(1))
    assert image[4, 4, 4] == 0.5
    assert image[4, 4, 16] != 0.5
    assert image[16, 16, 16] == 0.5
