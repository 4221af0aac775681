"""Connected parts of masks: the one in the middle, and what continues it on other slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def keep_connected(masks: NDArray[np.bool_], reach_px: int = 4) -> NDArray[np.bool_] | None:
    """Keep the part of a mask at the middle of the centre slice, and what continues it.

    Parameters
    ----------
    masks : ndarray of bool, shape (K, Y, X)
        Every pixel of the target's labels.
    reach_px : int
        Parts of the next slice count as connected up to this distance in plane.

    Returns
    -------
    ndarray of bool, shape (K, Y, X), or None
        None where the centre slice is empty.
    """
    middle = len(masks) // 2
    parts, count = ndimage.label(masks[middle], EIGHT_CONNECTED)
    if count == 0:
        return None
    kept = np.zeros_like(masks)
    kept[middle] = parts == central_part(parts)
    for direction in (-1, 1):
        known = kept[middle]
        for z in range(middle + direction, len(masks) if direction > 0 else -1, direction):
            if not masks[z].any():
                break
            near = ndimage.maximum_filter(known.view(np.uint8), 2 * reach_px + 1) > 0
            parts, count = ndimage.label(masks[z], EIGHT_CONNECTED)
            touched = np.zeros(count + 1, dtype=bool)
            touched[parts[near]] = True
            touched[0] = False
            known = kept[z] = touched[parts]
            if not known.any():
                break
    return kept


def central_part(parts: NDArray[np.int32]) -> int:
    """Return the component nearest to the middle; large ones count as nearer."""
    size = np.array(parts.shape)
    at_middle = int(parts[tuple(size // 2)])
    if at_middle:
        return at_middle
    areas = np.bincount(parts.ravel())[1:]
    rows = np.arange(size[0], dtype=np.float32)[:, None] - size[0] / 2
    cols = np.arange(size[1], dtype=np.float32) - size[1] / 2
    y = np.bincount(parts.ravel(), np.broadcast_to(rows, parts.shape).ravel())[1:] / areas
    x = np.bincount(parts.ravel(), np.broadcast_to(cols, parts.shape).ravel())[1:] / areas
    return 1 + int(np.argmin(np.hypot(y, x) - np.sqrt(areas)))
