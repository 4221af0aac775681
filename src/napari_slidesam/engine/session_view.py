"""A session at one moment: everything that can be read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine import summary
from napari_slidesam.engine.planes import (
    draw_labels,
    draw_labels_plane,
    draw_object,
    object_plane,
    plane_shape,
    whole_plane,
)
from napari_slidesam.errors import SessionError
from napari_slidesam.io.atomic import replacing_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from napari_slidesam.engine.config import PropagationConfig
    from napari_slidesam.engine.objects import ObjectState, PlaneKey, SlicePatch
    from napari_slidesam.engine.planes import OverlapRule
    from napari_slidesam.engine.results import SliceQuality
    from napari_slidesam.engine.session_state import (
        LogEntry,
        RunRecord,
        SessionInfo,
        SessionState,
    )
    from napari_slidesam.geometry import Region


class SessionView:
    """What can be read from a session; a view itself never changes.

    `Session` is a view with methods that change it. `Session.snapshot` returns a plain view,
    which may be read in another thread while the session goes on.
    """

    def __init__(
        self, info: SessionInfo, state: SessionState, log: tuple[LogEntry, ...] = ()
    ) -> None:
        self._info = info
        self._state = state
        self._log = log

    def snapshot(self) -> SessionView:
        """Return the session as it is now, to be read in any thread."""
        return SessionView(self._info, self._state, self._log)

    @property
    def info(self) -> SessionInfo:
        """What the session is about."""
        return self._info

    @property
    def state(self) -> SessionState:
        """Objects, overlap rule and runs; immutable."""
        return self._state

    @property
    def log(self) -> tuple[LogEntry, ...]:
        """Every operation in the order in which it happened, undone ones included."""
        return self._log

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Shape of the volume."""
        return self._info.shape_zyx

    @property
    def config(self) -> PropagationConfig:
        """Options of the next run."""
        return self._info.config

    @property
    def model_name(self) -> str:
        """Network and weights of the next run, as recorded."""
        return self._info.model_name

    @property
    def overlap_rule(self) -> OverlapRule:
        """Who owns a voxel that several objects hold."""
        return self._state.overlap_rule

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """The recorded propagations, the first one first."""
        return self._state.runs

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Sorted ids of the objects."""
        return tuple(self._state.objects)

    @property
    def planes(self) -> tuple[PlaneKey, ...]:
        """Every plane of every object that holds a part of its mask."""
        return self._state.planes

    def next_free_id(self) -> int:
        """Return one more than the highest id ever used, also by objects since removed.

        An id is not given twice, so that a late result can never land in a newer object.
        """
        return max(self._info.highest_id, *self._state.objects, 0) + 1

    def object_state(self, object_id: int) -> ObjectState:
        """Return the snapshot of one object.

        Raises
        ------
        SessionError
            There is no such object.
        """
        try:
            return self._state.objects[object_id]
        except KeyError:
            raise SessionError(
                f"There is no object {object_id}: the session has {list(self.object_ids)}."
            ) from None

    def mask(self, object_id: int) -> NDArray[np.bool_]:
        """Return one object's own mask, whatever others overlap it; bool, zyx."""
        out = np.zeros(self.shape_zyx, dtype=np.bool_)
        draw_object(out, self.object_state(object_id))
        return out

    def mask_plane(self, object_id: int, axis: int, slice_index: int) -> NDArray[np.bool_]:
        """Return one object's own mask on a plane along any axis; bool, shape (y, x)."""
        self.check_plane(axis, slice_index)
        out = np.zeros(plane_shape(self.shape_zyx, axis), dtype=np.bool_)
        plane = object_plane(self.object_state(object_id), axis, slice_index)
        if plane is not None:
            out[plane.region.slices] = plane.mask
        return out

    def labels(self, dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Return all objects as one volume of their ids, 0 elsewhere; zyx.

        Parameters
        ----------
        dtype : dtype, optional
            An integer type; without it, the smallest unsigned one that holds every id.

        Raises
        ------
        SessionError
            The type cannot hold the ids.
        """
        out = np.zeros(self.shape_zyx, dtype=self._labels_dtype(dtype))
        draw_labels(out, self._state.objects.values(), self.overlap_rule)
        return out

    def labels_plane(
        self,
        axis: int,
        slice_index: int,
        *,
        region: Region | None = None,
        dtype: DTypeLike | None = None,
    ) -> NDArray[Any]:
        """Return one plane of `labels`, or a region of it, without making the volume.

        Parameters
        ----------
        axis, slice_index : int
            The plane, along any axis.
        region : Region, optional
            The part of the plane to return; without it, all.
        dtype : dtype, optional
            As for `labels`.
        """
        self.check_plane(axis, slice_index)
        region = whole_plane(self.shape_zyx, axis) if region is None else region
        out = np.zeros(region.shape_yx, dtype=self._labels_dtype(dtype))
        objects = self._state.objects.values()
        draw_labels_plane(out, region, objects, axis, slice_index, self.overlap_rule)
        return out

    def paint_into(self, out: Any, planes: Iterable[PlaneKey]) -> None:
        """Write planes of `labels` into an existing labels volume; the rest is left alone.

        Parameters
        ----------
        out : array-like, zyx
            A numpy, memory-mapped or zarr array of an integer type, of the volume's shape.
        planes : iterable of PlaneKey
            As `Session.undo`, `Session.redo` and `Session.changed_since` return them.
        """
        if tuple(out.shape) != self.shape_zyx:
            raise SessionError(
                f"Labels are painted into an array of shape {self.shape_zyx} (z, y, x); got "
                f"{tuple(out.shape)}."
            )
        for axis, index in sorted({(key.axis, key.slice_index) for key in planes}):
            where: list[int | slice] = [slice(None)] * 3
            where[axis] = index
            out[tuple(where)] = self.labels_plane(axis, index, dtype=out.dtype)

    def slices(self, object_id: int) -> dict[int, SlicePatch]:
        """Return an object's slices along its own axis, grown and edited, sorted."""
        return self.object_state(object_id).own_slices

    def quality(self, object_id: int) -> dict[int, SliceQuality]:
        """Return how far each slice of an object can be trusted; edited slices fully."""
        return {index: patch.quality for index, patch in self.slices(object_id).items()}

    def worst_slices(
        self, object_id: int, n: int = 3, min_distance: int | None = None
    ) -> tuple[int, ...]:
        """Return the slices where one more box helps most, as `summary.worst_slices` says."""
        return summary.worst_slices(self.object_state(object_id), n, min_distance)

    def object_table(self) -> tuple[summary.ObjectRow, ...]:
        """Return every object in numbers, sorted by id."""
        info = self._info
        objects = self._state.objects.values()
        return tuple(summary.object_row(o, info.spacing_zyx, info.unit) for o in objects)

    def write_table_csv(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write `object_table` as a CSV file, all of it or nothing.

        Raises
        ------
        FileFormatError
            The file exists and ``overwrite`` is false, or it cannot be written.
        """
        text = summary.table_csv(self.object_table())
        with replacing_file(path, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")

    def check_plane(self, axis: int, slice_index: int) -> None:
        """Raise `SessionError` where the volume has no such plane."""
        if axis not in (0, 1, 2):
            raise SessionError(f"axis is 0, 1 or 2 (z, y or x); got {axis}.")
        if not 0 <= slice_index < self.shape_zyx[axis]:
            raise SessionError(
                f"Slice {slice_index} does not exist: along axis {axis} the volume has slices 0 "
                f"to {self.shape_zyx[axis] - 1}."
            )

    def _labels_dtype(self, dtype: DTypeLike | None) -> np.dtype[Any]:
        highest = max(self._state.objects, default=0)
        if dtype is None:
            return np.min_scalar_type(highest)
        chosen = np.dtype(dtype)
        if chosen.kind not in "iu" or np.iinfo(chosen).max < highest:
            raise SessionError(
                f"Labels need an integer type that holds {highest}; got {chosen}. Use "
                f"{np.min_scalar_type(highest)} or a larger one."
            )
        return chosen
