"""A second opinion on a prompted slice's outline, averaged with what the window network says.

The window network was trained to follow objects through slices; the outline look only to draw the
object in a box, at a resolution that goes with the box. Their errors differ. Not in the paper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.geometry import Region
from napari_slidesam.model.outline.look import OutlineQuestion
from napari_slidesam.model.patches import LOGIT_LIMIT, LogitPatch
from napari_slidesam.model.protocol import OutlineModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_slidesam.engine.object_run import ObjectRun
    from napari_slidesam.engine.predictor import PlanePrediction
    from napari_slidesam.geometry import Box
    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.prompts import PointPrompt


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
        same prediction where the network has no outline look, it is turned off, nothing was
        found, or the look contradicts a click.

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

    question = OutlineQuestion(box, run.slices.stack.plane_shape_yx, near)
    (view,) = model.outline.views([question])
    if _contradicts(view.patch, run.prompts.points_on(anchor)):
        return prediction
    own_iou = view.quality / (2 - view.quality)  # of what it expects as Dice
    opinions = (prediction.predicted_iou, own_iou, centre.iou(view.patch))
    return replace(
        prediction,
        patches=(top, _mixed(centre, view.patch, weight), bottom),
        predicted_iou=sum(opinions) / len(opinions),
    )


def _contradicts(patch: LogitPatch, points: Sequence[PointPrompt]) -> bool:
    """Whether a patch leaves out a positive click or holds a negative one."""
    for point in points:
        y, x = round(point.y), round(point.x)
        there = patch.on(Region(y, x, y + 1, x + 1), fill=-LOGIT_LIMIT)[0, 0]
        if (there > 0) != point.positive:
            return True
    return False


def _mixed(patch: LogitPatch, other: LogitPatch, weight: float) -> LogitPatch:
    """Return the weighted mean of two patches' logits where the other one says something."""
    logits = patch.logits.clip(-LOGIT_LIMIT, LOGIT_LIMIT)
    opinion = other.on(patch.region, fill=np.nan)
    share = np.where(np.isnan(opinion), np.float32(0), np.float32(weight))
    mixed = (1 - share) * logits + share * np.nan_to_num(opinion)
    return LogitPatch(patch.region, mixed.astype(np.float32, copy=False))
