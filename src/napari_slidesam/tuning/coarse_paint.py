"""Grey values for cubes of labels: a mean for each label, texture, blur, a smooth field, noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.tuning.fields import smooth_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIKE_SHARE = 0.4
"""Of the cubes: all but the object look nearly alike."""
BLURRED_SHARE = 0.5
FIELD_CELLS = 4


def painted(labels: NDArray[Any], label: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return an image of a cube of labels.

    Parameters
    ----------
    labels : ndarray of int, shape (n, n, n)
    label : int
        Of the object; it is in the cube.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (n, n, n)
        Values of about 0 to 1.
    """
    values, places = np.unique(labels, return_inverse=True)
    means = rng.random(values.size)
    if rng.random() < ALIKE_SHARE:
        others = rng.random() + rng.normal(0, 0.08, values.size)
        means = np.where(values == label, means, others)
    image: NDArray[np.float32] = means.astype(np.float32)[places.reshape(labels.shape)]
    texture = ndimage.gaussian_filter(_noise(rng, labels.shape), rng.uniform(0.6, 2.5))
    image += texture * np.float32(rng.uniform(0.01, 0.1) / max(float(texture.std()), 1e-6))
    if rng.random() < BLURRED_SHARE:
        image = ndimage.gaussian_filter(image, rng.uniform(0.5, 2))
    field = smooth_field(rng, labels.shape, (FIELD_CELLS,) * 3)
    image += field * np.float32(rng.uniform(0, 0.12))
    image += _noise(rng, labels.shape) * np.float32(rng.uniform(0, 0.06))
    return image


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)
