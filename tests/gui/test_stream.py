from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import numpy as np
import pytest
from napari.layers import Labels

from napari_slidesam.engine.results import SliceQuality, SliceResult
from napari_slidesam.engine.session import Session
from napari_slidesam.geometry import Box, Region
from napari_slidesam.gui.layers import Plane
from napari_slidesam.gui.stream import LabelsStream, is_seen
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytestqt.qtbot import QtBot

SHAPE = (8, 20, 24)


class Shown:
    """A session, its labels layer and the stream between them."""

    def __init__(self) -> None:
        self.session = Session(SHAPE)
        self.labels = Labels(np.zeros(SHAPE, dtype=np.uint16))
        self.plane: Plane | None = Plane(0, 4)
        self.refreshes = MagicMock()
        self.labels.events.set_data.connect(lambda event: self.refreshes())
        self.stream = LabelsStream(lambda leading: self.session, lambda: self.plane)
        self.stream.show_in(self.labels)

    def result(self, index: int, region: Region, object_id: int = 1) -> None:
        """Merge a filled rectangle, as a run would."""
        mask = np.ones(region.shape_yx, dtype=bool)
        quality = SliceQuality(0.9, 0.9, 0.9)
        self.session.apply(SliceResult(object_id, 0, index, region, mask, quality, False, True))
        self.stream.mark((), 0, index, region)


@pytest.fixture
def shown(qtbot: QtBot) -> Iterator[Shown]:
    made = Shown()
    for object_id in (1, 2):
        made.session.add_object(ObjectPrompts(object_id, (BoxPrompt(4, Box(2, 2, 9, 9)),)))
    yield made
    made.stream.close()


def test_what_is_marked_is_painted(qtbot: QtBot, shown: Shown) -> None:
    for index in range(8):
        shown.result(index, Region(2, 3, 9, 12))
        shown.result(index, Region(5, 8, 15, 20), object_id=2)
    assert shown.stream.is_waiting
    qtbot.waitUntil(lambda: not shown.stream.is_waiting)
    np.testing.assert_array_equal(shown.labels.data, shown.session.labels())


def test_the_displayed_plane_comes_first(shown: Shown) -> None:
    for index in (0, 1, 2, 4):
        shown.result(index, Region(2, 3, 9, 12))
    shown.stream._paint(budget_s=0.0)
    assert shown.labels.data[4].any()
    assert not shown.labels.data[:4].any()


def test_only_what_is_displayed_refreshes_and_not_too_often(qtbot: QtBot, shown: Shown) -> None:
    for index in (0, 1, 2, 3):
        shown.result(index, Region(2, 3, 9, 12))
    qtbot.waitUntil(lambda: not shown.stream.is_waiting)
    assert shown.refreshes.call_count == 0
    for k in range(60):
        shown.result(4, Region(0, 0, 3 + k % 10, 4))
        qtbot.wait(2)
    qtbot.waitUntil(lambda: not shown.stream.is_waiting)
    assert 1 <= shown.refreshes.call_count <= 30
    np.testing.assert_array_equal(shown.labels.data, shown.session.labels())


def test_nothing_is_painted_while_a_brush_is_down(qtbot: QtBot, shown: Shown) -> None:
    shown.stream.pause()
    shown.result(4, Region(2, 3, 9, 12))
    qtbot.wait(40)
    assert not shown.labels.data.any()
    assert shown.stream.waiting_region(Plane(0, 4)) == Region(2, 3, 9, 12)
    shown.stream.resume()
    qtbot.waitUntil(lambda: not shown.stream.is_waiting)
    np.testing.assert_array_equal(shown.labels.data, shown.session.labels())


def test_undo_is_painted_from_the_planes_that_differ(qtbot: QtBot, shown: Shown) -> None:
    for index in range(8):
        shown.result(index, Region(2, 3, 9, 12))
    shown.stream.flush()
    shown.session.edit_slice(2, 1, 10, np.ones((8, 24), dtype=bool))
    before = shown.session.state
    shown.stream.flush()
    planes = shown.session.undo()
    shown.stream.mark_changes((), before, planes)
    planes, before = (), shown.session.state
    planes = shown.session.undo()
    shown.stream.mark_changes((), before, planes)
    shown.stream.flush()
    np.testing.assert_array_equal(shown.labels.data, shown.session.labels())


def test_planes_of_another_axis_are_seen_where_they_cross() -> None:
    region = Region(2, 5, 9, 12)
    assert is_seen(0, 4, region, Plane(0, 4))
    assert not is_seen(0, 3, region, Plane(0, 4))
    assert is_seen(0, 3, region, Plane(1, 2))
    assert not is_seen(0, 3, region, Plane(1, 9))
    assert is_seen(0, 3, region, Plane(2, 11))
    assert not is_seen(0, 3, region, Plane(2, 4))


def test_without_a_layer_nothing_waits(shown: Shown) -> None:
    shown.stream.show_in(None)
    shown.result(4, Region(2, 3, 9, 12))
    assert not shown.stream.is_waiting


def test_the_same_layer_given_again_gets_what_waits(qtbot: QtBot, shown: Shown) -> None:
    for index in range(8):
        shown.result(index, Region(2, 3, 9, 12))
    shown.stream.show_in(shown.labels)
    assert shown.stream.is_waiting
    qtbot.waitUntil(lambda: not shown.stream.is_waiting)
    np.testing.assert_array_equal(shown.labels.data, shown.session.labels())
    shown.result(4, Region(12, 12, 15, 15))
    shown.stream.show_in(Labels(np.zeros(SHAPE, dtype=np.uint16)))
    assert not shown.stream.is_waiting
