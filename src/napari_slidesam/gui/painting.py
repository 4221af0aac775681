"""Labels painted by hand, taken into the session as corrections.

napari's own history of a labels layer holds voxels of a moment; replayed after a run it would
put stale ones back. So each stroke becomes an operation of the session, which can be undone
there, and the layer's own history is emptied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_slidesam.engine.planes import plane_shape
from napari_slidesam.errors import SlideSamError
from napari_slidesam.gui.layers import N_SPATIAL, Plane, spatial_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.layers import Labels

    from napari_slidesam.engine.session import Session
    from napari_slidesam.engine.session_view import SessionView
    from napari_slidesam.gui.stream import LabelsStream

_BRUSHES = ("paint", "erase", "fill")


class Painting(QObject):
    """Watches one labels layer.

    Parameters
    ----------
    stream : LabelsStream
        Held back while the brush is down.
    displayed : callable
        Returns the plane on the screen, or None.
    session : callable
        Returns the session of a leading position.
    on_painted : callable
        Takes the leading position, after the session changed.
    on_refused : callable
        Takes a message.
    """

    def __init__(
        self,
        stream: LabelsStream,
        *,
        displayed: Callable[[], Plane | None],
        session: Callable[[tuple[int, ...]], Session | None],
        on_painted: Callable[[tuple[int, ...]], None],
        on_refused: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._stream, self._displayed, self._session = stream, displayed, session
        self._on_painted, self._on_refused = on_painted, on_refused
        self._labels: Labels | None = None
        self._is_down = False
        self._base: SessionView | None = None
        self._planes: set[Plane] = set()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(lambda: self._take_over())

    @property
    def is_busy(self) -> bool:
        """Whether a stroke goes on, or has not been taken over yet."""
        return self._is_down or self._timer.isActive()

    def attach(self, labels: Labels | None) -> None:
        """Watch this layer from now on, and no other."""
        if self._labels is not None:
            self._labels.events.paint.disconnect(self._on_paint)
            if self._press in self._labels.mouse_drag_callbacks:
                self._labels.mouse_drag_callbacks.remove(self._press)
        self._timer.stop()
        self._labels, self._is_down, self._base = labels, False, None
        self._planes.clear()
        if labels is not None:
            labels.events.paint.connect(self._on_paint)
            labels.mouse_drag_callbacks.append(self._press)

    def forget_strokes(self) -> None:
        """Empty the layer's own history, by the public way there is: making it uneditable."""
        labels = self._labels
        if labels is None or self._is_down or not labels.editable:
            return
        mode = labels.mode
        labels.editable = False
        labels.editable = True
        labels.mode = mode

    def _press(self, layer: Labels, event: Any) -> Iterator[None]:
        if str(layer.mode) not in _BRUSHES:
            return
        plane = self._displayed()
        self._is_down = True
        self._stream.pause()
        session = None if plane is None else self._session(plane.leading)
        self._base = None if session is None else session.snapshot()
        yield
        while event.type == "mouse_move":
            yield
        self._is_down = False
        self._timer.start()

    def _on_paint(self, event: Any) -> None:
        plane = self._displayed()
        if plane is None or self._labels is None:
            return
        if self._base is None:
            session = self._session(plane.leading)
            self._base = None if session is None else session.snapshot()
        n_planes = self._labels.n_edit_dimensions
        self._planes |= {plane} if n_planes <= 2 else _planes_of(event.value, plane, self._labels)
        self._timer.start()

    def _take_over(self) -> None:
        if self._is_down:
            return  # the release looks again
        planes, base = sorted(self._planes, key=lambda p: p.slice_index), self._base
        self._planes.clear()
        self._base = None
        labels = self._labels
        try:
            if labels is not None and base is not None and planes:
                self._take_planes(labels, base, planes)
        except SlideSamError as error:
            self._on_refused(str(error))
        finally:
            self._stream.resume()
        if planes:
            self.forget_strokes()
            self._on_painted(planes[0].leading)

    def _take_planes(self, labels: Labels, base: SessionView, planes: list[Plane]) -> None:
        session = self._session(planes[0].leading)
        if session is None:
            return
        name = f"paint slice {planes[0].slice_index}"
        before = session.state
        with session.operation(name):
            for plane in planes:
                self._take_plane(labels, base, session, plane)
        self._stream.mark_changes(planes[0].leading, before, session.changed_since(before))

    def _take_plane(
        self, labels: Labels, base: SessionView, session: Session, plane: Plane
    ) -> None:
        where: list[int | slice] = [slice(None)] * N_SPATIAL
        where[plane.axis] = plane.slice_index
        shown = np.asarray(spatial_view(labels, plane.leading)[tuple(where)])
        shape = plane_shape(session.shape_zyx, plane.axis)
        if shown.shape != shape:
            return
        changed = shown != base.labels_plane(plane.axis, plane.slice_index)
        behind = self._stream.waiting_region(plane)
        if behind is not None:  # there the layer is older than the session
            changed[behind.slices] &= shown[behind.slices] != 0
        if changed.any():
            painted = session.labels_plane(plane.axis, plane.slice_index, dtype=np.int64)
            painted[changed] = shown[changed]
            session.edit_labels(plane.axis, plane.slice_index, painted)


def _planes_of(strokes: Any, shown: Plane, labels: Labels) -> set[Plane]:
    """Return the planes, parallel to the displayed one, that strokes in 3D touched."""
    place = labels.ndim - N_SPATIAL + shown.axis
    found: set[int] = set()
    for stroke in strokes:
        part = stroke[0][place]  # both kinds of napari's records begin with where they are
        values = range(part.start, part.stop) if isinstance(part, slice) else np.unique(part)
        found |= {int(v) for v in values}
    return {Plane(shown.axis, index, shown.leading) for index in found}
