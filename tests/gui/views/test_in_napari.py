"""The panel as a dock of a real window."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtGui import QPalette

from napari_slidesam.gui.state import QualityState
from napari_slidesam.gui.views.panel import SegmentPanel

if TYPE_CHECKING:
    from collections.abc import Callable

    import napari

    from napari_slidesam.gui.state import ObjectEntry

    MakeEntry = Callable[..., ObjectEntry]
    MakeViewer = Callable[..., napari.Viewer]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_texts_follow_the_theme(
    make_napari_viewer: MakeViewer, entry: MakeEntry, theme: str
) -> None:
    viewer = make_napari_viewer()
    panel = SegmentPanel()
    viewer.window.add_dock_widget(panel, name="Segment")
    panel.set_objects([entry(1)], 1)
    panel.set_quality(QualityState(1, 9, ((2, 0.5),), (2,), (2,), 2))
    for name in ("dark" if theme == "light" else "light", theme):
        viewer.theme = name
        panel.ensurePolished()
        for widget in (panel.quality.strip, panel.hint, panel.history.undo.button):
            widget.ensurePolished()
            shade = widget.palette().color(QPalette.ColorRole.WindowText).lightness()
            assert (shade > 128) is (name == "dark")
    assert not panel.grab().isNull()


def test_a_closed_dock_leaves_nothing(make_napari_viewer: MakeViewer, entry: MakeEntry) -> None:
    viewer = make_napari_viewer()
    panel = SegmentPanel()
    dock = viewer.window.add_dock_widget(panel, name="Segment")
    panel.set_objects([entry(1)], 1)
    gone: list[int] = []
    panel.destroyed.connect(lambda: gone.append(1))
    alive = weakref.ref(panel)
    viewer.window.remove_dock_widget(dock)
    panel.close()
    panel.deleteLater()
    del panel, dock
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    assert gone
    assert alive() is None
