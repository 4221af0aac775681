from __future__ import annotations

import numpy as np
import pytest

from napari_slidesam.tuning.canvas import Canvas
from napari_slidesam.tuning.synthetic import KINDS, MAX_OBJECT_SHARE, SyntheticVolumes
from napari_slidesam.tuning.synthetic_images import synthetic_image

SIDE = 40


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_every_kind_gives_objects(number: int) -> None:
    volume = SyntheticVolumes(seed=1, side=SIDE).make(number)
    assert volume.name == KINDS[number].__name__
    assert volume.image is None
    assert volume.labels.dtype == np.uint16
    assert len(volume.object_ids) >= 2
    counts = np.bincount(volume.labels.ravel())
    assert counts[list(volume.object_ids)].max() <= MAX_OBJECT_SHARE * volume.labels.size


def test_a_volume_depends_on_seed_and_number_only() -> None:
    series = SyntheticVolumes(seed=3, side=SIDE)
    again = SyntheticVolumes(seed=3, side=SIDE).make(6)
    series.make(2)
    np.testing.assert_array_equal(series.make(6).labels, again.labels)
    other = SyntheticVolumes(seed=4, side=SIDE).make(6)
    assert other.labels.shape != again.labels.shape or (other.labels != again.labels).any()


def test_spacing_makes_a_cube_and_is_up_to_six_to_one() -> None:
    series = SyntheticVolumes(seed=0, side=48)
    rng = np.random.default_rng(0)
    shapes = np.array([series._shape(rng) for _ in range(60)])
    ratios = shapes[:, 2] / shapes[:, 0]
    assert ratios.min() == 1
    assert 4 < ratios.max() < 6.5
    np.testing.assert_allclose(shapes.prod(1), 48**3, rtol=0.15)
    volume = series.make(6)
    extent = np.array(volume.labels.shape) * volume.spacing_zyx
    np.testing.assert_allclose(extent, 48)


def test_an_ellipsoid_has_its_radii() -> None:
    canvas = Canvas((50, 50, 50))
    blob = canvas.ellipsoid(np.full(3, 0.5), np.array([0.1, 0.2, 0.3]), np.eye(3))
    canvas.fill(blob, 1)
    extents = [np.ptp(i) + 1 for i in np.nonzero(canvas.labels)]
    np.testing.assert_allclose(extents, [10, 20, 30], atol=1)
    assert canvas.labels.sum() == pytest.approx(4 / 3 * np.pi * 0.006 * 50**3, rel=0.05)


def test_a_turned_ellipsoid_is_not_cut_by_its_window() -> None:
    canvas = Canvas((60, 60, 60))
    half = np.sqrt(0.5)
    turn = np.array([[half, -half, 0], [half, half, 0], [0, 0, 1]])
    canvas.fill(canvas.ellipsoid(np.full(3, 0.5), np.array([0.1, 0.3, 0.1]), turn), 1)
    assert canvas.labels.sum() == pytest.approx(4 / 3 * np.pi * 0.003 * 60**3, rel=0.05)


def test_a_blob_outside_draws_nothing() -> None:
    canvas = Canvas((20, 20, 20))
    canvas.fill(canvas.ellipsoid(np.full(3, 3.0), np.full(3, 0.1), np.eye(3)), 1)
    assert not canvas.labels.any()


def test_cells_belong_to_the_nearest_point() -> None:
    canvas = Canvas((10, 20, 20))
    points = np.array([[0.5, 0.2, 0.5], [0.5, 0.8, 0.5]])
    owners, distance = canvas.voronoi(points, np.array([4, 7]))
    assert (owners[:, :9] == 4).all()
    assert (owners[:, 12:] == 7).all()
    assert distance[5, 4, 10] == 0
    edges = canvas.boundaries(owners, 0.1)
    assert edges.any(axis=(0, 2)).sum() == 2


@pytest.mark.parametrize(("power", "share"), [(1, 4 / 3), (2, 4 / 3 * np.pi), (40, 8.0)])
def test_a_solid_is_an_octahedron_an_ellipsoid_or_a_box(power: float, share: float) -> None:
    canvas = Canvas((60, 60, 60))
    half = np.sqrt(0.5)
    turn = np.array([[half, -half, 0], [half, half, 0], [0, 0, 1]])
    radii = np.array([0.1, 0.2, 0.15])
    canvas.fill(canvas.solid(np.full(3, 0.5), radii, turn, power), 1)
    assert canvas.labels.sum() == pytest.approx(share * radii.prod() * 60**3, rel=0.06)


def test_waves_deform_a_solid_within_its_window() -> None:
    volumes = []
    for height in (0.0, 0.4):
        canvas = Canvas((60, 60, 60))
        waves = np.array([[0.4, 0.3, 0.0, height]])
        canvas.fill(canvas.solid(np.full(3, 0.5), np.full(3, 0.15), np.eye(3), 2, waves), 1)
        volumes.append(canvas.labels)
    assert (volumes[0] != volumes[1]).sum() > 0.05 * volumes[0].sum()
    rims = [np.flatnonzero(volumes[1].any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    assert all(rim[0] > 0 and rim[-1] < 59 for rim in rims)
    assert len(set(np.diff(volumes[1].any(axis=(1, 2)).astype(int)).tolist())) == 3


def test_cells_are_packed_and_may_have_membranes() -> None:
    """Space is full but for walls, and each wall lies between two cells."""
    number = next(k for k, kind in enumerate(KINDS) if kind.__name__ == "cells")
    walled = 0
    for seed in range(6):
        volume = SyntheticVolumes(seed, SIDE).make(number)
        counts = np.bincount(volume.labels.ravel())
        assert counts[2:].sum() > 0.4 * volume.labels.size
        walled += int(counts[:2].sum() > 0)
    assert 0 < walled


def test_organs_are_nested_in_a_body() -> None:
    number = next(k for k, kind in enumerate(KINDS) if kind.__name__ == "organs")
    labels = SyntheticVolumes(0, SIDE).make(number).labels
    inside = [i for i in np.unique(labels) if i and not (labels[:, [0, -1]] == i).any()]
    assert len(inside) >= 2


@pytest.mark.parametrize("number", [0, 3, 8])
def test_a_synthetic_image_shows_its_labels(number: int) -> None:
    made = synthetic_image(5, number, side=SIDE)
    assert made.image.shape == made.labels.shape
    assert made.image.dtype == np.float32
    assert np.isfinite(made.image).all()
    assert made.labels.any()
    # Noise within, and objects that differ from what is around them by more than chance.
    means = np.array([made.image[made.labels == i].mean() for i in np.unique(made.labels)])
    assert means.std() > 0.02
    again = synthetic_image(5, number, side=SIDE)
    np.testing.assert_array_equal(made.image, again.image)


def test_noise_follows_the_strength() -> None:
    rough = [
        np.abs(np.diff(synthetic_image(2, 0, SIDE, strength).image, axis=0)).mean()
        for strength in (0.0, 1.0, 3.0)
    ]
    assert rough[0] <= rough[1] <= rough[2]
