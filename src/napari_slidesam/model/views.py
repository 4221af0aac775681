"""Between a plane and the square image of it that a network sees; propagation and training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_slidesam.model.patches import LOGIT_LIMIT
from napari_slidesam.model.protocol import WINDOW_SLICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.geometry import Region
    from napari_slidesam.model.patches import LogitPatch


def resized(
    images: NDArray[np.float32], size: int, *, nearest: bool = False
) -> NDArray[np.float32]:
    """Resample images (S, h, w) to (S, size, size), averaged where they shrink."""
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return np.ascontiguousarray(images)
    tensor = torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(0)
    if nearest:
        out = F.interpolate(tensor, size=(size, size), mode="nearest")
    else:
        out = F.interpolate(
            tensor, size=(size, size), mode="bilinear", align_corners=False, antialias=width > size
        )
    resampled: NDArray[np.float32] = out[0].numpy()
    return resampled


def put_back(
    logits: torch.Tensor, shape_yx: tuple[int, int], *, by_way_of: int | None = None
) -> NDArray[np.float32]:
    """Return logits of shape (3, h, w) of the model frame at the frame's size in its plane.

    Parameters
    ----------
    logits : Tensor of float32, on the CPU
    shape_yx : tuple of 2 ints
    by_way_of : int, optional
        Enlarge them to this size of the model frame first, and never average.
    """
    images = logits[None]
    if by_way_of is not None:
        size = (by_way_of, by_way_of)
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    out = F.interpolate(
        images,
        size=shape_yx,
        mode="bilinear",
        align_corners=False,
        antialias=shape_yx[1] < logits.shape[-1] and by_way_of is None,
    )
    resampled: NDArray[np.float32] = out[0].numpy()
    return resampled


def mask_prompt(
    masks: Sequence[LogitPatch | None], outer: Region, size: int, *, nearest: bool = False
) -> NDArray[np.float32] | None:
    """Return what is known of the three slices as a mask prompt, or None.

    Parameters
    ----------
    masks : sequence of 3 LogitPatch or None
    outer : Region
        The part of the plane that the network sees.
    size : int
        Side of its image in model pixels.
    nearest : bool

    Returns
    -------
    ndarray of float32, shape (3, size, size), range [-1, 1], optional
        Twice the probability minus one; 0 where nothing is known.
    """
    if all(mask is None for mask in masks):
        return None
    layers = np.zeros((WINDOW_SLICES, *outer.shape_yx), dtype=np.float32)
    for layer, patch in zip(layers, masks, strict=True):
        if patch is not None:
            layer[:] = patch.on(outer, -LOGIT_LIMIT)
    return resized(np.tanh(layers / 2), size, nearest=nearest)
