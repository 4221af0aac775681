"""Stored values as [0, 1]: presets, percentiles, and values that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_slidesam.errors import ConfigError
from napari_slidesam.volume import Intensity, Volume, normalise

EVERY_KIND = [
    Intensity(),
    Intensity("ct"),
    Intensity("mr"),
    Intensity("percentiles"),
    Intensity("percentiles", 2, 98),
    Intensity("limits", -3, 5),
]


@pytest.mark.parametrize("intensity", EVERY_KIND, ids=str)
def test_round_trip_as_json_values(intensity):
    assert Intensity.from_dict(intensity.to_dict()) == intensity


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "pet"},
        {"kind": "ct", "lower": 0.0, "upper": 1.0},
        {"kind": "window", "lower": 0.0},
        {"kind": "limits"},
        {"kind": "limits", "lower": 0.0},
        {"kind": "limits", "lower": 1.0, "upper": 1.0},
        {"kind": "limits", "lower": 2.0, "upper": 1.0},
        {"kind": "limits", "lower": float("nan"), "upper": 1.0},
        {"kind": "limits", "lower": 0.0, "upper": float("inf")},
        {"kind": "percentiles", "lower": -1.0, "upper": 99.0},
        {"kind": "percentiles", "lower": 1.0, "upper": 101.0},
        {"kind": "limits", "lower": "a", "upper": "b"},
        {"kind": "window", "unknown": 1},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError):
        Intensity.from_dict(options)


def test_presets_are_the_papers():
    stack = Volume(np.zeros((1, 2, 2))).along(0)
    assert Intensity().fixed_range(stack, 0) is None
    assert Intensity("ct").fixed_range(stack, 0) == (-200.0, 400.0)
    assert Intensity("mr").fixed_range(stack, 0) == (0.0, 600.0)
    assert Intensity("limits", 1, 2).fixed_range(stack, 0) == (1.0, 2.0)


def test_percentiles_read_a_few_slices_only():
    class Counting:
        shape, dtype = (1000, 16, 16), np.dtype("f4")
        reads: list[int] = []  # noqa: RUF012

        def __getitem__(self, index):
            self.reads.append(index[0].start)
            values = np.linspace(0, 100, 256, dtype="f4").reshape(1, 16, 16)
            values[0, 0, :3] = np.nan, np.inf, -np.inf
            return values

    low, high = Intensity("percentiles", 10, 90).fixed_range(Volume(Counting()).along(0), 500)
    assert len(Counting.reads) == 5
    assert 500 in Counting.reads
    assert (low, high) == pytest.approx((10, 90), abs=1.5)


@pytest.mark.parametrize("fill", [7.0, np.nan, np.inf])
@pytest.mark.parametrize("near", [0, 2])
def test_percentiles_of_constant_or_non_finite_volumes(fill, near):
    stack = Volume(np.full((3, 4, 4), fill)).along(0)
    low, high = Intensity("percentiles").fixed_range(stack, near)
    assert np.isfinite([low, high]).all()
    assert low < high
    assert (normalise(stack.read(0), (low, high)) == 0).all()


def test_own_percentiles_fill_the_range():
    window = np.random.default_rng(0).normal(1000, 50, (3, 64, 64)).astype(np.float32)
    scaled = normalise(window, None)
    assert scaled.dtype == np.float32
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert np.mean(scaled == 0) == pytest.approx(0.01, abs=0.004)
    assert np.mean(scaled == 1) == pytest.approx(0.01, abs=0.004)


def test_fixed_range_clips():
    values = np.array([[-300, -200, 100, 400, 900]], np.float32)
    np.testing.assert_allclose(normalise(values, (-200, 400)), [[0, 0, 0.5, 1, 1]])


def test_a_small_bright_object_in_a_constant_window_stays_visible():
    window = np.full((3, 128, 128), 5, np.float32)
    window[1, 60:63, 60:63] = 9
    scaled = normalise(window, None)
    assert scaled[1, 61, 61] == 1
    assert scaled[0].max() == 0


@given(
    values=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=8),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    ),
    low_high=st.none() | st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
)
@settings(max_examples=50, deadline=None)
def test_any_values_give_finite_numbers_in_range(values, low_high):
    scaled = normalise(values, low_high)
    assert scaled.shape == values.shape
    assert scaled.dtype == np.float32
    assert np.isfinite(scaled).all()
    assert ((scaled >= 0) & (scaled <= 1)).all()
    assert (scaled[~np.isfinite(values)] == 0).all()


@pytest.mark.parametrize("fill", [0.0, 3.0, np.nan, np.inf, -np.inf])
def test_constant_and_non_finite_windows_are_zero(fill):
    assert not normalise(np.full((3, 8, 8), fill, np.float32), None).any()


def test_the_input_is_left_alone():
    window = np.array([[1.0, np.nan, 3.0]], np.float32)
    before = window.copy()
    normalise(window, None)
    np.testing.assert_array_equal(window, before)
