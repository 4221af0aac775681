"""Showing a session in a Labels layer while it changes, without stopping the window.

What changed waits as regions of planes. They are written straight into the layer's array, the
displayed plane first, for a few milliseconds at a time; the layer is refreshed only where what
is displayed changed, and at most every `REFRESH_S`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import QObject, QTimer

from napari_slidesam.engine.planes import plane_axes, whole_plane
from napari_slidesam.gui.layers import Plane, spatial_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari.layers import Labels

    from napari_slidesam.engine.objects import ObjectState, PlaneKey
    from napari_slidesam.engine.session_state import SessionState
    from napari_slidesam.engine.session_view import SessionView
    from napari_slidesam.geometry import Region

REFRESH_S = 0.05
"""Least time between two refreshes; a refresh slices the layer and uploads a texture."""

BUDGET_S = 0.008
"""How long is painted at a time."""

TICK_MS = 12

_REST = 2.0
"""Refreshes take at most one part in this plus one of the time, however large a plane is."""


class _Place(NamedTuple):
    leading: tuple[int, ...]
    axis: int
    slice_index: int


class LabelsStream(QObject):
    """Keeps a Labels layer like the sessions that it shows.

    Parameters
    ----------
    session_at : callable
        Returns the session of a leading position, or None.
    displayed : callable
        Returns the plane on the screen, or None.
    """

    def __init__(
        self,
        session_at: Callable[[tuple[int, ...]], SessionView | None],
        displayed: Callable[[], Plane | None],
    ) -> None:
        super().__init__()
        self._session_at, self._displayed = session_at, displayed
        self._labels: Labels | None = None
        self._waiting: dict[_Place, Region] = {}
        self._needs_refresh = False
        self._next_refresh = 0.0
        self._is_paused = False
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(lambda: self._tick())

    @property
    def is_waiting(self) -> bool:
        """Whether the layer is behind the session."""
        return bool(self._waiting) or self._needs_refresh

    def show_in(self, labels: Labels | None) -> None:
        """Paint into this layer from now on; what waited for another one is dropped."""
        if labels is not self._labels:
            self._waiting.clear()
            self._needs_refresh = False
        self._labels = labels
        self.resume()

    def close(self) -> None:
        """Paint no more."""
        self._timer.stop()
        self.show_in(None)

    def pause(self) -> None:
        """Leave the layer alone while a person paints in it."""
        self._is_paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._is_paused = False
        if self.is_waiting:
            self._timer.start()

    def mark(self, leading: tuple[int, ...], axis: int, slice_index: int, region: Region) -> None:
        """Say that a region of a plane changed in the session."""
        if self._labels is None or min(region.shape_yx) < 1:
            return
        place = _Place(leading, axis, slice_index)
        before = self._waiting.get(place)
        self._waiting[place] = region if before is None else before.union(region)
        if not self._timer.isActive():
            self._timer.start()

    def mark_changes(
        self, leading: tuple[int, ...], before: SessionState, keys: Iterable[PlaneKey]
    ) -> None:
        """Say that planes differ from an earlier state of the session."""
        session = self._session_at(leading)
        if session is None:
            return
        for key in keys:
            states = (before.objects.get(key.object_id), session.state.objects.get(key.object_id))
            region = changed_region(states, key)
            if region is None:
                region = whole_plane(session.shape_zyx, key.axis)
            self.mark(leading, key.axis, key.slice_index, region)

    def waiting_region(self, plane: Plane) -> Region | None:
        """Return the part of a plane that the layer does not show yet."""
        return self._waiting.get(_Place(plane.leading, plane.axis, plane.slice_index))

    def flush(self) -> None:
        """Paint everything that waits, at once."""
        self._paint(budget_s=None)
        self._refresh(now=True)

    def _tick(self) -> None:
        if self._is_paused or self._labels is None:
            self._timer.stop()
            return
        self._paint(budget_s=BUDGET_S)
        self._refresh()
        if not self.is_waiting:
            self._timer.stop()

    def _paint(self, budget_s: float | None) -> None:
        end = None if budget_s is None else time.perf_counter() + budget_s
        shown = self._displayed()
        if shown is not None:
            first = _Place(shown.leading, shown.axis, shown.slice_index)
            if first in self._waiting:
                self._paint_place(first, shown)
        while self._waiting and (end is None or time.perf_counter() < end):
            self._paint_place(next(iter(self._waiting)), shown)

    def _paint_place(self, place: _Place, shown: Plane | None) -> None:
        region = self._waiting.pop(place)
        labels, session = self._labels, self._session_at(place.leading)
        if labels is None or session is None:
            return
        values = session.labels_plane(
            place.axis, place.slice_index, region=region, dtype=labels.data.dtype
        )
        where: list[int | slice] = [place.slice_index] * 3
        for axis, part in zip(plane_axes(place.axis), region.slices, strict=True):
            where[axis] = part
        spatial_view(labels, place.leading)[tuple(where)] = values
        if shown is not None and is_seen(place.axis, place.slice_index, region, shown):
            self._needs_refresh |= place.leading == shown.leading

    def _refresh(self, *, now: bool = False) -> None:
        labels = self._labels
        start = time.perf_counter()
        if not self._needs_refresh or labels is None or (start < self._next_refresh and not now):
            return
        self._needs_refresh = False
        labels.refresh(extent=False, thumbnail=False, highlight=False)
        cost = time.perf_counter() - start
        self._next_refresh = start + cost + max(REFRESH_S, _REST * cost)


def is_seen(axis: int, slice_index: int, region: Region, shown: Plane) -> bool:
    """Whether a region of a plane is on, or crosses, the displayed plane."""
    if axis == shown.axis:
        return slice_index == shown.slice_index
    part = region.slices[plane_axes(axis).index(shown.axis)]
    return bool(part.start <= shown.slice_index < part.stop)


def changed_region(
    states: tuple[ObjectState | None, ObjectState | None], key: PlaneKey
) -> Region | None:
    """Return what a plane's old and new patches cover, or None where it may be anything.

    Where edits cross the plane their lines may lie outside of every patch on it.
    """
    found: Region | None = None
    for state in states:
        if state is None:
            continue
        if state.has_cross_edits:
            return None
        patch = state.edits.get((key.axis, key.slice_index))
        if patch is None and key.axis == state.axis:
            patch = state.slices.get(key.slice_index)
        if patch is None or not patch.n_voxels:
            continue
        found = patch.region if found is None else found.union(patch.region)
    return found
