"""Operations: changes of a session grouped into steps that can be undone and redone."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_slidesam.engine.history import DEFAULT_DEPTH, History
from napari_slidesam.engine.session_state import LogEntry, changed_planes
from napari_slidesam.engine.session_view import SessionView
from napari_slidesam.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_slidesam.engine.objects import ObjectState, PlaneKey
    from napari_slidesam.engine.session_state import SessionInfo, SessionState


class UndoableView(SessionView):
    """A view whose state moves, one operation at a time, and can move back."""

    def __init__(
        self, info: SessionInfo, state: SessionState, *, history_depth: int = DEFAULT_DEPTH
    ) -> None:
        super().__init__(info, state)
        self._history: History[SessionState] = History(history_depth)
        self._operation: tuple[str, SessionState] | None = None
        self._depth = 0

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        """Group every change inside into one undo step; an error keeps what was done so far.

        Operations may be nested: the outermost one counts.
        """
        self.begin_operation(name)
        try:
            yield
        finally:
            self.end_operation()

    def begin_operation(self, name: str) -> None:
        """Open an operation, for callers that cannot use ``with`` (event loops)."""
        if self._operation is None:
            self._operation = (name, self._state)
        self._depth += 1

    def end_operation(self) -> None:
        """Close the operation opened last; the outermost one becomes one undo step."""
        if self._operation is None:
            raise SessionError("No operation is open: call begin_operation before end_operation.")
        self._depth -= 1
        if self._depth == 0:
            name, before = self._operation
            self._operation = None
            self._remember(name, before)

    @property
    def can_undo(self) -> bool:
        """Whether there is an operation to undo, and none is open."""
        return self._operation is None and bool(self._history.undo_names)

    @property
    def can_redo(self) -> bool:
        """Whether there is an operation to redo, and none is open."""
        return self._operation is None and bool(self._history.redo_names)

    @property
    def undo_names(self) -> tuple[str, ...]:
        """Names of the operations that can be undone, the next one first."""
        return self._history.undo_names

    @property
    def redo_names(self) -> tuple[str, ...]:
        """Names of the operations that can be redone, the next one first."""
        return self._history.redo_names

    def undo(self) -> tuple[PlaneKey, ...]:
        """Undo the last operation and return the planes that changed; none where there is none.

        Raises
        ------
        SessionError
            An operation is open: finish or cancel it first.
        """
        self._check_no_operation("undo")
        step = self._history.undo()
        if step is None:
            return ()
        self._state = step.before
        self._note(f"undo: {step.name}")
        return changed_planes(step.after, step.before)

    def redo(self) -> tuple[PlaneKey, ...]:
        """Redo the operation undone last and return the planes that changed; as `undo`."""
        self._check_no_operation("redo")
        step = self._history.redo()
        if step is None:
            return ()
        self._state = step.after
        self._note(f"redo: {step.name}")
        return changed_planes(step.before, step.after)

    def changed_since(self, before: SessionState) -> tuple[PlaneKey, ...]:
        """Return the planes to draw again for who has drawn an earlier `state`."""
        return changed_planes(before, self._state)

    def _with(self, state: ObjectState) -> SessionState:
        """Return the session's state with one object replaced or added."""
        objects = self._state.objects
        if objects.get(state.object_id) is state:
            return self._state
        merged = {**objects, state.object_id: state}
        if state.object_id not in objects:
            merged = dict(sorted(merged.items()))
        return replace(self._state, objects=MappingProxyType(merged))

    def _put(self, name: str, state: ObjectState) -> None:
        self._change(name, self._with(state))

    def _change(
        self, name: str, after: SessionState, *, opens: bool = False, joins: bool = False
    ) -> None:
        """Move to another state, as a step of its own where no operation is open.

        ``opens``: changes that ``join`` may extend the step. ``joins``: extend the last step
        where it is open, else open one.
        """
        before = self._state
        self._state = after
        if self._operation is None and not (joins and self._history.extend(after)):
            self._remember(name, before, is_open=opens or joins)

    def _remember(self, name: str, before: SessionState, *, is_open: bool = False) -> None:
        if self._state is not before:
            self._history.push(name, before, self._state, is_open=is_open)
            self._note(name)

    def _note(self, name: str) -> None:
        entry = LogEntry(datetime.now(UTC).isoformat(timespec="seconds"), name)
        self._log = (*self._log, entry)

    def _check_no_operation(self, verb: str) -> None:
        if self._operation is not None:
            raise SessionError(
                f"Cannot {verb} while '{self._operation[0]}' goes on: finish or cancel it first."
            )
