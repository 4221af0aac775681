"""How much of a mask's outline lies on an edge of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.tuning.pseudo_masks import PseudoMask

REACH_PX = 3
"""Both sides of the outline are averaged over squares of 7 pixels: outlines may be a little off."""

RELATIVE_CONTRAST = 1 / 3
"""Of the median along the outline: an object with weak edges all around is an object, too."""

LEAST_CONTRAST = 0.05
"""Of the slice's range; below, it is noise."""


def outline_support(mask: PseudoMask, grey: NDArray[np.float32]) -> float:
    """Return the share of a mask's outline where inside and outside differ.

    A mask that a prompt cut off somewhere inside an object has a side without any edge.

    Parameters
    ----------
    mask : PseudoMask
    grey : ndarray of float32, shape (Y, X) of the plane, range [0, 1]

    Returns
    -------
    float, range [0, 1]
        1 where all of the outline is the plane's border.
    """
    region = mask.region
    height, width = grey.shape
    y0, x0 = max(region.y0 - REACH_PX, 0), max(region.x0 - REACH_PX, 0)
    y1, x1 = min(region.y1 + REACH_PX, height), min(region.x1 + REACH_PX, width)
    inside = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    inside[region.y0 - y0 : region.y1 - y0, region.x0 - x0 : region.x1 - x0] = mask.mask
    values = grey[y0:y1, x0:x1]
    # The plane's border is no outline: the object may go on beyond it.
    outline = inside & ~ndimage.binary_erosion(inside, border_value=1)
    if not outline.any():
        return 1.0
    contrast = np.abs(_near(values, inside) - _near(values, ~inside))[outline]
    least = max(RELATIVE_CONTRAST * float(np.median(contrast)), LEAST_CONTRAST)
    return float(np.mean(contrast >= least))


def _near(values: NDArray[np.float32], where: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the mean of the values around each pixel, of those that count."""
    side = 2 * REACH_PX + 1
    weights = ndimage.uniform_filter(where.astype(np.float32), side, mode="constant")
    totals = ndimage.uniform_filter(values * where, side, mode="constant")
    means: NDArray[np.float32] = totals / np.maximum(weights, 1e-6)
    return means
