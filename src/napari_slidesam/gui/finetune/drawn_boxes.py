"""Boxes of a Shapes layer for any image, and for volumes on disk."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import PromptError
from napari_slidesam.gui.drawing import drawn_box
from napari_slidesam.gui.layers import spatial_shape
from napari_slidesam.prompts import ObjectPrompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Shapes

OBJECT_FEATURES = ("object", "label")
"""Columns of a Shapes layer that say which boxes belong together."""


def boxes_by_volume(shapes: Shapes, images: Sequence[Image]) -> dict[str, Sequence[ObjectPrompts]]:
    """Return the boxes of a layer for each image, and as they are for volumes on disk.

    Shapes stay where they are in the world, so an image of another spacing or place gets them in
    its own voxels.

    Raises
    ------
    PromptError
        There is no shape, or one is not on a slice of an image.
    """
    from napari_slidesam.jobs.boxes import ALL_VOLUMES

    if not len(shapes.data):
        raise PromptError(f"{shapes.name} holds no box: draw one around each object.")
    found: dict[str, Sequence[ObjectPrompts]] = {}
    for image in images:
        moved = [_moved(vertices, shapes, image) for vertices in shapes.data]
        found[str(image.name)] = _prompts(shapes, moved, spatial_shape(image))
    own = [np.asarray(v, dtype=float)[:, -3:] for v in shapes.data]
    reach = np.max([v.max(axis=0) for v in own], axis=0)
    z, y, x = (int(n) + 2 for n in (*[0] * (3 - len(reach)), *reach))
    found[ALL_VOLUMES] = _prompts(shapes, own, (z, y, x))
    return found


def _moved(vertices: Any, shapes: Shapes, image: Image) -> Any:
    world = [shapes.data_to_world(tuple(v)) for v in np.asarray(vertices, dtype=float)]
    inner = [np.asarray(image.world_to_data(w[-image.ndim :]), dtype=float)[-3:] for w in world]
    return np.stack(inner)


def _prompts(
    shapes: Shapes, drawings: Sequence[Any], shape_zyx: tuple[int, int, int]
) -> tuple[ObjectPrompts, ...]:
    kinds, ids = list(shapes.shape_type), _object_ids(shapes)
    drawn: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for vertices, kind, object_id in zip(drawings, kinds, ids, strict=True):
        one = drawn_box(vertices, str(kind), shape_zyx, _flat_axis(vertices))
        drawn[object_id, one.plane.axis].append(one)
    taken: dict[int, int] = {}
    for object_id, axis in drawn:
        if taken.setdefault(object_id, axis) != axis:
            raise PromptError(
                f"Object {object_id} of {shapes.name} has boxes along two axes. Give one of them "
                "another number."
            )
    return tuple(
        ObjectPrompts(object_id, tuple(one.box for one in many), axis=axis)
        for (object_id, axis), many in drawn.items()
    )


def _flat_axis(vertices: Any) -> int:
    """Return the axis along which a drawing lies on one slice."""
    extent = np.ptp(np.asarray(vertices, dtype=float), axis=0)
    return 0 if len(extent) < 3 else int(np.argmin(extent))


def _object_ids(shapes: Shapes) -> list[int]:
    """Return a number for each shape: what its features say, else one of its own."""
    n = len(shapes.data)
    for name in OBJECT_FEATURES:
        if name in shapes.features.columns:
            try:
                ids = [int(value) for value in shapes.features[name]]
            except (TypeError, ValueError):
                continue
            if len(ids) == n and min(ids, default=0) > 0:
                return ids
    return list(range(1, n + 1))
