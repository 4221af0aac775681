from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qtpy.QtCore import QPoint, Qt

from napari_slidesam.gui.state import QualityState
from napari_slidesam.gui.views.colours import quality_colour
from napari_slidesam.gui.views.quality_strip import StripScale, shown_range

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from napari_slidesam.gui.views.panel import SegmentPanel

LEFT = Qt.MouseButton.LeftButton
SCORES = tuple((i, 0.3 if i == 44 else 0.9) for i in range(30, 61))
STATE = QualityState(5, 200, SCORES, worst=(44, 60, 30), prompted=(40,), current=42)


def _place(panel: SegmentPanel, slice_index: int) -> QPoint:
    return QPoint(round(panel.quality.strip.scale().centre(slice_index)), 30)


def test_a_click_goes_to_the_slice(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    panel.set_quality(STATE)
    for slice_index in (44, 30, 60):
        qtbot.mouseClick(panel.quality.strip, LEFT, pos=_place(panel, slice_index))
    assert said.taken() == [("slice_requested", i) for i in (44, 30, 60)]


def test_a_drag_goes_through_slices_once_each(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    panel.set_quality(STATE)
    strip = panel.quality.strip
    qtbot.mousePress(strip, LEFT, pos=_place(panel, 40))
    start, end = _place(panel, 40), _place(panel, 43)
    for x in range(start.x(), end.x() + 1):
        qtbot.mouseMove(strip, QPoint(x, 30))
    qtbot.mouseMove(strip, QPoint(-500, 30))
    qtbot.mouseRelease(strip, LEFT, pos=QPoint(-500, 30))
    qtbot.mouseMove(strip, _place(panel, 50))  # no button: only looks
    first = shown_range(STATE)[0]
    assert [i for _, i in said.taken()] == [40, 41, 42, 43, first]


@pytest.mark.parametrize(
    ("key", "target"),
    [
        (Qt.Key.Key_Left, 41),
        (Qt.Key.Key_Right, 43),
        (Qt.Key.Key_Home, 30),
        (Qt.Key.Key_End, 60),
        (Qt.Key.Key_PageDown, 44),
        (Qt.Key.Key_PageUp, 30),
    ],
)
def test_keys_go_to_slices(
    qtbot: QtBot, panel: SegmentPanel, said: Any, key: Qt.Key, target: int
) -> None:
    panel.set_quality(STATE)
    qtbot.keyClick(panel.quality.strip, key)
    assert said.taken() == [("slice_requested", target)]


def test_keys_go_on_before_the_slice_is_displayed(
    qtbot: QtBot, panel: SegmentPanel, said: Any
) -> None:
    panel.set_quality(STATE)
    for _ in range(3):
        qtbot.keyClick(panel.quality.strip, Qt.Key.Key_Right)
    assert [i for _, i in said.taken()] == [43, 44, 45]


def test_without_an_object_nothing_is_asked(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    panel.set_quality(None)
    qtbot.mouseClick(panel.quality.strip, LEFT, pos=QPoint(50, 30))
    qtbot.keyClick(panel.quality.strip, Qt.Key.Key_Right)
    assert said.taken() == []


def test_buttons_of_the_worst_slices(qtbot: QtBot, panel: SegmentPanel, said: Any) -> None:
    panel.set_quality(STATE)
    shown = [b for b in panel.quality.buttons if b.isVisible()]
    assert [b.text() for b in shown] == ["44", "60", "30"]
    for button in shown:
        qtbot.mouseClick(button, LEFT)
    assert [i for _, i in said.taken()] == [44, 60, 30]
    panel.set_quality(QualityState(5, 200, SCORES))
    assert not any(b.isVisible() for b in panel.quality.buttons)


def test_tips_and_description(panel: SegmentPanel) -> None:
    strip = panel.quality.strip
    assert "Select an object" in strip.tip_for(3)
    panel.set_quality(STATE)
    assert strip.tip_for(44).startswith("Slice 44: quality 0.30, one of the worst")
    assert strip.tip_for(40) == "Slice 40: quality 0.90, prompted"
    assert strip.tip_for(99) == "Slice 99: not segmented"
    assert "Slices 30 to 60 of 200" in strip.accessibleDescription()
    assert panel.quality.span.text() == "31 slices"


def test_bars_have_the_colour_of_their_quality(panel: SegmentPanel) -> None:
    panel.set_quality(QualityState(5, 20, tuple((i, 0.2 if i < 10 else 1.0) for i in range(20))))
    strip = panel.quality.strip
    picture = strip.grab().toImage()
    y = strip.height() - strip.fontMetrics().height() - 13  # at the foot of the bars
    for slice_index, score in ((3, 0.2), (15, 1.0)):
        seen = picture.pixelColor(round(strip.scale().centre(slice_index)), y)
        wanted = quality_colour(score)
        assert abs(seen.red() - wanted.red()) < 12
        assert abs(seen.green() - wanted.green()) < 12


@pytest.mark.parametrize(
    "state",
    [
        QualityState(1, 1, ()),
        QualityState(1, 1, ((0, 1.0),), (0,), (0,), 0),
        QualityState(1, 5000, tuple((i, 0.5) for i in range(5000)), (7,), (9,), 4999),
        QualityState(1, 50, ((10, 0.5),), current=49),
        QualityState(1, 50, ((10, float("1.2")), (11, -0.1))),
    ],
)
def test_any_state_can_be_drawn(panel: SegmentPanel, state: QualityState) -> None:
    panel.set_quality(state)
    assert not panel.quality.strip.grab().isNull()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.data())
def test_shown_range_holds_the_object(n_slices: int, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, n_slices - 1))
    high = data.draw(st.integers(low, n_slices - 1))
    state = QualityState(1, n_slices, tuple((i, 0.5) for i in range(low, high + 1)))
    first, stop = shown_range(state)
    assert 0 <= first <= low <= high < stop <= n_slices
    scale = StripScale(first, stop, 8.0, 300.0)
    assert all(scale.slice_at(scale.centre(i)) == i for i in range(first, stop))
