"""Morphology of masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.morphology import disk

from napari_slidesam.geometry import mask_to_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.geometry import Box, Region


def opened(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Return the mask after morphological opening with a disk (2.4).

    A mask too thin for the radius is opened with half of it, and so on: denoising must not
    make a thin object vanish.
    """
    while radius_px > 0:
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if rows.size == 0:
            return mask
        cut = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        inner = ndimage.binary_opening(np.pad(mask[cut], radius_px), disk(radius_px))
        if inner.any():
            out = np.zeros_like(mask)
            out[cut] = inner[radius_px:-radius_px, radius_px:-radius_px]
            return out
        radius_px //= 2
    return mask


def opened_box(
    mask: NDArray[np.bool_], region: Region | None, radius_px: int, margin: float
) -> Box | None:
    """Return the enlarged box of an opened mask, or None where it is empty.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)
    region : Region, optional
        Where ``mask`` lies in its plane; the box is then in the plane's frame.
    radius_px : int
    margin : float
        Share of each side by which the box is enlarged on all four sides.
    """
    box = mask_to_box(opened(mask, radius_px), region)
    return box if box is None or margin == 0 else box.enlarged(margin)
