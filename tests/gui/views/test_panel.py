from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QTableView,
    QWidget,
)

from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.gui.state import (
    DeviceState,
    HistoryState,
    ImageChoice,
    ProgressState,
    QualityState,
    RecoveryOffer,
    SegmentSettings,
)
from napari_slidesam.intensity import Intensity

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

    from napari_slidesam.gui.state import ObjectEntry
    from napari_slidesam.gui.views.panel import SegmentPanel

    MakeEntry = Callable[..., ObjectEntry]

LEFT = Qt.MouseButton.LeftButton
CHOSEN = SegmentSettings(
    model="/somewhere/mine.safetensors",
    adapter="/somewhere/lora",
    device="cuda:1",
    intensity=Intensity("limits", -10.0, 250.5),
    z_range=(3, 40),
    max_extent_slices=7,
    only_this_slice=True,
    auto_run=False,
    edits_as_prompts=False,
    overlap_rule=OverlapRule.OVERWRITE,
    keep_embeddings=True,
)


def _fill(panel: SegmentPanel, entry: MakeEntry) -> None:
    panel.set_models(["embedded", "sam-b"])
    panel.set_adapters(["/adapters/nuclei"])
    panel.set_device(DeviceState(("auto", "cpu", "cuda:0"), "cuda:0, 3.1 of 24 GiB used"))
    panel.set_images([ImageChoice("a"), ImageChoice("b", ("red", "green"))], "b")
    panel.set_plane("yx, across z")
    panel.set_slice_count(50)
    panel.set_settings(CHOSEN)
    panel.set_objects([entry(1), entry(2, quality=None, voxels=0)], 2)
    panel.set_progress(ProgressState(is_running=True, slices=4, slices_per_second=8.0, queued=2))
    panel.set_quality(QualityState(2, 50, ((10, 0.9), (11, 0.5)), (11,), (10,), 10))
    panel.set_history(HistoryState(("Grow", "Draw"), ("Paint",)))
    panel.set_shortcuts([("Shift+Enter", "Run")])
    panel.show_message("Done.", False)
    panel.offer_recovery(RecoveryOffer("/state/x", "b", "14:02", 3))


def test_setting_states_says_nothing(
    panel: SegmentPanel, said: list[Any], entry: MakeEntry
) -> None:
    _fill(panel, entry)
    panel.set_images([], None)
    panel.set_settings(SegmentSettings())
    panel.set_objects([], None)
    panel.set_quality(None)
    panel.set_history(HistoryState())
    panel.set_progress(ProgressState())
    assert said == []


@pytest.mark.parametrize(
    "settings",
    [
        SegmentSettings(),
        CHOSEN,
        SegmentSettings(intensity=Intensity("percentiles"), use_contrast_limits=True),
        SegmentSettings(intensity=Intensity("percentiles", 2.0, 98.0)),
        SegmentSettings(intensity=Intensity("ct"), z_range=(0, 1)),
    ],
)
def test_settings_come_back_as_they_were_set(
    qtbot: QtBot, panel: SegmentPanel, said: Any, settings: SegmentSettings
) -> None:
    panel.set_settings(settings)
    qtbot.mouseClick(panel.auto_run_check, LEFT, pos=QPoint(8, 10))
    ((name, changed),) = said.taken()
    assert name == "settings_changed"
    assert changed.auto_run is not settings.auto_run
    qtbot.mouseClick(panel.auto_run_check, LEFT, pos=QPoint(8, 10))
    assert said.taken() == [("settings_changed", settings)]


def test_checks_change_settings(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    qtbot.mouseClick(panel.only_slice_check, LEFT, pos=QPoint(8, 10))
    assert said.taken() == [("settings_changed", SegmentSettings(only_this_slice=True))]


def test_run_and_cancel(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    qtbot.mouseClick(panel.progress.cancel_button, LEFT)
    assert said.taken() == []  # nothing to cancel
    qtbot.mouseClick(panel.progress.run_button, LEFT)
    panel.set_progress(ProgressState(is_running=True, slices=42, slices_per_second=18.37, queued=3))
    assert panel.progress.text.text() == "42 slices · 18.4/s · 3 waiting"
    assert panel.progress.line.is_busy
    qtbot.mouseClick(panel.progress.cancel_button, LEFT)
    assert said.taken() == [("run_requested",), ("cancel_requested",)]
    panel.set_progress(ProgressState())
    assert panel.progress.text.text() == "Ready"
    assert not panel.progress.line.is_busy


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ProgressState(is_running=True), "Starting…"),
        (ProgressState(is_running=True, slices=1), "1 slice"),
        (ProgressState(queued=2), "2 waiting"),
    ],
)
def test_progress_in_words(panel: SegmentPanel, state: ProgressState, text: str) -> None:
    panel.set_progress(state)
    assert panel.progress.text.text() == text


def test_the_busy_line_rests_while_it_is_hidden(qtbot: QtBot, panel: SegmentPanel) -> None:
    panel.set_progress(ProgressState(is_running=True))
    place = panel.progress.line._place
    qtbot.waitUntil(lambda: panel.progress.line._place != place)
    panel.hide()
    place = panel.progress.line._place
    qtbot.wait(120)
    assert panel.progress.line._place == place
    panel.show()
    qtbot.waitUntil(lambda: panel.progress.line._place != place)


def test_hint_says_what_to_do_next(qtbot: QtBot, panel: SegmentPanel) -> None:
    assert panel.hint.text().startswith("Open an image")
    panel.set_images([ImageChoice("a")], "a")
    assert "on release" in panel.hint.text()
    qtbot.mouseClick(panel.auto_run_check, LEFT, pos=QPoint(8, 10))
    assert "press Run" in panel.hint.text()


def test_messages_are_shown_as_plain_text_until_closed(qtbot: QtBot, panel: SegmentPanel) -> None:
    assert panel.message.isHidden()
    panel.show_message("a <b>bold</b> & strange error", True)
    assert panel.message.isVisible()
    assert panel.message.label.text() == "a <b>bold</b> & strange error"
    assert panel.message.label.textFormat() == Qt.TextFormat.PlainText
    assert panel.message.label.accessibleName().startswith("Error")
    qtbot.mouseClick(panel.message.close_button, LEFT)
    assert panel.message.isHidden()
    panel.show_message("Done.", False)
    assert panel.message.isVisible()
    panel.show_message("", False)
    assert panel.message.isHidden()


@pytest.mark.parametrize("height", [300, 900])
def test_news_move_nothing(panel: SegmentPanel, entry: MakeEntry, height: int) -> None:
    _fill(panel, entry)
    panel.show_message("", False)
    panel.recovery.hide()
    panel.resize(370, height)
    views = (panel.image_model, panel.hint, panel.progress, panel.objects, panel.quality)

    def places() -> list[QPoint]:
        QApplication.processEvents()
        return [view.mapTo(panel, QPoint(0, 0)) for view in views]

    before = places()
    panel.show_message("a long message, " * 20, True)
    assert places() == before
    panel.offer_recovery(RecoveryOffer("/state/x", "b", "14:02", 3))
    assert places() == before
    assert panel.message.geometry().bottom() < panel.height()


@pytest.mark.parametrize("answer", [True, False])
def test_recovery_is_answered_once(
    qtbot: QtBot, panel: SegmentPanel, said: Any, answer: bool
) -> None:
    panel.offer_recovery(RecoveryOffer("/state/x", "nuclei", "14:02", 1))
    assert "“nuclei”" in panel.recovery.label.text()
    assert "1 object," in panel.recovery.label.text()
    button = panel.recovery.resume_button if answer else panel.recovery.decline_button
    qtbot.mouseClick(button, LEFT)
    assert said.taken() == [("recovery_answered", answer)]
    assert panel.recovery.isHidden()


def test_sections_open_and_close(qtbot: QtBot, panel: SegmentPanel) -> None:
    for section in panel.sections:
        assert not section.is_open
        assert section.content.isHidden()
        qtbot.mouseClick(section.header, LEFT)
        assert section.content.isVisible()
    section.header.setFocus()
    qtbot.keyClick(section.header, Qt.Key.Key_Space)
    assert not section.is_open


def test_closed_sections_say_what_they_are_set_to(panel: SegmentPanel) -> None:
    panel.set_settings(CHOSEN)
    assert panel.intensity_section.header.summary == "-10 to 250.5"
    assert panel.range_section.header.summary == "slices 3 to 39, at most 7 each way"
    assert panel.device_section.header.summary == "lora, cuda:1"


def test_shortcuts_replace_each_other(qtbot: QtBot, panel: SegmentPanel) -> None:
    layout = panel.shortcuts.layout()
    panel.set_shortcuts([("Shift+Enter", "Run"), ("Esc", "Cancel")])
    assert layout.count() == 4
    panel.set_shortcuts([("Esc", "Cancel")])
    assert layout.count() == 2


def test_everything_to_click_says_what_it_does(panel: SegmentPanel, entry: MakeEntry) -> None:
    _fill(panel, entry)
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox)
    for widget in panel.findChildren(QWidget):
        if not isinstance(widget, kinds) or widget.isHidden():
            continue
        if isinstance(widget.parent(), QTableView) or isinstance(widget.parent(), QAbstractSpinBox):
            continue  # Qt's own corner button
        text = widget.text() if isinstance(widget, QAbstractButton) else ""
        assert widget.toolTip(), widget
        assert text or widget.accessibleName(), widget
        assert "&" not in text, widget


def test_tab_goes_through_the_panel_as_it_is_laid_out(
    panel: SegmentPanel, entry: MakeEntry
) -> None:
    _fill(panel, entry)
    for section in panel.sections:
        section.set_open(True)
    panel.resize(370, 2400)  # nothing is scrolled away
    QApplication.processEvents()
    first = panel.image_model.image_box
    heights, widget = [], first
    while widget is not first or not heights:
        is_reached = widget.focusPolicy() & Qt.FocusPolicy.TabFocus and widget.isVisible()
        if is_reached and panel.isAncestorOf(widget) and widget.isEnabled():
            heights.append(widget.mapTo(panel, QPoint(0, widget.height() // 2)).y())
        widget = widget.nextInFocusChain()
    assert len(heights) > 25
    assert all(after >= before - 12 for before, after in itertools.pairwise(heights))


def test_the_wheel_scrolls_the_panel_and_changes_nothing(panel: SegmentPanel, said: Any) -> None:
    panel.set_images([ImageChoice("a"), ImageChoice("b")], "a")
    box = panel.image_model.image_box
    box.clearFocus()
    down, nothing = QPoint(0, -120), Qt.KeyboardModifier.NoModifier
    event = QWheelEvent(
        QPointF(5, 5),
        QPointF(box.mapToGlobal(QPoint(5, 5))),
        QPoint(),
        down,
        Qt.MouseButton.NoButton,
        nothing,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(box, event)
    assert box.currentText() == "a"
    assert said == []


def test_it_fits_a_small_window(panel: SegmentPanel, entry: MakeEntry) -> None:
    _fill(panel, entry)
    panel.show_message("a long message, " * 20, True)
    assert panel.minimumSizeHint().width() <= 320
    assert panel.minimumSizeHint().height() <= 200
    for section in panel.sections:
        section.set_open(True)
    panel.resize(310, 300)
    QApplication.processEvents()
    assert panel.width() == 310


def test_fifty_objects_are_set_within_two_milliseconds(
    panel: SegmentPanel, entry: MakeEntry
) -> None:
    states = [[entry(i, voxels=1000 + step) for i in range(1, 51)] for step in range(40)]
    panel.set_objects(states[0], 3)
    QApplication.processEvents()
    durations = []
    for state in states:
        start = time.perf_counter()
        panel.set_objects(state, 3)
        durations.append(time.perf_counter() - start)
        QApplication.processEvents()
    assert sorted(durations)[len(durations) // 2] < 0.002
