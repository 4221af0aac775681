"""Where the cube lies and what it holds, on phantoms whose geometry is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_slidesam.geometry import Box, Region
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.crops import CropGrid, stretched

CONFIG = CoarseConfig()
N = CONFIG.side
SPACING = (2.0, 0.5, 1.0)
SHAPE = (40, 120, 60)
CENTRE = (40.0, 30.0, 30.0)
"""Of the phantom's cube, in the spacing's unit."""
EDGE = 12.0


def phantom() -> np.ndarray:
    """A cube with edges of 12 units, bright: 6 slices, 24 rows, 12 columns."""
    inside = np.ones(SHAPE, dtype=bool)
    for axis, (size, spacing, centre) in enumerate(zip(SHAPE, SPACING, CENTRE, strict=True)):
        places = (np.arange(size) + 0.5) * spacing
        near = np.abs(places - centre) < EDGE / 2
        inside &= near.reshape([-1 if k == axis else 1 for k in range(3)])
    return inside


def box_of(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)


def grid_around(mask: np.ndarray, anchor: int, spacing=SPACING, config=CONFIG) -> CropGrid:
    return CropGrid.around(
        config,
        anchor,
        box_of(mask[anchor]),
        step=spacing[0],
        spacing_yx=spacing[1:],
        n_slices=mask.shape[0],
        plane_shape_yx=mask.shape[1:],
    )


def reader(volume: np.ndarray):
    return lambda index, region: volume[index][region.slices]


def test_an_anisotropic_volume_becomes_a_cube_of_cubes():
    truth = phantom()
    grid = grid_around(truth, 20)
    image = grid.image(reader(truth.astype(np.int16) * 900 - 100))
    assert image.shape == (N, N, N)
    assert image.dtype == np.float32
    assert (image.min(), image.max()) == (0, 1)
    expected = EDGE / (CONFIG.context * EDGE) * N
    for axis in range(3):
        found = np.flatnonzero((image > 0.5).any(tuple(k for k in range(3) if k != axis)))
        assert found.size == pytest.approx(expected, abs=1.5)
        # Slice 20 is the first of the three behind the middle of the object: half a slice off.
        offset = -0.5 * SPACING[0] / grid_unit(grid) if axis == 0 else 0
        assert found.mean() == pytest.approx((N - 1) / 2 + offset, abs=0.8)


def grid_unit(grid: CropGrid) -> float:
    """Edge of the cube's voxels, in the spacing's unit."""
    return grid.edges[0] * SPACING[0] / N


def test_the_edges_are_equal_in_physical_units():
    grid = grid_around(phantom(), 20)
    edges = [e * s for e, s in zip(grid.edges, SPACING, strict=True)]
    assert edges == pytest.approx([CONFIG.context * EDGE] * 3)


def test_the_mask_lies_where_the_image_shows_the_object():
    truth = phantom()
    truth[:, 48:60] = False  # the lower half of the rows alone, so that up is not down
    grid = grid_around(phantom(), 20)
    image = grid.image(reader(truth))
    mask = grid.mask(truth[20][grid.region.slices])
    assert mask.shape == (N, N)
    assert mask.dtype == np.float32
    middle = image[N // 2 - 1 : N // 2 + 1].mean(0)
    assert np.abs(mask - middle).mean() < 0.02
    assert mask[: N // 2 - 1].max() == 0
    assert mask[N // 2 + 1 : N // 2 + 5, N // 2].min() == 1


def test_a_slice_beyond_the_anchor_is_a_plane_beyond_the_middle():
    volume = np.zeros(SHAPE, dtype=np.float32)
    volume[23] = 1
    grid = grid_around(phantom(), 20)
    image = grid.image(reader(volume))
    brightest = image.mean((1, 2)).argmax()
    assert brightest == pytest.approx(grid.place_of_slice(23), abs=0.6)
    assert grid.place_of_slice(20) == (N - 1) / 2


def test_at_the_edge_the_border_is_repeated_and_marked():
    truth = np.zeros((12, 40, 40), dtype=bool)
    truth[0:4, 0:16, 24:40] = True
    grid = grid_around(truth, 0, spacing=(1.0, 1.0, 1.0))
    inside = grid.inside()
    assert inside.shape == (3, N)
    region = grid.region
    assert (region.y0, region.x1) == (0, 40)
    assert not inside[0, : N // 2 - 1].any()
    assert inside[0, N // 2 : N // 2 + 8].all()
    assert not inside[1, 0]
    assert inside[1, -1]
    assert inside[2, 0]
    assert not inside[2, -1]
    image = grid.image(reader(truth))
    np.testing.assert_array_equal(image[0], image[N // 2 - 3])
    mask = grid.mask(truth[0][region.slices])
    # The plane that the border cuts in half counts as outside, and has half a mask.
    rows, columns = np.flatnonzero(inside[1]), np.flatnonzero(inside[2])
    assert not mask[: rows[0] - 1].any()
    assert not mask[:, columns[-1] + 2 :].any()
    assert mask[rows[0], columns[-1]] == 1


@pytest.mark.parametrize("value", [0, 700])
def test_a_constant_volume_is_black(value):
    grid = grid_around(phantom(), 20)
    image = grid.image(reader(np.full(SHAPE, value, dtype=np.uint16)))
    assert not image.any()


def test_a_single_slice_is_a_volume():
    truth = phantom()[20:21]
    grid = grid_around(truth, 0)
    image = grid.image(reader(truth))
    assert image.max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(image, image[:1].repeat(N, 0), atol=1e-6)
    assert grid.inside()[0].sum() <= 2


def test_only_the_cube_is_read_each_plane_once():
    truth = phantom()
    grid = grid_around(truth, 20)
    read: list[tuple[int, Region]] = []

    def read_plane(index: int, region: Region) -> np.ndarray:
        read.append((index, region))
        return truth[index][region.slices]

    grid.image(read_plane)
    indices = [index for index, _ in read]
    assert indices == sorted(set(indices))
    reach = grid.edges[0] / 2 + 1
    assert 20 - reach <= min(indices)
    assert max(indices) <= 20 + reach
    assert {region for _, region in read} == {grid.region}
    height, width = grid.region.shape_yx
    assert height <= grid.edges[1] + 3
    assert width <= grid.edges[2] + 3


def test_values_beyond_the_percentiles_are_cut():
    image = np.linspace(-5, 5, 1000, dtype=np.float32)
    image[-1] = 1e6
    out = stretched(image)
    assert (out.min(), out.max()) == (0, 1)
    assert out[500] == pytest.approx(0.5, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.2, 6)] * 3),
    corner=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    size=st.tuples(st.integers(3, 40), st.integers(3, 40)),
    anchor=st.integers(0, 29),
)
def test_places_are_the_inverse_of_positions(spacing, corner, size, anchor):
    box = Box(*corner, corner[0] + size[0], corner[1] + size[1])
    grid = CropGrid.around(
        CONFIG,
        anchor,
        box,
        step=spacing[0],
        spacing_yx=spacing[1:],
        n_slices=30,
        plane_shape_yx=(100, 100),
    )
    region = grid.region
    assert 0 <= region.y0 < region.y1 <= 100
    assert 0 <= region.x0 < region.x1 <= 100
    centres = [p.reshape(N, CONFIG.samples).mean(1) for p in grid.positions()]
    places = grid.places_yx(region)
    for found, start, stop, middle in (
        (places[0], region.y0, region.y1, centres[1]),
        (places[1], region.x0, region.x1, centres[2]),
    ):
        step = middle[1] - middle[0]
        np.testing.assert_allclose(found, (np.arange(start, stop) - middle[0]) / step, atol=1e-6)
    for plane in (0, N - 1):
        assert grid.place_of_slice(centres[0][plane]) == pytest.approx(plane, abs=1e-6)
