"""Grey values for cubes of labels: means, textures, lines, structure, blur, slices, noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.tuning.fields import log_uniform, smooth_field
from napari_slidesam.tuning.labelled import MAX_VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ALIKE_SHARE = 0.3
"""Of the cubes: all but the object look nearly alike."""
CONTRAST_SHARE = 0.85
"""Of the labels that would look like the object: they are given a contrast to it."""
TAKEN_SHARE = 0.6
"""Of the cubes whose textures are taken from real images, where there are some."""
TAKEN_SIDE = (20.0, 100.0)
"""Voxels along a cube that a texture is taken from."""
EDGE_SHARE = 0.15
"""Of the cubes: lines are drawn between labels, as membranes in electron microscopy."""
STRUCTURE_SHARE = 0.35
"""Of the cubes: thresholded structure is added that no label knows."""
BLURRED_SHARE = 0.5
UNEVEN_SHARE = 0.15
"""Of the cubes: slices differ in gain and offset."""
THICK_SHARE = 0.25
"""Of the cubes: several slices are one."""
FIELD_CELLS = 4


def painted(
    labels: NDArray[Any],
    label: int,
    rng: np.random.Generator,
    images: Sequence[NDArray[np.uint16]] = (),
) -> NDArray[np.float32]:
    """Return an image of a cube of labels.

    Parameters
    ----------
    labels : ndarray of int, shape (n, n, n)
        Slices first.
    label : int
        Of the object; it is in the cube.
    rng : numpy.random.Generator
    images : sequence of ndarray of uint16, shape (Z, Y, X)
        Real volumes, range 0-65535, from which textures are taken.

    Returns
    -------
    ndarray of float32, shape (n, n, n)
        Values of about 0 to 1.
    """
    values, flat = np.unique(labels, return_inverse=True)
    places = flat.reshape(labels.shape)
    image = _means(values == label, rng)[places]
    if rng.random() < EDGE_SHARE:
        _draw_edges(image, places, rng)
    strengths = np.abs(rng.normal(0, 0.07, values.size)).astype(np.float32)
    image += strengths[places] * _texture(places, values.size, rng, images)
    if rng.random() < STRUCTURE_SHARE:
        _add_structure(image, labels == label, rng)
    if rng.random() < BLURRED_SHARE:
        image = ndimage.gaussian_filter(image, rng.uniform(0.5, 2))
    if rng.random() < THICK_SHARE:
        _thicken(image, int(rng.integers(2, 8)))
    if rng.random() < UNEVEN_SHARE:
        gain, offset = rng.normal(1, 0.1, len(image)), rng.normal(0, 0.06, len(image))
        image *= gain.astype(np.float32)[:, None, None]
        image += offset.astype(np.float32)[:, None, None]
    field = smooth_field(rng, labels.shape, (FIELD_CELLS,) * 3)
    image += field * np.float32(rng.uniform(0, 0.12))
    image += _noise(rng, labels.shape) * np.float32(rng.uniform(0, 0.06))
    return image


def _means(is_object: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the mean grey value of each label; few values are shared by many labels."""
    palette = rng.random(int(rng.integers(2, 9)))
    means = rng.choice(palette, is_object.size) + rng.normal(0, 0.04, is_object.size)
    if rng.random() < ALIKE_SHARE:
        others = rng.random() + rng.normal(0, 0.08, is_object.size)
        means = np.where(is_object, means, others)
    own, gap = means[is_object], log_uniform(rng, 0.07, 0.5)
    away = means - own
    is_near = (np.abs(away) < gap) & ~is_object & (rng.random(is_object.size) < CONTRAST_SHARE)
    pushed = own + np.where(away < 0, -gap, gap) * rng.uniform(1, 1.5, is_object.size)
    result: NDArray[np.float32] = np.where(is_near, pushed, means).astype(np.float32)
    return result


def _texture(
    places: NDArray[np.intp],
    labels: int,
    rng: np.random.Generator,
    images: Sequence[NDArray[np.uint16]],
) -> NDArray[np.float32]:
    """Return two textures of unit deviation, of which each label has a mixture of its own."""
    if images and rng.random() < TAKEN_SHARE:
        first, second = (_taken(places.shape[0], rng, images) for _ in range(2))
        strength = np.float32(log_uniform(rng, 0.7, 2.5))
    else:
        first = _grain(rng, places.shape, rng.uniform(0.5, 1.2))
        second = _grain(rng, places.shape, rng.uniform(1.2, 5.0))
        strength = np.float32(1)
    shares = rng.random(labels).astype(np.float32)
    if rng.random() < 0.5:
        shares = np.round(shares)
    mixed: NDArray[np.float32] = strength * (first + shares[places] * (second - first))
    return mixed


def _taken(
    side: int, rng: np.random.Generator, images: Sequence[NDArray[np.uint16]]
) -> NDArray[np.float32]:
    """Return a cube of a real image, anywhere, of any orientation, of unit deviation."""
    image = images[int(rng.integers(len(images)))]
    extent = log_uniform(rng, *TAKEN_SIDE)
    axes = []
    for size in image.shape:
        reach = min(extent, size)
        start = rng.uniform(0, size - reach)
        axis = np.clip(start + (np.arange(side) + 0.5) / side * reach, 0, size - 1).astype(int)
        axes.append(axis[::-1] if rng.random() < 0.5 else axis)
    cube = image[np.ix_(*axes)].astype(np.float32) / np.float32(MAX_VALUE)
    cube = cube.transpose(rng.permutation(3))
    if extent < side:
        cube = ndimage.uniform_filter(cube, int(np.ceil(side / extent)))
    deviation = float(cube.std())
    if deviation < 1e-3:
        return _grain(rng, cube.shape, 2.0)
    sign = 1 if rng.random() < 0.5 else -1
    standard = (cube - cube.mean()) * np.float32(sign / deviation)
    taken: NDArray[np.float32] = standard.clip(-3, 3)
    return taken


def _grain(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> NDArray[np.float32]:
    """Return blurred noise of unit deviation."""
    grain: NDArray[np.float32] = ndimage.gaussian_filter(_noise(rng, shape), sigma, truncate=2.5)
    grain /= max(float(grain.std()), 1e-6)
    return grain


def _draw_edges(
    image: NDArray[np.float32], places: NDArray[np.intp], rng: np.random.Generator
) -> None:
    """Draw lines where labels meet, most of them dark."""
    compact = places.astype(np.uint16)
    width = int(rng.integers(2, 4))
    edges = ndimage.maximum_filter(compact, width) != ndimage.minimum_filter(compact, width)
    is_dark = rng.random() < 0.8
    contrast = rng.uniform(0.1, 0.5)
    line = image.min() - contrast if is_dark else image.max() + contrast
    image[edges] += np.float32(rng.uniform(0.5, 1.0)) * (np.float32(line) - image[edges])


def _add_structure(
    image: NDArray[np.float32], is_object: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Add vessels, folds or blobs, in half of the cubes not in the object."""
    cells = int(rng.integers(4, 14))
    field = smooth_field(rng, image.shape, (cells,) * 3)
    is_sheet = rng.random() < 0.5
    where = np.abs(field) < rng.uniform(0.1, 0.3) if is_sheet else field > rng.uniform(0.5, 1.5)
    if rng.random() < 0.5:
        where &= ~is_object
    image[where] += np.float32(rng.normal(0, 0.15))


def _thicken(image: NDArray[np.float32], slices: int) -> None:
    """Give each run of so many slices their mean."""
    for start in range(0, len(image), slices):
        image[start : start + slices] = image[start : start + slices].mean(0)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)
