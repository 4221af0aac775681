"""The sliding rule of propagation with any segmenter of a single plane in the network's place.

From each prompted slice the mask slides in both directions: it is opened, its box is enlarged
and prompts the next slice (Slide-SAM, 2.4 and C.1), with the guards of `PropagationConfig`.
Between two prompted slices each goes halfway.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.results import StopReason, TrackStop
from napari_slidesam.evaluation.tracing import Trace
from napari_slidesam.geometry import mask_to_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.engine.objects import PlaneMask
    from napari_slidesam.evaluation.planar import PlanarSegmenter
    from napari_slidesam.evaluation.tracing import BoxTask
    from napari_slidesam.geometry import Box

_SMALL_AREA_PX = 4


def trace_sliding(
    task: BoxTask, segment: PlanarSegmenter, config: PropagationConfig | None = None
) -> Trace:
    """Segment the prompted slices and slide from each of them.

    Parameters
    ----------
    task : BoxTask
    segment : PlanarSegmenter
    config : PropagationConfig, optional
        Its opening, box margin and drift guards are used; it has the defaults of the model.
    """
    config = config or PropagationConfig()
    planes: dict[int, PlaneMask] = {}
    stops: list[TrackStop] = []
    prompted = list(task.boxes)
    for position, index in enumerate(prompted):
        start = segment(task.image_syx[index], task.boxes[index])
        planes[index] = start
        before = prompted[position - 1] if position else None
        after = prompted[position + 1] if position + 1 < len(prompted) else None
        # The slice in the very middle goes to the earlier prompt.
        first = 0 if before is None else (before + index) // 2 + 1
        last = task.n_slices - 1 if after is None else (index + after) // 2
        for direction, end, meets in ((-1, first, before), (1, last, after)):
            reason = _slide(task, segment, config, planes, index, direction, end)
            if reason is StopReason.END_OF_VOLUME and meets is not None:
                reason = StopReason.MET_PROMPT
            stops.append(TrackStop(direction, reason))
    return Trace(planes, tuple(stops))


def _slide(
    task: BoxTask,
    segment: PlanarSegmenter,
    config: PropagationConfig,
    planes: dict[int, PlaneMask],
    index: int,
    direction: int,
    end: int,
) -> StopReason:
    """Add masks to ``planes`` from ``index`` (exclusive) to ``end`` (inclusive)."""
    previous = planes[index]
    while previous.mask.any():
        if index == end:
            return StopReason.END_OF_VOLUME
        index += direction
        box = _next_box(previous, config).clipped(task.plane_shape_yx)
        if box is None:
            return StopReason.EMPTY
        found = segment(task.image_syx[index], box)
        if not found.mask.any():
            return StopReason.EMPTY
        if _has_drifted(previous, found, config):
            return StopReason.DRIFT
        planes[index] = found
        previous = found
    return StopReason.EMPTY


def _next_box(plane: PlaneMask, config: PropagationConfig) -> Box:
    box = mask_to_box(_opened(plane.mask, config.opening_radius_px), plane.region)
    assert box is not None, "an opened mask keeps at least one pixel"
    return box.enlarged(config.box_margin)


def _opened(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Return the mask opened by a disk; the radius is halved until something is left."""
    padded = np.pad(mask, radius_px)
    while radius_px > 0:
        offsets = np.arange(-radius_px, radius_px + 1)
        disk = offsets[:, np.newaxis] ** 2 + offsets**2 <= radius_px**2
        opened = ndimage.binary_opening(padded, disk)
        if opened.any():
            margin = (padded.shape[0] - mask.shape[0]) // 2
            return np.asarray(opened[margin : margin + mask.shape[0], margin:][:, : mask.shape[1]])
        radius_px //= 2
    return mask


def _has_drifted(previous: PlaneMask, found: PlaneMask, config: PropagationConfig) -> bool:
    areas = (np.count_nonzero(previous.mask), np.count_nonzero(found.mask))
    # Areas of a few pixels jump by large factors without meaning.
    if max(areas) + _SMALL_AREA_PX > config.max_area_ratio * (min(areas) + _SMALL_AREA_PX):
        return True
    box = mask_to_box(previous.mask, previous.region)
    assert box is not None, "a mask that slides is not empty"
    (y0, x0), (y1, x1) = _centroid(previous), _centroid(found)
    shift = math.hypot(y1 - y0, x1 - x0)
    return shift > config.max_centroid_shift * math.hypot(box.height, box.width)


def _centroid(plane: PlaneMask) -> tuple[float, float]:
    ys, xs = np.nonzero(plane.mask)
    return float(ys.mean()) + plane.region.y0, float(xs.mean()) + plane.region.x0
