"""A panel, a record of what it says, and a check that nothing of it is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication, QWidget

from napari_slidesam.gui.state import ObjectEntry
from napari_slidesam.gui.views.dialogs import FileDialogs
from napari_slidesam.gui.views.panel import SegmentPanel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot

SIGNALS = (
    "image_chosen channel_chosen settings_changed run_requested cancel_requested object_selected "
    "object_renamed object_visibility_changed object_accepted object_edit_requested "
    "object_deleted slice_requested undo_requested redo_requested export_requested "
    "session_save_requested session_load_requested recovery_answered"
).split()


class Answers(FileDialogs):
    """Dialogs that are answered at once; ``asked`` keeps the titles and the suggestions."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = ""
        self.asked: list[tuple[str, ...]] = []

    def open_file(self, parent: QWidget, title: str, kinds: str) -> str:
        self.asked.append((title, kinds))
        return self.answer

    def save_file(self, parent: QWidget, title: str, name: str, kinds: str) -> str:
        self.asked.append((title, name, kinds))
        return self.answer

    def choose_folder(self, parent: QWidget, title: str) -> str:
        self.asked.append((title,))
        return self.answer


class Said(list[tuple[Any, ...]]):
    """What a panel's signals have said: name, then arguments."""

    def __init__(self, panel: SegmentPanel) -> None:
        super().__init__()
        for name in SIGNALS:
            getattr(panel, name).connect(lambda *args, n=name: self.append((n, *args)))

    def taken(self) -> list[tuple[Any, ...]]:
        """Return what was said, and forget it."""
        said = list(self)
        self.clear()
        return said


def _entry(object_id: int, **values: Any) -> ObjectEntry:
    given: dict[str, Any] = {
        "name": f"nucleus {object_id}",
        "colour_rgba": (0.9, 0.4, 0.2, 1.0),
        "voxels": 1000 * object_id,
        "volume": 20.0 * object_id,
        "unit": "um",
        "quality": 0.9,
    }
    return ObjectEntry(object_id, **{**given, **values})


@pytest.fixture(autouse=True)
def no_leaked_widgets(qapp: QApplication) -> Iterator[None]:
    """Fail where a test leaves a window, a menu or a dialog behind."""
    before = set(QApplication.topLevelWidgets())
    yield
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    qapp.processEvents()
    left = [w for w in QApplication.topLevelWidgets() if w not in before]
    assert not left


@pytest.fixture
def entry() -> Callable[..., ObjectEntry]:
    """Make an entry of an object by its number; what does not matter is filled in."""
    return _entry


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def panel(qtbot: QtBot, answers: Answers) -> SegmentPanel:
    """A shown panel, as wide as in a usual dock."""
    made = SegmentPanel(dialogs=answers)
    qtbot.addWidget(made)
    made.resize(370, 1000)
    made.show()
    qtbot.waitExposed(made)
    return made


@pytest.fixture
def said(panel: SegmentPanel) -> Said:
    return Said(panel)
