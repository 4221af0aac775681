"""The shape to expect between two slices whose masks are known.

Both masks are fitted to the box interpolated between theirs, and their signed distances to the
outline are mixed (shape-based interpolation, Raya and Udupa, IEEE TMI 1990). The network gets it
as a mask prompt and draws the outline itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.geometry import Box

SOFTNESS = 0.04
"""Distance to the outline, in mean sides of the box, at which the logit is 1."""
MARGIN = 0.35
"""Of the box's sides: beyond it nothing is said."""
PAD_PX = 2


def shape_between(
    first: tuple[LogitPatch, Box],
    second: tuple[LogitPatch, Box],
    share: float,
    plane_shape_yx: tuple[int, int],
) -> LogitPatch:
    """Return the shape ``share`` of the way from a first slice (0) to a second one (1).

    Parameters
    ----------
    first, second : tuple of LogitPatch and Box
        Mask and box of the object on either slice.
    share : float, range [0, 1]
    plane_shape_yx : tuple of 2 ints

    Returns
    -------
    LogitPatch
        Around the interpolated box; empty where both masks are.
    """
    target = first[1].interpolated(second[1], share)
    region = target.enlarged(MARGIN).outer_region(plane_shape_yx)
    rows = (np.arange(region.y0, region.y1) + 0.5 - target.y0) / target.height
    cols = (np.arange(region.x0, region.x1) + 0.5 - target.x0) / target.width
    near, far = (_depth(patch, box, rows, cols) for patch, box in (first, second))
    depth = (1 - share) * near + share * far
    logits = np.clip(depth / SOFTNESS, -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.float32)
    return LogitPatch(region, logits)


def _depth(
    patch: LogitPatch, box: Box, rows: NDArray[np.floating[Any]], cols: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Return the signed distance to the outline, in mean sides, at shares of the box."""
    mask = np.pad(patch.mask, PAD_PX)
    if not mask.any():
        return np.full((rows.size, cols.size), -SOFTNESS)
    signed = np.where(
        mask,
        ndimage.distance_transform_edt(mask) - 0.5,
        0.5 - ndimage.distance_transform_edt(~mask),
    )
    ys = box.y0 + rows * box.height - 0.5 - patch.region.y0 + PAD_PX
    xs = box.x0 + cols * box.width - 0.5 - patch.region.x0 + PAD_PX
    grid = np.meshgrid(ys, xs, indexing="ij")
    found: NDArray[np.floating[Any]] = ndimage.map_coordinates(
        signed, grid, order=1, mode="nearest"
    )
    scaled: NDArray[np.floating[Any]] = found / np.sqrt(box.height * box.width)
    return scaled
