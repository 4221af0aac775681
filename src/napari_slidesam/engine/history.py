"""Undo and redo of whole operations, as snapshots that share what did not change."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from napari_slidesam.errors import ConfigError

S = TypeVar("S")

DEFAULT_DEPTH = 100
"""Operations that can be undone."""


@dataclass(frozen=True, slots=True, eq=False)
class Step(Generic[S]):
    """One operation: its name and the states before and after it.

    ``is_open``: later changes that belong to it may still extend it.
    """

    name: str
    before: S
    after: S
    is_open: bool = False


class History(Generic[S]):
    """A line of steps with a position in it; a new step drops what was undone.

    States are compared by identity: they are immutable, and a change makes another one.

    Parameters
    ----------
    depth : int
        Steps that are remembered; the oldest are forgotten first.
    """

    def __init__(self, depth: int = DEFAULT_DEPTH) -> None:
        if depth < 1:
            raise ConfigError(f"A history remembers at least 1 step; got a depth of {depth}.")
        self._done: deque[Step[S]] = deque(maxlen=depth)
        self._undone: list[Step[S]] = []

    @property
    def undo_names(self) -> tuple[str, ...]:
        """Names of the steps that can be undone, the next one first."""
        return tuple(step.name for step in reversed(self._done))

    @property
    def redo_names(self) -> tuple[str, ...]:
        """Names of the steps that can be redone, the next one first."""
        return tuple(step.name for step in reversed(self._undone))

    def push(self, name: str, before: S, after: S, *, is_open: bool = False) -> None:
        """Remember a step, unless it changed nothing."""
        if after is before:
            return
        self._done.append(Step(name, before, after, is_open))
        self._undone.clear()

    def extend(self, after: S) -> bool:
        """Make the last step end in another state; False where no open step is the last."""
        if not self._done or not self._done[-1].is_open or self._undone:
            return False
        self._done[-1] = replace(self._done[-1], after=after)
        return True

    def undo(self) -> Step[S] | None:
        """Go one step back and return it, or None where there is none."""
        if not self._done:
            return None
        step = self._done.pop()
        self._undone.append(step)
        return step

    def redo(self) -> Step[S] | None:
        """Go one step forward and return it, or None where there is none."""
        if not self._undone:
            return None
        step = self._undone.pop()
        self._done.append(replace(step, is_open=False))
        return step
