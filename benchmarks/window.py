"""A napari window with the segment dock in it, its mouse, and the pulse of its event loop.

Needs a screen: ``python tools/with_display.py python -m benchmarks bench_...`` makes one.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# Before napari is imported: nothing of this reaches the settings of the person who runs it.
os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "napari-settings.yaml"))

import napari
import numpy as np
from qtpy.QtCore import QEvent, QObject, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication

from napari_slidesam.gui.controller import SegmentController
from napari_slidesam.gui.dock_widget import DockWidget
from napari_slidesam.gui.settings import FileStore
from napari_slidesam.gui.views.panel import SegmentPanel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_slidesam.engine.session import Session

WINDOW_PX = (1280, 900)
LIMIT_S = 300.0
BEAT_MS = 2
"""Between two beats of an event loop that has nothing else to do."""


class DockWindow:
    """A window on an image, ready to draw boxes in.

    Parameters
    ----------
    image : ndarray, shape (Z, Y, X)
    slice_index : int
        What is displayed.
    """

    def __init__(self, image: NDArray[np.uint8], slice_index: int) -> None:
        before = set(QApplication.allWidgets()) if QApplication.instance() else set()
        self.viewer = napari.Viewer()
        # By Qt's own means: napari has no public name for its canvas.
        made = [w for w in QApplication.allWidgets() if isinstance(w, QOpenGLWidget)]
        self.canvas = max(set(made) - before, key=lambda w: w.width() * w.height())
        self.viewer.window.resize(*WINDOW_PX)
        self.viewer.add_image(image, name="image")
        self.viewer.dims.set_current_step(0, slice_index)
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self.panel = SegmentPanel()
        self.controller = SegmentController(
            self.viewer,
            self.panel,
            store=FileStore(folder / "segment.json"),
            recovery_root=folder / "recovery",
        )
        widget = DockWidget("segment", self.panel, self.controller)
        self.viewer.window.add_dock_widget(widget, name="Segment with Slide-SAM")
        self.viewer.reset_view()
        self.settle()
        self.wait(lambda: True, at_least_s=1.0)

    @property
    def session(self) -> Session:
        """The session of what is displayed."""
        session = self.controller.session
        assert session is not None
        return session

    @property
    def labels(self) -> Labels:
        """The layer that masks appear in."""
        workspace = self.controller.workspace
        assert workspace is not None
        assert workspace.labels is not None
        return workspace.labels

    def close(self) -> None:
        """Close the window, and end its threads."""
        self.controller.close()
        self.viewer.close()
        self._folder.cleanup()

    def wait(self, condition: Callable[[], bool], at_least_s: float = 0.0) -> None:
        """Let the window live until a condition holds."""
        live_until(condition, at_least_s)

    def settle(self) -> None:
        """Wait until nothing is under way."""
        self.wait(lambda: not self.controller.is_busy)

    def drag(self, box_yxyx: tuple[float, float, float, float]) -> Callable[[], None]:
        """Press and drag the mouse around a box; return what releases it."""
        y0, x0, y1, x1 = box_yxyx
        steps = np.linspace((y0, x0), (y1, x1), 6)
        down = Qt.MouseButton.LeftButton
        self._send(QEvent.Type.MouseButtonPress, steps[0], down, down)
        for place in steps[1:]:
            self._send(QEvent.Type.MouseMove, place, Qt.MouseButton.NoButton, down)
            self.wait(lambda: True, at_least_s=0.03)
        nothing = Qt.MouseButton.NoButton
        return lambda: self._send(QEvent.Type.MouseButtonRelease, steps[-1], down, nothing)

    def _send(
        self,
        kind: QEvent.Type,
        place_yx: NDArray[np.float64],
        button: Qt.MouseButton,
        buttons: Qt.MouseButton,
    ) -> None:
        """Send a mouse event to the canvas, at a place in the displayed plane."""
        camera = self.viewer.camera
        centre_yx = np.asarray(camera.center[-2:])
        half_yx = np.array([self.canvas.height(), self.canvas.width()]) / 2
        y, x = (place_yx - centre_yx) * camera.zoom + half_yx
        place = QPointF(float(x), float(y))
        on_screen = QPointF(self.canvas.mapToGlobal(place.toPoint()))
        modifiers = Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(kind, place, on_screen, button, buttons, modifiers)
        QApplication.sendEvent(self.canvas, event)


def live_until(condition: Callable[[], bool], at_least_s: float = 0.0) -> None:
    """Let all windows live until a condition holds."""
    start = time.perf_counter()
    while time.perf_counter() - start < at_least_s or not condition():
        QApplication.processEvents()
        time.sleep(0.0005)
        if time.perf_counter() - start > LIMIT_S:
            sys.exit("The window did not become ready.")


@contextmanager
def dock_window(image: NDArray[np.uint8], slice_index: int) -> Iterator[DockWindow]:
    """Open a window with the dock, and close it."""
    window = DockWindow(image, slice_index)
    try:
        yield window
    finally:
        window.close()


class Heartbeat:
    """Measures how long the event loop is away: wall time, and processor time of its thread.

    A busy machine lengthens the wall time; the processor time of the loop's own thread is what
    the code in it took. Garbage collections are timed beside it, in whatever thread they fall: each
    holds the interpreter's lock, and with it the window.
    """

    def __init__(self) -> None:
        self.wall_s: list[float] = []
        self.own_s: list[float] = []
        self.collection_s: list[float] = []
        self._collection_start = 0.0
        self._last = (0.0, 0.0)
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(lambda: self._beat())

    def __enter__(self) -> Heartbeat:
        """Start."""
        self._last = (time.perf_counter(), time.thread_time())
        self._timer.start()
        gc.callbacks.append(self._on_collection)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        gc.callbacks.remove(self._on_collection)
        self._timer.stop()

    def _beat(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        self.wall_s.append(now[0] - self._last[0])
        self.own_s.append(now[1] - self._last[1])
        self._last = now

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collection_start = time.perf_counter()
        else:
            self.collection_s.append(time.perf_counter() - self._collection_start)

    def figures(self, name: str) -> dict[str, float]:
        """Return the largest gap and the 99th percentile, in milliseconds."""
        wall, own = np.array(self.wall_s) * 1e3, np.array(self.own_s) * 1e3
        return {
            f"{name}_beats": len(wall),
            f"{name}_largest_gap_milliseconds": float(wall.max()),
            f"{name}_gap_99_percent_milliseconds": float(np.percentile(wall, 99)),
            f"{name}_gaps_over_50_milliseconds": int((wall > 50).sum()),
            f"{name}_largest_own_milliseconds": float(own.max()),
            f"{name}_own_99_percent_milliseconds": float(np.percentile(own, 99)),
            f"{name}_largest_collection_milliseconds": max(self.collection_s, default=0.0) * 1e3,
        }


class FirstSight(QObject):
    """Notices when a mask is on the screen.

    Parameters
    ----------
    window : DockWindow
    slice_index : int
        Where the mask is expected; it is displayed.
    """

    def __init__(self, window: DockWindow, slice_index: int) -> None:
        super().__init__()
        self._labels, self._slice_index = window.labels, slice_index
        self._is_sliced = False
        self.seen_at: float | None = None
        self._canvas = window.canvas
        self._labels.events.set_data.connect(self._on_sliced)
        self._canvas.installEventFilter(self)

    def end(self) -> None:
        """Look no more."""
        self._labels.events.set_data.disconnect(self._on_sliced)
        self._canvas.removeEventFilter(self)

    def _on_sliced(self, event: object) -> None:
        self._is_sliced |= bool(np.asarray(self._labels.data[self._slice_index]).any())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Take the time after the canvas painted what was sliced."""
        if event is not None and event.type() == QEvent.Type.Paint and self._is_sliced:
            QTimer.singleShot(0, self._see)
        return False

    def _see(self) -> None:
        if self.seen_at is None:
            self.seen_at = time.perf_counter()
