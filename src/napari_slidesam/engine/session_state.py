"""The immutable values that a session is made of, and what differs between two of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from napari_slidesam.engine.planes import OverlapRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_slidesam.engine.config import PropagationConfig
    from napari_slidesam.engine.objects import ObjectState, PlaneKey
    from napari_slidesam.prompts import ObjectPrompts


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """One propagation: all that `propagate` needs to give the same masks again.

    Parameters
    ----------
    prompts : tuple of ObjectPrompts
    config : PropagationConfig
    model_name : str
    """

    prompts: tuple[ObjectPrompts, ...]
    config: PropagationConfig
    model_name: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One operation as it happened; undoing is an operation too."""

    time_utc: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class SessionInfo:
    """What a session is about; not undone.

    Parameters
    ----------
    session_id : str
        Tells the folders of different sessions apart.
    shape_zyx : tuple of 3 ints
    spacing_zyx : tuple of 3 floats
        Distance between voxels, in ``unit``.
    unit : str
    source : str
        Where the volume came from, for people.
    model_name : str
        The network and weights in use, as the network names itself.
    config : PropagationConfig
        Options of the next run.
    highest_id : int
        The highest object id ever used.
    """

    session_id: str
    shape_zyx: tuple[int, int, int]
    spacing_zyx: tuple[float, float, float]
    unit: str
    source: str
    model_name: str
    config: PropagationConfig
    highest_id: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SessionState:
    """What undo and redo move through.

    Parameters
    ----------
    objects : mapping of int to ObjectState
        Sorted by object id.
    overlap_rule : OverlapRule
    runs : tuple of RunRecord
        In the order in which they were begun.
    """

    objects: Mapping[int, ObjectState] = field(default_factory=lambda: MappingProxyType({}))
    overlap_rule: OverlapRule = OverlapRule.KEEP
    runs: tuple[RunRecord, ...] = ()

    @property
    def planes(self) -> tuple[PlaneKey, ...]:
        """Every plane of every object that holds a patch."""
        return tuple(key for state in self.objects.values() for key in state.planes)


def changed_planes(before: SessionState, after: SessionState) -> tuple[PlaneKey, ...]:
    """Return the planes to draw again for a viewer to get from one state to another.

    Every voxel whose label differs lies on one of them. Sorted, no plane twice.
    """
    if after is before:
        return ()
    if after.overlap_rule is not before.overlap_rule:
        return tuple(sorted({*before.planes, *after.planes}))
    changed: set[PlaneKey] = set()
    for object_id in {*before.objects, *after.objects}:
        old, now = before.objects.get(object_id), after.objects.get(object_id)
        if old is not now:
            changed |= _changed_planes_of(old, now)
    return tuple(sorted(changed))


def _changed_planes_of(old: ObjectState | None, now: ObjectState | None) -> set[PlaneKey]:
    if old is None or now is None:
        known = now if old is None else old
        return set() if known is None else set(known.planes)
    keys = {*old.planes, *now.planes}
    if old.has_cross_edits or now.has_cross_edits:
        # The order of crossing edits counts too: an edit made again is another patch, but the
        # lines it shares with an unchanged one may have changed hands.
        if list(old.edits.items()) != list(now.edits.items()):
            return keys
    return {key for key in keys if _patch(old, key) is not _patch(now, key)}


def _patch(state: ObjectState, key: PlaneKey) -> object:
    edit = state.edits.get((key.axis, key.slice_index))
    if edit is not None or key.axis != state.axis:
        return edit
    return state.slices.get(key.slice_index)
