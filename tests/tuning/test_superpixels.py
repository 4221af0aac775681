from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.errors import ConfigError
from napari_slidesam.tuning.superpixels import (
    SuperpixelConfig,
    superpixel_prompts,
    superpixels,
)


@pytest.fixture
def image() -> np.ndarray:
    """A bright square [10:30, 12:36] on a dark ground with noise."""
    plane = np.random.default_rng(0).normal(0.1, 0.02, (48, 64)).astype(np.float32)
    plane[10:30, 12:36] += 0.7
    return plane


def test_a_box_lies_around_the_object(image: np.ndarray) -> None:
    prompts = superpixel_prompts(image, image, SuperpixelConfig(), min_share=0.01)
    bright = [p for p in prompts if p.value > 0.5]
    assert bright[0].box is not None
    np.testing.assert_allclose(bright[0].box.yxyx, (10, 12, 30, 36), atol=2)
    assert bright[0].value == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("method", ["slic", "felzenszwalb"])
def test_the_same_image_gives_the_same_prompts(method: str, image: np.ndarray) -> None:
    config = SuperpixelConfig(method, scales=(20.0,), kinds=("box", "point"))
    first = superpixel_prompts(image, image, config)
    assert first == superpixel_prompts(image.copy(), image.copy(), config)
    assert {p.box is None for p in first} == {True, False}


@settings(max_examples=15, deadline=None)
@given(st.integers(20, 60), st.integers(20, 60), st.integers(0, 100))
def test_points_lie_on_their_superpixel(height: int, width: int, seed: int) -> None:
    plane = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    config = SuperpixelConfig("slic", (12.0,), kinds=("point",))
    labels = superpixels(plane, config, 12.0)
    hit = [
        labels[int(p.point_yx[0]), int(p.point_yx[1])]
        for p in superpixel_prompts(plane, plane, config)
        if p.point_yx is not None
    ]
    assert len(hit) == len(set(hit))


def test_prompts_of_a_large_plane_are_in_its_own_pixels() -> None:
    plane = np.zeros((600, 1030), dtype=np.float32)
    plane[100:403, 600:902] = 1.0
    config = SuperpixelConfig(scales=(100.0,), smoothing_px=0.0, kinds=("box", "point"))
    prompts = superpixel_prompts(plane, plane, config, max_share=0.5)
    box, point = (p for p in prompts if p.value > 0.9)
    assert box.box is not None
    assert point.point_yx is not None
    np.testing.assert_allclose(box.box.yxyx, (100, 600, 403, 902), atol=3)
    np.testing.assert_allclose(point.point_yx, (251, 751), atol=3)
    assert all(p.box is None or (p.box.y1 <= 600 and p.box.x1 <= 1030) for p in prompts)


def test_sizes_out_of_range_are_left_out(image: np.ndarray) -> None:
    config = SuperpixelConfig(scales=(50.0,))
    everything = superpixel_prompts(image, image, config)
    no_ground = superpixel_prompts(image, image, config, max_share=0.5)
    assert len(no_ground) < len(everything)
    assert superpixel_prompts(image, image, config, min_share=0.9, max_share=0.95) == ()


@pytest.mark.parametrize("method", ["slic", "felzenszwalb"])
def test_a_constant_image_is_one_superpixel(method: str) -> None:
    plane = np.full((20, 20), 0.5, dtype=np.float32)
    assert superpixels(plane, SuperpixelConfig(method), 16.0).max() == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "watershed"}, "watershed"),
        ({"scales": ()}, "scales"),
        ({"scales": (0.0,)}, "scales"),
        ({"compactness": 0.0}, "compactness"),
        ({"kinds": ("circle",)}, "circle"),
    ],
)
def test_settings_out_of_range(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SuperpixelConfig(**values)
