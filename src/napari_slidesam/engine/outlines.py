"""A second opinion on a prompted slice's outline, averaged with what the window network says.

The window network was trained to follow objects through slices; the outline look only to draw the
object in a box, at a resolution that goes with the box. Their errors differ. Not in the paper.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.geometry import Region
from napari_slidesam.model.outline.look import OutlineQuestion
from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch
from napari_slidesam.model.protocol import OutlineModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.engine.object_run import ObjectRun
    from napari_slidesam.engine.predictor import PlanePrediction
    from napari_slidesam.geometry import Box
    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.prompts import PointPrompt

SILENCE = 0.15
"""Around a click that it contradicts the look is not heard within about so much of the box's mean
side: the deviation of a Gaussian."""


def with_outline(
    model: WindowModel, run: ObjectRun, anchor: int, box: Box, prediction: PlanePrediction
) -> PlanePrediction:
    """Return a prediction whose centre slice the outline look has drawn, too.

    Parameters
    ----------
    model : WindowModel
    run : ObjectRun
    anchor : int
        The prompted slice.
    box : Box
        Around the object there.
    prediction : PlanePrediction
        Of the window around that slice.

    Returns
    -------
    PlanePrediction
        Its predicted IoU is the mean of the network's, the look's own and their masks' IoU. The
        same prediction where the network has no outline look, it is turned off or nothing was
        found. Around clicks that the look contradicts it is not heard.

    Raises
    ------
    VolumeError
        A slice cannot be read.
    """
    weight = run.config.outline_weight if run.config.outline_look else 0.0
    top, centre, bottom = prediction.patches
    if weight == 0 or not isinstance(model, OutlineModel) or not centre.mask.any():
        return prediction
    last = run.slices.stack.n_slices - 1

    def near(offset: int, region: Region) -> NDArray[np.float32]:
        return run.slices.read(min(max(anchor + offset, 0), last), region)

    points = run.prompts.points_on(anchor)
    question = OutlineQuestion(box, run.slices.stack.plane_shape_yx, near, points)
    (view,) = model.outline.views([question])
    shares = np.full(centre.region.shape_yx, weight, dtype=np.float32)
    reach = SILENCE * math.sqrt(box.height * box.width)
    for point in points:
        if _contradicts(view.patch, point):
            shares *= 1 - _nearness(centre.region, point, reach)
    own_iou = view.quality / (2 - view.quality)  # of what it expects as Dice
    opinions = (prediction.predicted_iou, own_iou, centre.iou(view.patch))
    return replace(
        prediction,
        patches=(top, _mixed(centre, view.patch, shares), bottom),
        predicted_iou=sum(opinions) / len(opinions),
    )


def _contradicts(patch: LogitPatch, point: PointPrompt) -> bool:
    """Whether a patch leaves out a positive click or holds a negative one."""
    y, x = round(point.y), round(point.x)
    there = patch.on(Region(y, x, y + 1, x + 1), fill=-LOGIT_LIMIT)[0, 0]
    return bool(there > 0) != point.positive


def _nearness(region: Region, point: PointPrompt, reach: float) -> NDArray[np.float32]:
    """Return how near each pixel of a region is to a click, from 1 there to 0 far away."""
    rows = np.exp(-(((np.arange(region.y0, region.y1) - point.y) / reach) ** 2) / 2)
    columns = np.exp(-(((np.arange(region.x0, region.x1) - point.x) / reach) ** 2) / 2)
    near: NDArray[np.float32] = (rows[:, None] * columns).astype(np.float32)
    return near


def _mixed(patch: LogitPatch, other: LogitPatch, shares: NDArray[np.float32]) -> LogitPatch:
    """Return the mean of two patches' logits where the other one says something.

    ``shares`` are the other one's weights, for each pixel of the first.
    """
    logits = patch.logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)
    opinion = other.on(patch.region, fill=np.nan)
    shares = np.where(np.isnan(opinion), np.float32(0), shares)
    mixed = (1 - shares) * logits + shares * np.nan_to_num(opinion)
    return LogitPatch(patch.region, mixed.astype(np.float32, copy=False))
