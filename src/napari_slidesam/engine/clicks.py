"""The size of what a click means, before the window network is asked.

A point says where an object is, not how large it is; the window network believes in whatever fits
the view that it is shown. Where a network comes with a click look, that look at the slice gives
the box that prompts it, together with the points. Not in the paper.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from napari_slidesam.model.protocol import ClickModel

if TYPE_CHECKING:
    from napari_slidesam.engine.object_run import ObjectRun
    from napari_slidesam.geometry import Box
    from napari_slidesam.model.protocol import WindowModel


def clicked_box(model: WindowModel, run: ObjectRun, anchor: int) -> Box | None:
    """Return a box around what the points on a slice mean.

    Parameters
    ----------
    model : WindowModel
    run : ObjectRun
    anchor : int
        The slice.

    Returns
    -------
    Box or None
        None where the network has no click look, it is turned off, a box or mask is given, or
        nothing is seen.

    Raises
    ------
    VolumeError
        The slice cannot be read.
    """
    if not run.config.click_look or not isinstance(model, ClickModel):
        return None
    points = run.prompts.points_on(anchor)
    positive = [(p.y, p.x) for p in points if p.positive]
    if not positive or run.prompts.box_on(anchor) is not None:
        return None
    negative = [(p.y, p.x) for p in points if not p.positive]
    read = partial(run.slices.read, anchor)
    return model.click.box(positive, negative, run.slices.stack.plane_shape_yx, read)
