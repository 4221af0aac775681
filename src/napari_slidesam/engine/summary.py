"""What a session says about its objects: a table, and where one more box helps most."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_slidesam.engine.planes import bounding_box, filled_slices
from napari_slidesam.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.engine.objects import ObjectState, ObjectStop

CSV_COLUMNS = (
    "object,name,axis,voxels,volume,unit,slices,first_slice,last_slice,"
    "z0,y0,x0,z1,y1,x1,mean_quality,stops,accepted"
).split(",")


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object in numbers.

    Parameters
    ----------
    object_id : int
    name : str
    axis : int
        The axis that slices are counted along.
    voxels : int
        Of the object's own mask: a voxel that several objects hold counts for each.
    volume : float
        ``voxels`` times the volume of one, in ``unit`` to the third power.
    unit : str
    n_slices : int
        Slices with at least one voxel.
    slice_range : tuple of 2 ints, optional
        Half-open range of these slices; None where the object is empty.
    bbox_zyx : tuple of two corners, optional
        Half-open bounding box: first corner and end.
    mean_quality : float, optional
        Mean of `SliceQuality.score` over the slices; an edited slice counts as 1.
    stops : tuple of ObjectStop
    is_accepted : bool
    """

    object_id: int
    name: str
    axis: int
    voxels: int
    volume: float
    unit: str
    n_slices: int
    slice_range: tuple[int, int] | None
    bbox_zyx: tuple[tuple[int, int, int], tuple[int, int, int]] | None
    mean_quality: float | None
    stops: tuple[ObjectStop, ...]
    is_accepted: bool


def object_row(state: ObjectState, spacing_zyx: tuple[float, float, float], unit: str) -> ObjectRow:
    """Return the numbers of one object."""
    slices = filled_slices(state)
    voxels = sum(n_voxels for n_voxels, _ in slices.values())
    scores = [patch.quality.score for patch in state.own_slices.values() if patch.n_voxels]
    return ObjectRow(
        object_id=state.object_id,
        name=state.name,
        axis=state.axis,
        voxels=voxels,
        volume=voxels * math.prod(spacing_zyx),
        unit=unit,
        n_slices=len(slices),
        slice_range=(min(slices), max(slices) + 1) if slices else None,
        bbox_zyx=bounding_box(state.axis, slices),
        mean_quality=sum(scores) / len(scores) if scores else None,
        stops=state.stops,
        is_accepted=state.is_accepted,
    )


def worst_slices(
    state: ObjectState, n: int = 3, min_distance: int | None = None
) -> tuple[int, ...]:
    """Return the slices of an object where one more box helps most, the worst first.

    Candidates are the grown slices, neither prompted nor edited. They are ranked by
    ``score = predicted_iou * stability_score * agreement`` (`SliceQuality.score`), the lowest
    first, the lower slice first among equals. A candidate nearer than ``min_distance`` to one
    already taken is passed over, for a new box repairs its neighbours too.

    Parameters
    ----------
    state : ObjectState
    n : int
        Slices to return at most.
    min_distance : int, optional
        Without it, the object's number of slices over ``2 n``, at least 1: so that ``n``
        slices can always be found where the object is long enough.
    """
    if n < 1 or (min_distance is not None and min_distance < 1):
        raise SessionError(
            f"worst_slices needs n and min_distance of at least 1; got {n} and {min_distance}."
        )
    distance = min_distance if min_distance is not None else max(1, len(state.slices) // (2 * n))
    candidates = [(p.quality.score, i) for i, p in state.slices.items() if not p.is_prompted]
    taken: list[int] = []
    for _, index in sorted(candidates):
        if len(taken) == n:
            break
        if all(abs(index - other) >= distance for other in taken):
            taken.append(index)
    return tuple(taken)


def table_csv(rows: Sequence[ObjectRow]) -> str:
    """Return a table of objects as CSV, one line each under `CSV_COLUMNS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        first, last = ("", "")
        if row.slice_range is not None:
            first, last = str(row.slice_range[0]), str(row.slice_range[1] - 1)
        corners = [""] * 6 if row.bbox_zyx is None else [*row.bbox_zyx[0], *row.bbox_zyx[1]]
        quality = "" if row.mean_quality is None else f"{row.mean_quality:.4f}"
        stops = [f"{s.stop.direction:+d}@{s.slice_index}:{s.stop.reason}" for s in row.stops]
        size = [row.voxels, f"{row.volume:.10g}", row.unit, row.n_slices, first, last]
        rest = [quality, " ".join(stops), str(row.is_accepted).lower()]
        writer.writerow([row.object_id, row.name, "zyx"[row.axis], *size, *corners, *rest])
    return text.getvalue()
