"""A session owns the truth: objects, prompts, masks, quality, and the way back.

``propagate`` yields results, `Session.apply` merges them::

    session = Session.for_volume(volume, model_name=model.name)
    session.add_object(prompts)
    with session.operation("grow object 1"):
        run = session.begin_run([1])
        for result in propagate(predictor, volume, run.prompts, run.config):
            session.apply(result)
    labels = session.labels()
    session.undo()
"""

from __future__ import annotations

import logging
import math
import threading
import uuid
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine import session_input, session_store
from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.history import DEFAULT_DEPTH
from napari_slidesam.engine.objects import ObjectState
from napari_slidesam.engine.operations import UndoableView
from napari_slidesam.engine.planes import OverlapRule, plane_shape, whole_plane
from napari_slidesam.engine.session_state import RunRecord, SessionInfo, SessionState
from napari_slidesam.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.engine.results import SliceResult
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.volume import Volume

logger = logging.getLogger(__name__)


class Session(UndoableView):
    """Objects of one volume and everything done to them, with undo and redo.

    Every method that changes something is one undo step by itself, unless it is called inside
    `operation`. Results applied outside an operation join the step that `begin_run` opened.
    One thread changes a session; others may read `snapshot`, and save it.

    Parameters
    ----------
    shape_zyx : tuple of 3 ints
        Shape of the volume.
    spacing_zyx : tuple of 3 floats
        Distance between voxels, in ``unit``.
    unit : str
    config : PropagationConfig, optional
        Options of runs; the defaults without it.
    model_name : str
        Recorded with each run.
    source : str
        Where the volume came from, for people.
    overlap_rule : OverlapRule
    history_depth : int
        Operations that can be undone.

    Raises
    ------
    SessionError
        Shape or spacing is not positive.
    """

    def __init__(
        self,
        shape_zyx: Sequence[int],
        spacing_zyx: Sequence[float] = (1.0, 1.0, 1.0),
        *,
        unit: str = "px",
        config: PropagationConfig | None = None,
        model_name: str = "",
        source: str = "",
        overlap_rule: OverlapRule = OverlapRule.KEEP,
        history_depth: int = DEFAULT_DEPTH,
    ) -> None:
        if len(shape_zyx) != 3 or any(n < 1 for n in shape_zyx):
            raise SessionError(f"A session needs three positive lengths z, y, x; got {shape_zyx}.")
        if len(spacing_zyx) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing_zyx):
            raise SessionError(f"spacing_zyx is three positive numbers; got {spacing_zyx}.")
        z, y, x = (int(n) for n in shape_zyx)
        dz, dy, dx = (float(s) for s in spacing_zyx)
        info = SessionInfo(
            session_id=uuid.uuid4().hex,
            shape_zyx=(z, y, x),
            spacing_zyx=(dz, dy, dx),
            unit=unit,
            source=source,
            model_name=model_name,
            config=config or PropagationConfig(),
        )
        state = SessionState(overlap_rule=OverlapRule(overlap_rule))
        super().__init__(info, state, history_depth=history_depth)
        self._last_save: session_store.SaveRecord | None = None
        self._save_lock = threading.Lock()

    @classmethod
    def for_volume(cls, volume: Volume, **options: Any) -> Session:
        """Return a session with a volume's shape, spacing and unit; options as for `Session`."""
        return cls(volume.shape_zyx, volume.spacing_zyx, unit=volume.unit, **options)

    @classmethod
    def load(cls, folder: str | Path, *, history_depth: int = DEFAULT_DEPTH) -> Session:
        """Return the session last saved in a folder; its history starts empty.

        Raises
        ------
        SessionError
            The folder is missing, foreign, incomplete or of a newer version.
        """
        view, record = session_store.load(folder)
        session = cls(view.shape_zyx, history_depth=history_depth)
        session._info, session._state, session._log = view.info, view.state, view.log
        session._last_save = record
        return session

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Save everything but the history in a folder; may be called while a run goes on.

        A kill at any moment leaves the last complete state. Objects whose masks did not change
        since the last save are linked, not written again.

        Parameters
        ----------
        folder : path
            Made where it does not exist. One session saves in it at a time.
        overwrite : bool
            Replace another session that is saved there.

        Raises
        ------
        SessionError
            The folder holds something else, or cannot be written (no space left).
        """
        with self._save_lock:
            self._last_save = session_store.save(
                folder, self.snapshot(), self._last_save, overwrite=overwrite
            )

    def configure(
        self,
        *,
        config: PropagationConfig | None = None,
        model_name: str | None = None,
        source: str | None = None,
    ) -> None:
        """Change what the next runs use; recorded, but no step to undo."""
        given = {"config": config, "model_name": model_name, "source": source}
        changed: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        self._info = replace(self._info, **changed)

    def add_object(
        self,
        prompts: ObjectPrompts | None = None,
        name: str | None = None,
        *,
        object_id: int | None = None,
    ) -> int:
        """Add an object and return its id.

        Parameters
        ----------
        prompts : ObjectPrompts, optional
            Their ``object_id`` is the object's. Without prompts it is drawn by hand.
        name : str, optional
            "object 3" and the like without it.
        object_id : int, optional
            For an object without prompts; without it, `next_free_id`.

        Raises
        ------
        SessionError
            The id is taken.
        PromptError
            A prompt lies outside the volume.
        """
        if prompts is not None:
            session_input.check_prompts(prompts, self.shape_zyx)
            object_id = prompts.object_id
        elif object_id is None:
            object_id = self.next_free_id()
        if object_id < 1:
            raise SessionError(f"An object id is a positive integer; got {object_id}.")
        if object_id in self._state.objects:
            raise SessionError(
                f"Object {object_id} exists: take the id {self.next_free_id()} (next_free_id), "
                "or change the object with set_prompts."
            )
        axis = 0 if prompts is None else prompts.axis
        name = f"object {object_id}" if name is None else name
        self._info = replace(self._info, highest_id=max(self._info.highest_id, object_id))
        self._put(f"add {name}", ObjectState(object_id, name, axis, prompts))
        return object_id

    def set_prompts(self, object_id: int, prompts: ObjectPrompts) -> None:
        """Replace an object's prompts; its mask stays until the next run."""
        state = self.object_state(object_id)
        session_input.check_prompts(prompts, self.shape_zyx)
        if prompts.object_id != object_id:
            raise SessionError(
                f"The prompts are of object {prompts.object_id}, not {object_id}: make them with "
                f"object_id={object_id}."
            )
        axis = state.axis if state.slices else prompts.axis
        self._put(f"prompt {state.name}", replace(state, prompts=prompts, axis=axis))

    def rename(self, object_id: int, name: str) -> None:
        """Give an object another name."""
        state = self.object_state(object_id)
        if name != state.name:
            self._put(f"rename {state.name}", replace(state, name=name))

    def accept(self, object_id: int) -> None:
        """Mark an object as looked at and taken."""
        self._set_accepted(object_id, accepted=True)

    def unaccept(self, object_id: int) -> None:
        """Take the mark of `accept` away."""
        self._set_accepted(object_id, accepted=False)

    def remove_object(self, object_id: int) -> None:
        """Remove an object and its masks; results that still arrive for it are ignored."""
        state = self.object_state(object_id)
        objects = {i: o for i, o in self._state.objects.items() if i != object_id}
        after = replace(self._state, objects=MappingProxyType(objects))
        self._change(f"remove {state.name}", after)

    def set_overlap_rule(self, rule: OverlapRule) -> None:
        """Say who owns a voxel that several objects hold."""
        rule = OverlapRule(rule)
        if rule is not self.overlap_rule:
            self._change(f"overlap: {rule}", replace(self._state, overlap_rule=rule))

    def begin_run(
        self,
        object_ids: Iterable[int],
        *,
        config: PropagationConfig | None = None,
        edits_as_prompts: bool = False,
    ) -> RunRecord:
        """Clear the grown slices of objects that are to grow anew, and record the run.

        Edited planes stay. Outside an operation, this opens a step which the results applied
        next join.

        Parameters
        ----------
        object_ids : iterable of int
        config : PropagationConfig, optional
            The session's own without it.
        edits_as_prompts : bool
            Give the slices corrected by hand to the network as mask prompts.

        Returns
        -------
        RunRecord
            The prompts and the config to call ``propagate`` with.

        Raises
        ------
        SessionError
            No object is given, or one does not exist or has no prompts.
        """
        states = [self.object_state(i) for i in dict.fromkeys(object_ids)]
        if not states:
            raise SessionError("A run needs at least one object; got none. Give their ids.")
        prompts = tuple(
            session_input.run_prompts(s, self.shape_zyx, with_edits=edits_as_prompts)
            for s in states
        )
        run = RunRecord(prompts, config or self.config, self.model_name)
        objects = dict(self._state.objects)
        for state, given in zip(states, prompts, strict=True):
            cleared = state.without_slices()
            objects[state.object_id] = replace(cleared, axis=given.axis, is_accepted=False)
        after = replace(
            self._state, objects=MappingProxyType(objects), runs=(*self._state.runs, run)
        )
        self._change(f"grow {', '.join(s.name for s in states)}", after, opens=True)
        return run

    def apply(self, result: SliceResult, *, replaces_edits: bool = False) -> bool:
        """Merge one streamed result; a later result of a slice replaces an earlier one.

        A plane edited by hand is kept, unless ``replaces_edits``.

        Returns
        -------
        bool
            False where the object does not exist (any more); the result is then ignored.

        Raises
        ------
        SessionError
            The result does not fit the volume, or lies along another axis than the object's
            slices.
        """
        state = self._state.objects.get(result.object_id)
        if state is None:
            logger.debug(
                "Ignored slice %d of object %d, which is not in the session.",
                result.slice_index,
                result.object_id,
            )
            return False
        session_input.check_result(result, state, self.shape_zyx)
        after = self._with(state.with_result(result, replaces_edits=replaces_edits))
        self._change("merge results", after, joins=True)
        return True

    def edit_slice(
        self, object_id: int, axis: int, slice_index: int, mask_plane: NDArray[Any]
    ) -> None:
        """Set an object's whole mask on one plane by hand; later results do not change it.

        Parameters
        ----------
        object_id : int
        axis, slice_index : int
            The plane, along any axis.
        mask_plane : ndarray of bool or integer, shape (y, x) of the plane
            May be empty.
        """
        state = self.object_state(object_id)
        self.check_plane(axis, slice_index)
        mask = np.asarray(mask_plane)
        expected = plane_shape(self.shape_zyx, axis)
        if mask.shape != expected or mask.dtype.kind not in "biu":
            raise SessionError(
                f"An edit along axis {axis} needs a bool or integer mask of shape {expected} "
                f"(y, x); got {mask.dtype} of shape {mask.shape}."
            )
        region = whole_plane(self.shape_zyx, axis)
        edited = state.with_edit(axis, slice_index, mask != 0, region)
        self._put(f"edit {state.name}", edited)

    def edit_labels(self, axis: int, slice_index: int, labels_plane: NDArray[Any]) -> None:
        """Take over a plane of labels painted by hand, as one operation.

        Where a pixel differs from `labels_plane`, it is given to the object painted there and
        taken from every other one. An id without an object makes a new object.

        Parameters
        ----------
        axis, slice_index : int
            The plane, along any axis.
        labels_plane : ndarray of integer, shape (y, x) of the plane
            Object ids, 0 where no object is.
        """
        painted = session_input.checked_labels(labels_plane, plane_shape(self.shape_zyx, axis))
        changed = painted != self.labels_plane(axis, slice_index)
        ids = sorted({int(i) for i in np.unique(painted[changed])} - {0})
        with self.operation(f"paint slice {slice_index}"):
            for object_id in ids:
                if object_id not in self._state.objects:
                    self.add_object(object_id=object_id)
            for object_id in self.object_ids:
                mask = self.mask_plane(object_id, axis, slice_index)
                edited = np.where(changed, painted == object_id, mask)
                if not np.array_equal(edited, mask):
                    self.edit_slice(object_id, axis, slice_index, edited)

    def clear_slices(self, object_id: int, *, with_edits: bool = False) -> None:
        """Clear an object's grown slices, and its edits too if asked for."""
        state = self.object_state(object_id)
        self._put(f"clear {state.name}", state.without_slices(with_edits=with_edits))

    def _set_accepted(self, object_id: int, *, accepted: bool) -> None:
        state = self.object_state(object_id)
        if state.is_accepted is not accepted:
            verb = "accept" if accepted else "re-edit"
            self._put(f"{verb} {state.name}", replace(state, is_accepted=accepted))
