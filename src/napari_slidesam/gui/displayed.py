"""Where a viewer's sliders stand in an image: which plane is displayed, and moving to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import VolumeError
from napari_slidesam.gui.layers import N_SPATIAL, Plane, n_leading

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Layer


def leading_of(dims: Dims, layer: Layer) -> tuple[int, ...]:
    """Return where the sliders of the axes before z stand."""
    count = n_leading(layer)
    if not count:
        return ()
    position = layer.world_to_data(dims.point[-layer.ndim :])[:count]
    shape = layer.data[0].shape if layer.multiscale else layer.data.shape
    return tuple(
        int(min(max(round(float(p)), 0), int(n) - 1)) for p, n in zip(position, shape, strict=False)
    )


def displayed_axis(dims: Dims, layer: Layer) -> int:
    """Return the volume axis that the displayed planes lie along, whatever the axes' order.

    Raises
    ------
    VolumeError
        Three dimensions are displayed, or an axis that the volume has no part of.
    """
    if dims.ndisplay != 2:
        raise VolumeError(
            "Boxes and points are drawn on a slice, but the view is 3D. Switch to 2D with the "
            "button at the lower left (Ctrl+Y)."
        )
    shown = {int(d) - (int(dims.ndim) - int(layer.ndim)) for d in dims.displayed}
    if layer.ndim < N_SPATIAL:
        if shown != {0, 1}:
            raise VolumeError("The view does not show the plane of the 2D image: roll the axes.")
        return 0
    spatial = set(range(n_leading(layer), int(layer.ndim)))
    if not shown <= spatial:
        raise VolumeError(
            "The view shows an axis before z, such as time: roll the axes until two of z, y and x "
            "are displayed."
        )
    (left,) = spatial - shown
    return left - n_leading(layer)


def displayed_plane(dims: Dims, layer: Layer) -> Plane:
    """Return the plane that is displayed.

    Raises
    ------
    VolumeError
        As `displayed_axis`.
    """
    axis = displayed_axis(dims, layer)
    leading = leading_of(dims, layer)
    if layer.ndim < N_SPATIAL:
        return Plane(0, 0, leading)
    position = layer.world_to_data(dims.point[-layer.ndim :])
    shape = layer.data[0].shape if layer.multiscale else layer.data.shape
    place = len(leading) + axis
    index = min(max(round(float(position[place])), 0), int(shape[place]) - 1)
    return Plane(axis, int(index), leading)


def show_slice(dims: Dims, layer: Layer, axis: int, slice_index: int) -> None:
    """Move the slider of a volume axis; nothing where that axis is displayed."""
    if layer.ndim < N_SPATIAL:
        return
    place = n_leading(layer) + axis
    position = np.array(layer.world_to_data(dims.point[-layer.ndim :]), dtype=float)
    position[place] = slice_index
    world = layer.data_to_world(tuple(position))
    dims.set_point(int(dims.ndim) - int(layer.ndim) + place, float(world[place]))
