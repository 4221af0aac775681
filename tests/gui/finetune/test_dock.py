"""The dock in a real viewer: pairs, the queue, the live view. Jobs are small scripts here."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent

from napari_slidesam.gui.finetune.jobs import _read_preview
from napari_slidesam.gui.finetune.state import Action
from napari_slidesam.gui.finetune_widget import FinetuneWidget
from napari_slidesam.io import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    OpenFinetune = Any
    MakeDock = Callable[..., OpenFinetune]

STALL_S = 0.05


def _our_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("slide-sam")]


def test_layers_that_fit_are_taken_and_saved(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    (row,) = dock.controller.pairs.rows()
    assert (row.image, row.labels, row.is_wrong) == ("a", "a labels", False)
    dock.panel.advanced.labels_edit.setText("1, 2")
    dock.add("mine", starts=False)
    entry = dock.wait_for("mine", "ready")
    (pair,) = entry.job.pairs
    assert pair.spacing_zyx == (2.0, 1.0, 1.0)
    assert entry.job.labels == (1, 2)
    image, labels = dock.phantom()
    stored = read_volume(entry.folder / pair.image).volume
    assert stored.data.dtype == np.uint8
    np.testing.assert_array_equal(stored.data, image)
    np.testing.assert_array_equal(np.load(entry.folder / pair.labels), labels)
    dock.wait(lambda: dock.panel.live.check.facts.facts[0][1].startswith("1 volume"))
    assert "Few windows" in dock.panel.live.check.warnings.text()
    assert dock.panel.live.check_section.is_open
    assert dock.entry("mine").state == "ready"  # nothing was started


def test_a_look_that_finds_a_problem_says_it(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.add("bad data", starts=False)
    dock.wait(lambda: "no label" in dock.panel.live.check.problem.text())
    assert "cannot" in dock.panel.live.check_section.header.summary


@pytest.mark.parametrize("kind", ["dask", "time", "rgb", "flat", "multiscale"])
def test_layers_of_every_kind(open_finetune: MakeDock, kind: str) -> None:
    dock = open_finetune(is_empty=True)
    image, labels = dock.phantom()
    expected = labels
    if kind == "dask":
        dock.viewer.add_image(da.from_array(image, chunks=(1, 48, 48)), name="a")
    elif kind == "time":
        dock.viewer.add_image(np.stack([image, image]), name="a")
        labels, expected = np.stack([np.zeros_like(labels), labels]), labels
    elif kind == "rgb":
        dock.viewer.add_image(np.stack([image] * 3, axis=-1), name="a", rgb=True)
    elif kind == "flat":
        dock.viewer.add_image(image[3], name="a")
        labels, expected = labels[3], labels[3:4]
    else:
        dock.viewer.add_image([image, image[:, ::2, ::2]], name="a", multiscale=True)
    dock.viewer.add_labels(labels, name="the labels")
    if kind == "time":
        dock.viewer.dims.set_current_step(0, 1)
    dock.panel.pairs.add_button.click()
    dock.add("mine", starts=False)
    entry = dock.entry("mine")
    (pair,) = entry.job.pairs
    np.testing.assert_array_equal(np.load(entry.folder / pair.labels), expected)
    stored = np.load(entry.folder / pair.image)
    np.testing.assert_allclose(stored, image[3:4] if kind == "flat" else image, atol=0.51)


def test_layers_that_do_not_fit_are_refused_and_nothing_is_lost(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.viewer.add_labels(np.zeros((3, 5, 7), dtype=int), name="other")
    dock.wait(lambda: not dock.controller.is_busy)
    (line,) = dock.panel.pairs.lines
    line.labels_box.setCurrentText("other")
    line.labels_box.activated.emit(line.labels_box.currentIndex())
    assert "14 x 48 x 48" in line.note.text()
    dock.panel.settings.name_edit.setText("kept")
    dock.panel.start_button.click()
    assert "on the image's grid" in dock.messages()
    assert dock.panel.settings.name_edit.text() == "kept"
    assert dock.controller.entries == ()
    line.remove_button.click()
    dock.panel.start_button.click()
    assert "nothing to train on" in dock.messages()
    dock.panel.pairs.add_button.click()
    dock.panel.advanced.labels_edit.setText("one")
    dock.panel.start_button.click()
    assert "whole numbers" in dock.messages()
    dock.panel.advanced.labels_edit.clear()
    for check in dock.panel.settings.axis_checks:
        check.setChecked(False)
    dock.panel.start_button.click()
    assert "No axis" in dock.messages()


def test_layers_removed_and_renamed(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.viewer.layers["a"].name = "b"
    dock.wait(lambda: dock.panel.pairs.lines[0].image_box.currentText() == "b")
    dock.viewer.layers.remove("a labels")
    dock.wait(lambda: "removed" in dock.panel.pairs.lines[0].note.text())
    dock.panel.start_button.click()
    assert "Choose labels" in dock.messages()
    dock.viewer.layers.clear()
    dock.wait(lambda: not dock.controller.is_busy)
    assert dock.controller.applying.rows() == ()


def test_folders_are_dropped(open_finetune: MakeDock, tmp_path: Path) -> None:
    dock = open_finetune(is_empty=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "picture.png").write_bytes(b"")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / n)) for n in ("data", "picture.png")])
    button, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, button, none)
    dock.panel.pairs.dropEvent(event)
    assert [row.image for row in dock.controller.pairs.rows()] == [str(tmp_path / "data")]
    assert "picture.png" in dock.messages()
    dock.panel.add_button.click()
    dock.wait(lambda: dock.entry("data") is not None)
    assert dock.entry("data").job.data == (str(tmp_path / "data"),)
    (tmp_path / "data").rmdir()
    dock.panel.add_button.click()
    assert "not there any more" in dock.messages()


def test_a_job_is_followed_live(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.add("held", starts=True, epochs=60)
    live = dock.panel.live
    dock.wait(lambda: bool(live.facts.facts) and live.line.share is not None)
    assert [title for title, _ in live.facts.facts] == ["Epoch", "Step", "Time left", "Memory"]
    dock.wait(lambda: not live.preview.isHidden())
    (dock.entry("held").folder / "go").touch()
    dock.wait_for("held", "done")
    dock.wait(lambda: live.dice.rowCount() == 1)
    assert [live.dice.item(0, i).text() for i in range(4)] == ["a/1", "0.500", "0.800", "+0.300"]
    assert live.preview.title == "slice 3"
    live.curves.look_changed.emit(live.curves.look)  # as where it becomes visible
    dock.wait(lambda: live.curves._picture is not None)
    dock.wait(lambda: not live.use_button.isHidden())
    dock.wait(lambda: "Dice 0.500 to 0.800" in dock.panel.queue._rows[0].detail)
    for theme in ("light", "dark"):
        dock.viewer.theme = theme
        dock.qtbot.wait(20)
        assert not dock.panel.grab().isNull()


def test_a_preview_that_is_not_whole_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "preview.npz"
    masks = dict.fromkeys(("truth", "before", "after"), np.eye(8, dtype=bool))
    np.savez(path, image=np.zeros((8, 8), dtype=np.float32), title="slice 3", **masks)
    assert _read_preview(path) is not None
    path.write_bytes(path.read_bytes()[:100])
    assert _read_preview(path) is None


def test_what_can_be_asked_of_jobs(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.add("first", starts=True, epochs=5000)
    dock.wait_for("first", "running")
    dock.add("second", starts=False)
    queue = dock.panel.queue

    def press(name: str, action: Action) -> None:
        row = next(i for i, r in enumerate(queue._rows) if r.name == name)
        queue.list.setCurrentRow(row)
        dock.wait(lambda: queue.buttons[action].isEnabled())
        queue.buttons[action].click()

    press("second", Action.UP)
    dock.wait(lambda: [r.name for r in queue._rows] == ["second", "first"])
    press("second", Action.DUPLICATE)
    dock.wait(lambda: dock.entry("second copy") is not None)
    press("second", Action.START)
    dock.wait_for("second", "queued")
    press("first", Action.PAUSE)
    dock.wait_for("first", "paused")
    dock.wait_for("second", "done")
    press("first", Action.START)
    dock.wait_for("first", "running")
    press("first", Action.STOP)
    dock.wait_for("first", "stopped")
    for name in ("first", "second", "second copy"):
        press(name, Action.REMOVE)
        dock.wait(lambda n=name: dock.entry(n) is None)
    assert dock.panel.live.isHidden()
    assert not dock.panel.queue.empty.isHidden()


def test_a_crash_takes_nothing_with_it(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.add("crash", starts=True)
    dock.add("killed", starts=True, epochs=5000)
    dock.add("next", starts=True)
    dock.wait_for("crash", "failed")
    assert "graphics card is gone" in dock.entry("crash").message
    dock.wait_for("killed", "running")
    dock.wait(lambda: dock.entry("killed").process is not None)
    dock.entry("killed").process.end()
    dock.wait_for("killed", "failed")
    dock.wait_for("next", "done")
    dock.panel.queue.list.setCurrentRow(0)
    dock.wait(lambda: "graphics card" in dock.panel.live.message.text())


def test_the_dock_closed_and_opened_again_while_a_job_runs(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.add("mine", starts=True, epochs=5000)
    process = dock.wait_for("mine", "running").process
    dock.viewer.window.remove_dock_widget(dock.widget)
    assert not _our_threads()
    assert process is None or process.is_running
    again = open_finetune(dock.viewer)
    entry = again.wait_for("mine", "running")
    again.wait(lambda: bool(again.panel.live.facts.facts))
    assert entry.process is None or entry.process.is_running
    again.panel.queue.buttons[Action.STOP].click()
    again.wait_for("mine", "stopped")


def test_two_viewers_share_the_queue(open_finetune: MakeDock) -> None:
    docks = [open_finetune(), open_finetune()]
    docks[0].add("first", starts=True, epochs=30)
    docks[1].add("second", starts=True, epochs=30)
    for dock in docks:
        for name in ("first", "second"):
            dock.wait_for(name, "done")
    assert [e.job.name for e in docks[0].controller.entries] == ["first", "second"]


def test_a_viewer_closed_while_layers_are_saved(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.panel.start_button.click()
    dock.viewer.close()
    assert not _our_threads()


def test_the_window_is_never_kept_waiting(
    open_finetune: MakeDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = open_finetune()
    took: list[float] = []
    works = dock.controller.jobs._on_update

    def timed(update: Any) -> None:
        start = time.thread_time()
        works(update)
        took.append(time.thread_time() - start)

    monkeypatch.setattr(dock.controller.jobs, "_on_update", timed)
    dock.add("mine", starts=True, epochs=80)
    dock.wait_for("mine", "done")
    dock.wait(lambda: dock.panel.live.dice.rowCount() == 1)
    assert len(took) > 3
    assert max(took) < STALL_S


def test_the_plugin_has_the_dock() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("napari-slidesam")
    (widget,) = [w for w in manifest.contributions.widgets if "Fine-tune" in w.display_name]
    (command,) = [c for c in manifest.contributions.commands if c.id == widget.command]
    assert command.python_name == f"{FinetuneWidget.__module__}:FinetuneWidget"
