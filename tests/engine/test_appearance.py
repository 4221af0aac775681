from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.engine.appearance import Appearance


@pytest.fixture
def mask():
    yy, xx = np.mgrid[:40, :40]
    return (yy - 20) ** 2 + (xx - 20) ** 2 < 10**2


def picture(mask, inside, outside, noise=5.0):
    rng = np.random.default_rng(0)
    return np.where(mask, inside, outside).astype(np.float32) + rng.normal(
        0, noise, mask.shape
    ).astype(np.float32)


@pytest.mark.parametrize(("inside", "outside"), [(200, 50), (50, 200), (100, 80)])
def test_same_look_scores_one_and_the_surroundings_below_zero(mask, inside, outside):
    look = Appearance.of(picture(mask, inside, outside), mask)
    assert look.own_likeness > 0.8
    assert look.likeness(picture(mask, inside, outside), mask) == pytest.approx(1, abs=0.05)
    assert look.likeness(picture(mask, outside, outside), mask) < 0


def test_object_like_its_surroundings_is_never_doubted_much(mask):
    look = Appearance.of(picture(mask, 100, 100), mask)
    assert look.own_likeness < 0.65


def test_too_little_to_learn_from(mask):
    nothing = np.zeros_like(mask)
    assert Appearance.of(picture(mask, 1, 0), nothing) is None
    assert Appearance.of(picture(mask, 1, 0), ~nothing) is None
    assert Appearance.of(np.full(mask.shape, 3, np.float32), mask) is None


def test_values_that_are_not_finite_are_left_out(mask):
    values = picture(mask, 200, 50)
    values[:6] = np.nan
    look = Appearance.of(values, mask)
    assert look.likeness(values, mask) == pytest.approx(1, abs=0.05)
    assert look.likeness(np.full_like(values, np.nan), mask) == 1.0
