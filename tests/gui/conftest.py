"""Real viewers with the dock in them; widgets and threads that stay behind fail the test."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils._proxies import ReadOnlyWrapper
from napari.utils.interactions import (
    mouse_move_callbacks,
    mouse_press_callbacks,
    mouse_release_callbacks,
)
from qtpy.QtWidgets import QApplication

from napari_slidesam.gui import finetune_widget, segment_widget
from napari_slidesam.gui.finetune.remembered import RememberedJob
from napari_slidesam.gui.segment_widget import SegmentWidget
from napari_slidesam.gui.settings import FileStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import napari
    from napari.layers import Labels, Points, Shapes
    from pytestqt.qtbot import QtBot

    from napari_slidesam.engine.session import Session
    from napari_slidesam.gui.controller import SegmentController

LIMIT_MS = 120_000
CENTRES_ZYX = ((6, 14, 14), (6, 32, 34))
RADIUS = 6


def balls(shape_zyx: tuple[int, int, int] = (12, 48, 48)) -> np.ndarray:
    """Two bright balls in noise, uint8."""
    grid = np.indices(shape_zyx)
    image = np.random.default_rng(0).normal(40, 4, shape_zyx)
    for centre in CENTRES_ZYX:
        distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
        image[distance <= RADIUS] += 120
    return image.clip(0, 255).astype(np.uint8)


def corners(
    centre_zyx: tuple[int, int, int] = CENTRES_ZYX[0],
    axis: int = 0,
    half: float = RADIUS + 1,
    leading: tuple[int, ...] = (),
) -> np.ndarray:
    """The four corners of a rectangle around a point, across an axis."""
    out = np.tile(np.asarray(centre_zyx, dtype=float), (4, 1))
    y_axis, x_axis = (a for a in range(3) if a != axis)
    out[:, y_axis] += np.array([-half, -half, half, half])
    out[:, x_axis] += np.array([-half, half, half, -half])
    return np.hstack([np.tile(np.asarray(leading, dtype=float), (4, 1)), out])


@dataclass(eq=False)
class OpenDock:
    """A dock in a viewer, and what tests do with it."""

    viewer: napari.Viewer
    widget: SegmentWidget
    qtbot: QtBot

    centres = CENTRES_ZYX
    corners = staticmethod(corners)
    balls = staticmethod(balls)

    def send(self, layer: Any, kind: str, place: np.ndarray) -> None:
        """Send one mouse event to a layer, at a place in its data coordinates."""
        calls = {
            "mouse_press": mouse_press_callbacks,
            "mouse_move": mouse_move_callbacks,
            "mouse_release": mouse_release_callbacks,
        }
        world = tuple(layer.data_to_world(tuple(place)))
        calls[kind](layer, mouse_event(kind, world, list(self.viewer.dims.displayed), ()))

    @property
    def controller(self) -> SegmentController:
        return self.widget.controller

    @property
    def session(self) -> Session:
        session = self.controller.session
        assert session is not None
        return session

    @property
    def boxes(self) -> Shapes:
        assert self.controller.workspace is not None
        return self.controller.workspace.boxes

    @property
    def points(self) -> Points:
        assert self.controller.workspace is not None
        return self.controller.workspace.points

    @property
    def labels(self) -> Labels:
        assert self.controller.workspace is not None
        return self.controller.workspace.labels

    def wait(self, condition: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(condition, timeout=LIMIT_MS)

    def settle(self) -> None:
        """Wait until nothing is under way."""
        self.wait(lambda: not self.controller.is_busy)

    def draw(self, vertices: np.ndarray, kind: str = "rectangle") -> None:
        """Draw and wait until everything that follows is done."""
        self.boxes.add(vertices, shape_type=kind)
        self.settle()

    def drag(self, layer: Any, *positions: np.ndarray, modifiers: tuple[str, ...] = ()) -> None:
        """Press, move and release the mouse over a layer, in its data coordinates."""
        steps = [("mouse_press", mouse_press_callbacks)]
        steps += [("mouse_move", mouse_move_callbacks)] * (len(positions) - 1)
        steps += [("mouse_release", mouse_release_callbacks)]
        for (kind, call), place in zip(steps, [*positions, positions[-1]], strict=True):
            world = tuple(layer.data_to_world(tuple(place)))
            shown = list(self.viewer.dims.displayed)
            call(layer, mouse_event(kind, world, shown, modifiers))

    def messages(self) -> str:
        return str(self.widget.panel.message.label.text())

    def assert_consistent(self) -> None:
        """What is shown is what the session holds."""
        self.controller.dock.stream.flush()
        np.testing.assert_array_equal(np.asarray(self.labels.data), self.session.labels())


def mouse_event(
    kind: str, world: tuple[float, ...], shown: list[int], modifiers: tuple[str, ...]
) -> Any:
    """What napari hands to mouse callbacks."""
    event = SimpleNamespace(
        type=kind,
        is_dragging=kind == "mouse_move",
        position=world,
        pos=np.array([world[d] * 10 for d in shown]),
        view_direction=None,
        up_direction=None,
        dims_displayed=shown,
        dims_point=list(world),
        modifiers=list(modifiers),
        button=1,
        handled=False,
        camera_zoom=1.0,
    )
    return ReadOnlyWrapper(event, exceptions=("handled",))


@pytest.fixture(autouse=True)
def user_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings and recovery are of this test alone."""
    root = tmp_path / "user"
    monkeypatch.setattr(segment_widget, "settings_store", lambda: FileStore(root / "segment.json"))
    monkeypatch.setattr(segment_widget, "recovery_root", lambda: root / "recovery")
    remembered = RememberedJob(root / "finetune.json")
    monkeypatch.setattr(finetune_widget, "remembered_job", lambda: remembered)
    return root


@pytest.fixture
def make_viewer(
    make_napari_viewer: Callable[..., napari.Viewer], qtbot: QtBot
) -> Iterator[Callable[[], napari.Viewer]]:
    """Make real viewers; whatever of them, or of a dock, outlives the test fails it."""
    widgets, threads = set(QApplication.topLevelWidgets()), set(threading.enumerate())
    viewers: list[napari.Viewer] = []

    def make() -> napari.Viewer:
        viewer = make_napari_viewer()
        viewers.append(viewer)
        return viewer

    yield make
    for viewer in viewers:
        viewer.close()
    viewers.clear()
    qtbot.wait(20)
    ours = [t for t in set(threading.enumerate()) - threads if t.name.startswith("slide-sam")]
    assert ours == []
    left = {
        type(w).__name__
        for w in set(QApplication.topLevelWidgets()) - widgets
        if type(w).__module__.startswith("napari_slidesam")
    }
    assert left == set()


@pytest.fixture
def open_dock(make_viewer: Callable[[], napari.Viewer], qtbot: QtBot) -> Callable[..., OpenDock]:
    """Return a function that opens an image and the dock, in a viewer of its own or another."""

    def make(image: Any = None, viewer: napari.Viewer | None = None, **options: Any) -> OpenDock:
        viewer = make_viewer() if viewer is None else viewer
        viewer.add_image(balls() if image is None else image, **{"name": "balls", **options})
        widget = SegmentWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Segment with Slide-SAM")
        dock = OpenDock(viewer, widget, qtbot)
        dock.settle()
        return dock

    return make
