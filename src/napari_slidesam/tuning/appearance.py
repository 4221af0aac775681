"""Appearances for label stacks: random intensities, textures, edges, noise, intensity curves.

A label stack painted anew at every draw teaches a network to follow outlines and context
instead of one scanner's grey values (domain randomisation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.tuning.fields import (
    apply_in_plane,
    averaging_matrix,
    blurring_matrix,
    log_uniform,
    stack_field,
    upsampling_matrix,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTRAST_SHARE = 0.85
"""Share of a target's neighbours that are given a contrast to it."""
EDGE_SHARE = 0.15
"""Share of the stacks with lines drawn between labels, as membranes in electron microscopy."""
EDGE_ONLY_SHARE = 0.3
"""Share of those in which the lines alone tell the labels apart."""
NEIGHBOUR_REACH_PX = 5
VOXEL_BLUR = 0.55
"""Deviation, in voxels, of the blur that rounds off the steps of a coarse label volume; below
0.74 a wall one voxel thick survives a threshold of one half."""


def paint(
    labels: NDArray[Any],
    target: NDArray[np.bool_],
    rng: np.random.Generator,
    voxel_yx_px: tuple[float, float] = (1.0, 1.0),
) -> NDArray[np.float32]:
    """Return an image of a label stack, clean enough that `degrade` may follow.

    Parameters
    ----------
    labels : ndarray of int, shape (K, Y, X)
        Labels of the stack's slices; Y = X.
    target : ndarray of bool, shape (K, Y, X)
        The object that is going to be prompted: it gets a contrast to most of its neighbours.
    rng : numpy.random.Generator
        Source of all choices.
    voxel_yx_px : tuple of 2 floats
        Extent of a voxel of the label volume on the stack: steps of coarse volumes are smoothed.

    Returns
    -------
    ndarray of float32, shape (K, Y, X)
        Intensities of about 0 to 1.
    """
    values, inverse = _compact(labels)
    draw_edges = rng.random() < EDGE_SHARE
    edges_only = draw_edges and rng.random() < EDGE_ONLY_SHARE
    means, deviations = _label_statistics(values, inverse, target, rng)
    if edges_only:
        means[:] = rng.uniform(0.3, 0.9)
        deviations[:] = rng.uniform(0.0, 0.06)
    image = means[inverse]
    if draw_edges:
        _draw_edges(image, inverse, rng)
    if max(voxel_yx_px) > 1.5:
        sigma_y, sigma_x = (VOXEL_BLUR * v for v in voxel_yx_px)
        size = image.shape[1]
        image = apply_in_plane(
            image, blurring_matrix(size, sigma_y), blurring_matrix(size, sigma_x)
        )
    image += deviations[inverse] * _texture(values.size, inverse, rng)
    if rng.random() < 0.35:
        _add_structure(image, target, rng)
    return image


def degrade(
    image: NDArray[np.float32], rng: np.random.Generator, strength: float = 1.0
) -> NDArray[np.float32]:
    """Return an image with blur, bias field, noise, lost resolution and slice-wise shifts.

    Parameters
    ----------
    image : ndarray of float32, shape (K, Y, X)
        Intensities of about 0 to 1; Y = X.
    rng : numpy.random.Generator
        Source of all choices.
    strength : float
        Multiplies bias, noise and shifts.
    """
    slices, size, _ = image.shape
    if rng.random() < 0.6:
        blur = blurring_matrix(size, log_uniform(rng, 0.5, 3.5))
        image = apply_in_plane(image, blur, blur)
    if rng.random() < 0.5:
        field = stack_field(rng, slices, size, size / 2, 0.95)
        image = image * np.exp(np.float32(rng.normal(0, 0.25 * strength)) * field)
    if rng.random() < 0.15:  # serial sections and photobleaching: slices differ in gain and offset
        gain = 1 + rng.normal(0, 0.12 * strength, (slices, 1, 1))
        offset = rng.normal(0, 0.06 * strength, (slices, 1, 1))
        image = image * gain.astype(np.float32) + offset.astype(np.float32)
    if rng.random() < 0.8:
        image = image + _noise(image, rng, strength)
    if rng.random() < 0.45:
        coarse = int(size / log_uniform(rng, 1.3, 5))
        down = averaging_matrix(size, coarse)
        if rng.random() < 0.2:
            up = (down > 0).T.astype(np.float32)
            up /= up.sum(1, keepdims=True)
        else:
            up = upsampling_matrix(coarse, size)
        image = apply_in_plane(apply_in_plane(image, down, down), up, up)
    return image


def remap(
    image: NDArray[np.float32], rng: np.random.Generator, share: float = 0.6
) -> NDArray[np.float32]:
    """Return an image of range 0-1, a share of them behind a random intensity curve.

    Of that share: an intensity window as in CT (25 %), gamma with or without inversion (41 %), a
    piecewise monotone (17 %) or an arbitrary curve (17 %).
    """
    if rng.random() >= share:
        return image
    choice = rng.uniform(0.4, 1.0)
    if choice < 0.55:
        low, high = np.percentile(image[:, ::4, ::4], [rng.uniform(0, 35), rng.uniform(75, 100)])
        windowed: NDArray[np.float32] = (image - np.float32(low)) / np.float32(
            max(float(high - low), 1e-3)
        )
        return np.clip(windowed, 0, 1)
    clipped = np.clip(image, 0, 1)
    if choice < 0.8:
        curved = clipped ** np.float32(log_uniform(rng, 0.5, 2.0))
        return (1 - curved if rng.random() < 0.4 else curved).astype(np.float32)
    knots = np.linspace(0.0, 1.0, 6)
    heights = np.sort(rng.random(6)) if choice < 0.9 else rng.random(6)
    if choice < 0.9 and rng.random() < 0.4:
        heights = heights[::-1]
    return np.interp(clipped, knots, heights).astype(np.float32)


def to_uint8(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a stack scaled to 0-255 between its 0.5th and 99.5th percentile."""
    low, high = np.percentile(image[:, ::3, ::3], [0.5, 99.5])
    scaled = (image - np.float32(low)) * np.float32(255 / max(float(high - low), 1e-6))
    result: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8)
    return result


def _compact(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the distinct labels and, for every pixel, the index of its label among them."""
    values = np.flatnonzero(np.bincount(labels.ravel()))
    lookup = np.zeros(int(values[-1]) + 1, dtype=np.intp)
    lookup[values] = np.arange(values.size)
    return values, lookup[labels]


def _neighbours(inverse: NDArray[np.intp], target: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the indices of the labels next to the target, in plane and between slices."""
    reach = NEIGHBOUR_REACH_PX
    found = []
    for axis, step in ((0, 1), (1, reach), (2, reach)):
        first = [slice(None)] * 3
        second = [slice(None)] * 3
        first[axis], second[axis] = slice(None, -step), slice(step, None)
        for here, there in ((tuple(first), tuple(second)), (tuple(second), tuple(first))):
            leaves = target[here] & ~target[there]
            found.append(np.bincount(inverse[there][leaves]))
    counts = np.zeros(max(f.size for f in found), dtype=np.int64)
    for f in found:
        counts[: f.size] += f
    return np.flatnonzero(counts)


def _label_statistics(
    values: NDArray[Any],
    inverse: NDArray[np.intp],
    target: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a mean and a standard deviation for every label of a stack."""
    palette = rng.random(int(rng.integers(2, 9)))
    means = rng.choice(palette, values.size) + rng.normal(0, 0.04, values.size)
    deviations = np.abs(rng.normal(0, 0.06, values.size))
    if values[0] == 0 and rng.random() < 0.5:
        means[0] = rng.choice([0.0, rng.random() * 0.2])
        deviations[0] = 0.01
    inside = np.flatnonzero(np.bincount(inverse[target], minlength=values.size))
    if inside.size == 0:
        return means.astype(np.float32), deviations.astype(np.float32)
    if rng.random() < 0.8:  # mostly one look for the whole target, also where it has parts
        means[inside] = means[inside[0]] + rng.normal(0, 0.02, inside.size)
        deviations[inside] = deviations[inside[0]]
    gap = log_uniform(rng, 0.07, 0.5)
    mean = means[inside].mean()
    for index in np.setdiff1d(_neighbours(inverse, target), inside):
        difference = means[index] - mean
        if abs(difference) < gap and rng.random() < CONTRAST_SHARE:
            sign = 1.0 if difference >= 0 else -1.0
            means[index] = mean + sign * gap * rng.uniform(1, 1.5)
    return means.astype(np.float32), deviations.astype(np.float32)


def _draw_edges(
    image: NDArray[np.float32], inverse: NDArray[np.intp], rng: np.random.Generator
) -> None:
    """Draw lines, mostly dark, where labels meet, 2-6 pixels wide."""
    compact = inverse.astype(np.uint16)
    width = (1, *2 * (int(rng.integers(2, 6)),))
    edges = ndimage.maximum_filter(compact, width) != ndimage.minimum_filter(compact, width)
    dark = rng.random() < 0.85
    line = image.min() - rng.uniform(0.1, 0.5) if dark else image.max() + rng.uniform(0.1, 0.5)
    opacity = np.float32(rng.uniform(0.5, 1.0))
    image[edges] += opacity * (np.float32(line) - image[edges])


def _texture(
    labels: int, inverse: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return unit-scale noise of several grains, of which each label takes its own mixture."""
    slices, size, _ = inverse.shape
    correlation = rng.uniform(0.2, 0.95)
    fine = stack_field(rng, slices, size, 1, correlation) * np.float32(rng.random())
    fine += stack_field(rng, slices, size, log_uniform(rng, 2, 6), correlation) * np.float32(
        rng.random()
    )
    coarse = stack_field(rng, slices, size, log_uniform(rng, 6, 20), correlation)
    share = rng.random(labels).astype(np.float32)[inverse]
    texture: NDArray[np.float32] = coarse + share * (fine - coarse)
    return texture


def _add_structure(
    image: NDArray[np.float32], target: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Add thresholded structure that no label knows: vessels, folds, grains."""
    slices, size, _ = image.shape
    field = stack_field(rng, slices, size, log_uniform(rng, 5, 25), 0.95)
    if rng.random() < 0.5:
        structure = np.abs(field) < rng.uniform(0.1, 0.4)
    else:
        structure = field > rng.uniform(0.5, 1.5)
    if rng.random() < 0.5:
        structure &= ~target
    image[structure] += np.float32(rng.normal(0, 0.12))


def _noise(
    image: NDArray[np.float32], rng: np.random.Generator, strength: float
) -> NDArray[np.float32]:
    """Return noise of two grains, little correlated between slices, sometimes as a photon's."""
    slices, size, _ = image.shape
    correlation = rng.uniform(0, 0.4)
    white, grain = np.abs(rng.normal(0, 0.045 * strength, 2)).astype(np.float32)
    noise: NDArray[np.float32] = white * stack_field(rng, slices, size, 1, correlation)
    noise += grain * stack_field(rng, slices, size, log_uniform(rng, 1.5, 5), correlation)
    if rng.random() < 0.25:
        noise *= np.sqrt(np.clip(image, 0.02, 1.5)) * np.float32(1.4)
    return noise
