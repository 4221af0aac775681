"""What a network sees of a window in training, made as inference makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.geometry import Region
from napari_slidesam.intensity import normalise
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.protocol import WindowPrompt
from napari_slidesam.model.views import mask_prompt, put_back, resized

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from napari_slidesam.geometry import Viewport
    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.tuning.plane_prompts import PlanePrompt

_FITTING_SHARE = 0.45
"""Of a view's side: the longer side of an object that it fits best (`LiteConfig`)."""

_WHITE_AND_BLACK = (0.0, 1.0)


def choose_view(
    model: WindowModel,
    prompt: PlanePrompt,
    mask: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Viewport:
    """Return where the network looks for a prompt.

    Of several views of a point, half of the time the one that fits the object: inference looks
    at all of them and trusts one.
    """
    ordered = sorted(prompt.points, key=lambda p: not p[2])
    points = [(y, x) for y, x, _ in ordered]
    shape = (int(mask.shape[0]), int(mask.shape[1]))
    views = model.viewports(prompt.box, points, shape)
    if len(views) == 1:
        return views[0]
    if rng.random() < 0.5:
        return views[int(rng.integers(len(views)))]
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    extent = max(np.ptp(rows), np.ptp(cols)) + 1 if rows.size else 1
    return min(views, key=lambda view: abs(np.log(extent / view.side / _FITTING_SHARE)))


def outer_region(view: Viewport) -> Region:
    """Return the square that a view shows; may reach beyond the plane."""
    return Region(view.y0, view.x0, view.y0 + view.side, view.x0 + view.side)


def seen_pixels(
    images: NDArray[np.float32], view: Viewport, *, own_range: bool
) -> NDArray[np.float32]:
    """Return what a network sees; float32, shape (3, size, size), range [0, 1].

    Parameters
    ----------
    images : ndarray of float32, shape (3, Y, X)
    view : Viewport
    own_range : bool
        Each view is mapped by its own percentiles (`napari_slidesam.intensity.Intensity`).
    """
    height, width = images.shape[1:]
    rows = np.clip(np.arange(view.y0, view.y0 + view.side), 0, height - 1)
    cols = np.clip(np.arange(view.x0, view.x0 + view.side), 0, width - 1)
    crops = np.ascontiguousarray(images[:, rows[:, None], cols[None, :]])
    return resized(normalise(crops, None if own_range else _WHITE_AND_BLACK), view.size)


def seen_masks(masks: NDArray[np.bool_], view: Viewport) -> NDArray[np.float32]:
    """Return masks (3, Y, X) as a view shows them, (3, size, size), range [0, 1]; 0 beyond."""
    shape = (int(masks.shape[1]), int(masks.shape[2]))
    inside = view.region(shape)
    crops = np.zeros((len(masks), view.side, view.side), dtype=np.float32)
    if inside is not None:
        crops[(slice(None), *inside.within(outer_region(view)))] = masks[
            (slice(None), *inside.slices)
        ]
    return resized(crops, view.size)


def seen_prompt(prompt: PlanePrompt, view: Viewport) -> WindowPrompt:
    """Return a prompt in the frame of a view."""
    return WindowPrompt(
        box_xyxy_model=None if prompt.box is None else view.box_xyxy_model(prompt.box),
        points_xy_model=tuple(view.point_xy_model(y, x) for y, x, _ in prompt.points),
        point_labels=tuple(int(positive) for _, _, positive in prompt.points),
        mask_logits_model=mask_prompt(prompt.masks, outer_region(view), view.size),
    )


def found_patches(
    logits: torch.Tensor, view: Viewport, shape_yx: tuple[int, int]
) -> tuple[LogitPatch, LogitPatch, LogitPatch]:
    """Return logits of shape (3, h, w) of a view as patches of the plane."""
    region = view.region(shape_yx)
    assert region is not None, "prompts lie on the plane, and views around them"
    on_view = put_back(logits, (view.side, view.side))
    cut = on_view[(slice(None), *region.within(outer_region(view)))]
    top, centre, bottom = (LogitPatch(region, layer) for layer in cut)
    return top, centre, bottom
