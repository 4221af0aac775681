"""What the published predictor does otherwise than the paper says, one named flag each.

The default of this package is what the paper says and what measures best. ``compat="published"``
asks for the published predictor of Slide-SAM instead, quirks included, so that its figures can
be made again with its weights. ``docs/deviations.md`` lists every quirk with its measured effect.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.engine.fusion import Fused, Vote
from napari_slidesam.errors import ConfigError
from napari_slidesam.geometry import INDEX_TO_EDGE
from napari_slidesam.metrics import dice
from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PUBLISHED = "published"
"""The value of ``compat`` that asks for every quirk and for `PUBLISHED_OPTIONS`."""

BoxXyxy = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Quirks:
    """Ways of the published predictor; all off is the default of this package.

    In ``compat`` they are named with hyphens and put together with commas, such as
    ``"min-max,nearest-resize"``.

    Parameters
    ----------
    min_max : bool
        Each window's own minimum and maximum become 0 and 1, after clipping to the preset's
        range where one is chosen.
    nearest_resize : bool
        Planes are resized to the network's square by nearest neighbour, without keeping the
        aspect ratio where the whole plane is seen; logits come back by two bilinear steps.
    inclusive_boxes : bool
        Prompts are pixel indices: a box ends on its last pixel instead of behind it.
    lopsided_margin : bool
        The box handed on is moved by 5 % of its width at its upper left and by 5 % of its
        height at its lower right corner, both corners up and to the left: two sides grow, two
        shrink.
    union : bool
        A slice's mask is whatever any window says of it, and the last window's outer slice is
        kept; no logits are averaged.
    opened_masks : bool
        Every mask is opened by a square of a twentieth of its area, at most 8 px, which moves
        it by a pixel where that side is even; one of 50 px or less hands on no box.
    window_stability : bool
        The stability score is taken of all three slices together.
    lone_prompts : bool
        Prompts on several slices of an object travel alone, each to the object's end; a slice
        is given to the one whose window there is most stable, a prompted one counting twice.
    inner_windows : bool
        No window is centred on the volume's first or last slice.
    single_look : bool
        A prompt is answered at once, without a second look at the box or mask of what was found.
    """

    min_max: bool = False
    nearest_resize: bool = False
    inclusive_boxes: bool = False
    lopsided_margin: bool = False
    union: bool = False
    opened_masks: bool = False
    window_stability: bool = False
    lone_prompts: bool = False
    inner_windows: bool = False
    single_look: bool = False


NO_QUIRKS = Quirks()

PUBLISHED_OPTIONS: dict[str, Any] = {
    "min_predicted_iou": 0.5,
    "min_stability": 0.6,
    "stability_offset": 1.0,
    "candidate_sharpness": 1e6,
    "consistency_weight": 0.0,
    "box_weight": 0.0,
    "carry_masks": False,
    "click_look": False,
    "coarse_look": False,
    "outline_look": False,
    "prompt_trust": 0.0,
    "refine_prompted": False,
    "interpolate_shapes": False,
    "max_area_ratio": float("inf"),
    "max_centroid_shift": float("inf"),
    "min_presence": 0.0,
    "min_likeness": float("-inf"),
    "depth_doubt": 0.0,
    "gap_doubt": 0.0,
    "opening_radius_px": 0,
}
"""Options of propagation as published: its thresholds (the paper says 0.4 and an offset of 0.1),
the best candidate alone, one look, no mask handed on, no click, coarse or outline look, no guard
beyond predicted IoU and stability."""


@lru_cache(maxsize=64)
def quirks_of(compat: str | None) -> Quirks:
    """Return the quirks that ``compat`` asks for.

    Raises
    ------
    ConfigError
        A name is unknown.
    """
    if compat is None:
        return NO_QUIRKS
    known = {f.name.replace("_", "-"): f.name for f in fields(Quirks)}
    if compat == PUBLISHED:
        return Quirks(**dict.fromkeys(known.values(), True))
    names = [name.strip() for name in compat.split(",")]
    unknown = sorted({name for name in names if name not in known})
    if unknown:
        raise ConfigError(
            f"compat is {PUBLISHED!r}, or quirks of it with commas between: "
            f"{', '.join(sorted(known))}; got {compat!r}."
        )
    return Quirks(**{known[name]: True for name in names})


def min_max_range(
    values: NDArray[np.float32], clip: tuple[float, float] | None
) -> tuple[float, float]:
    """Return the extremes of a window's finite values, inside the range they are clipped to."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return (0.0, 0.0)
    low, high = float(finite.min()), float(finite.max())
    if clip is None:
        return (low, high)
    start, stop = clip
    return (min(max(low, start), stop), min(max(high, start), stop))


def inclusive_drawn(box: BoxXyxy, pixel_xy: tuple[float, float]) -> BoxXyxy:
    """Return a box's first and last pixel, as published prompts name them.

    Parameters
    ----------
    box : tuple of 4 floats
        Half-open, edge coordinates of the model frame.
    pixel_xy : tuple of 2 floats
        Extent of a pixel of the plane in the model frame: the last pixel is one before the end.

    Returns
    -------
    tuple of 4 floats
        Edge coordinates of the centres of the model pixels whose indices are published.
    """
    x0, y0, x1, y1 = box
    width, height = pixel_xy
    return (
        x0 + INDEX_TO_EDGE,
        y0 + INDEX_TO_EDGE,
        x1 - width + INDEX_TO_EDGE,
        y1 - height + INDEX_TO_EDGE,
    )


def inclusive_handed(box: BoxXyxy) -> BoxXyxy:
    """Return the first and last model pixel of a mask resized by nearest neighbour."""
    x0, y0, x1, y1 = (float(np.ceil(v)) for v in box)
    return (x0 + INDEX_TO_EDGE, y0 + INDEX_TO_EDGE, x1 - INDEX_TO_EDGE, y1 - INDEX_TO_EDGE)


def lopsided(box: BoxXyxy, size: int) -> BoxXyxy:
    """Return the box as the published ``enlarge`` leaves it, in the model frame of this size."""
    x0, y0, x1, y1 = box
    by_width, by_height = int((x1 - x0) * 0.05), int((y1 - y0) * 0.05)
    first, last = INDEX_TO_EDGE, size - 1 + INDEX_TO_EDGE
    return (
        max(x0 - by_width, first),
        max(y0 - by_width, first),
        min(x1 - by_height, last),
        min(y1 - by_height, last),
    )


MIN_HANDED_PX = 50
"""A mask of this area or less hands on no box."""

_OPENING_SHARE, _MAX_OPENING_PX, _EMPTY_KERNEL_PX = 20, 8, 3

_FAINT_LOGIT = 1e-3


def opened_by_square(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask after the published opening.

    The square's side is a twentieth of the area, at most 8 px; below an area of 20 px the
    image library takes a square of 3 px for the empty one. Erosion and dilation use the same
    anchor, so a square of even side moves the mask by a pixel down and to the right.
    """
    side = min(int(mask.sum()) // _OPENING_SHARE, _MAX_OPENING_PX) or _EMPTY_KERNEL_PX
    eroded = ndimage.minimum_filter(mask.view(np.uint8), side, mode="constant", cval=1)
    grown = ndimage.maximum_filter(eroded, side, mode="constant", cval=0)
    out: NDArray[np.bool_] = grown.astype(bool)
    return out


def opened_patch(patch: LogitPatch) -> LogitPatch:
    """Return the logits with their signs as the opened mask has them."""
    if not patch.mask.any():
        return patch
    inside = opened_by_square(patch.mask)
    faint = np.float32(_FAINT_LOGIT)
    logits = np.where(
        inside, np.maximum(patch.logits, faint), np.minimum(patch.logits, -faint)
    ).astype(np.float32)
    return LogitPatch(patch.region, logits)


def unite(votes: Sequence[Vote]) -> Fused:
    """Return the union of the votes of the prompt that is most sure of the slice."""
    assert votes, "a slice without votes has no result"
    # Of equally sure prompts the later one counts, as published.
    surest = max(votes, key=lambda vote: (vote.weight, vote.source))
    chosen = [vote for vote in votes if vote.source == surest.source]
    region = chosen[0].patch.region
    for vote in chosen[1:]:
        region = region.union(vote.patch.region)
    layers = np.stack([np.clip(v.patch.on(region), -LOGIT_LIMIT, LOGIT_LIMIT) for v in chosen])
    patch = LogitPatch(region, layers.max(axis=0))
    agreement = 1.0
    if len(chosen) > 1:
        agreement = float(np.mean([dice(layer > 0, patch.mask) for layer in layers]))
    return Fused(patch, surest.predicted_iou, agreement)
