"""What a job gives: an adapter that is used, exported, imported, and applied elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_slidesam.errors import PromptError
from napari_slidesam.gui.finetune.adapters import segment_docks
from napari_slidesam.gui.finetune.drawn_boxes import boxes_by_volume
from napari_slidesam.gui.segment_widget import SegmentWidget
from napari_slidesam.jobs.boxes import ALL_VOLUMES
from napari_slidesam.jobs.queue import RUN_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    OpenFinetune = Any
    MakeDock = Callable[..., OpenFinetune]


def _rectangle(z: float, y0: float, x0: float, y1: float, x1: float) -> np.ndarray:
    return np.array([[z, y0, x0], [z, y0, x1], [z, y1, x1], [z, y1, x0]], dtype=float)


BOXES = [_rectangle(7, 7, 7, 20, 20), _rectangle(7, 25, 27, 38, 40)]


def test_from_layers_to_an_adapter_in_the_segment_dock(
    open_finetune: MakeDock, queue_commands: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    """A real training in a process of its own, and everything that can be done with its result."""
    queue_commands["command"] = RUN_COMMAND
    dock = open_finetune()
    panel = dock.panel
    segment = SegmentWidget(dock.viewer)
    dock.viewer.window.add_dock_widget(segment, name="Segment with Slide-SAM")
    panel.settings.rank_box.setValue(2)
    panel.settings.axis_checks[1].setChecked(False)
    panel.settings.axis_checks[2].setChecked(False)
    panel.advanced.batch_box.setValue(4)
    dock.add("mine", starts=True, epochs=1)
    entry = dock.wait_for("mine", "done", "failed")
    assert entry.state == "done", entry.message
    dock.wait(lambda: panel.live.dice.rowCount() > 0 and panel.adapters.chosen is not None)
    dock.wait(lambda: bool(panel.live.preview.title))
    adapter = panel.adapters.chosen
    assert (adapter.name, adapter.model) == ("mine", "embedded")

    dock.wait(lambda: not panel.live.use_button.isHidden())
    panel.live.use_button.click()
    dock.wait(lambda: segment.controller.dock.settings.adapter == adapter.folder)
    dock.wait(lambda: not segment.controller.is_busy)
    shown = segment.panel.adapter_device.adapter
    assert shown.current == adapter.folder
    assert not segment.panel.message.label.text()

    file = tmp_path / "mine.zip"
    panel.adapters.export_requested.emit(adapter.folder, str(file))
    dock.wait(file.exists)
    panel.adapters.remove_requested.emit(adapter.folder)
    dock.wait(lambda: panel.adapters.chosen is None)
    panel.adapters.import_requested.emit(str(file))
    dock.wait(lambda: panel.adapters.chosen is not None)
    assert panel.adapters.chosen.model == "embedded"
    dock.wait(lambda: "is an adapter for embedded" in dock.messages())

    dock.viewer.add_shapes(BOXES, shape_type="rectangle", name="boxes", scale=(2, 1, 1))
    dock.wait(lambda: not dock.controller.is_busy)
    panel.apply.boxes.set_current("boxes")
    panel.apply.run_button.click()
    assert panel.apply.adapter_box.currentText() == "mine"
    dock.wait(lambda: "a applied" in dock.viewer.layers)
    dock.wait(lambda: not dock.controller.is_busy)
    _, truth = dock.phantom()
    found = np.asarray(dock.viewer.layers["a applied"].data)
    for label in (1, 2):
        both = np.logical_and(found == label, truth == label).sum()
        assert 2 * both / ((found == label).sum() + (truth == label).sum()) > 0.6
    assert panel.apply.text.text() == "1 volume segmented."


def test_boxes_on_open_and_stored_volumes(open_finetune: MakeDock, tmp_path: Path) -> None:
    dock = open_finetune()
    panel = dock.panel
    image, _ = dock.phantom()
    np.save(tmp_path / "stored.npy", image)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "boxes.csv").write_text("object,slice,y0,x0,y1,x1\n5,7,7,7,20,20\n")
    panel.apply.run_button.click()
    assert "no boxes" in dock.messages()
    panel.apply.paths_added.emit([str(tmp_path)])
    panel.apply.boxes.set_current(str(tmp_path / "boxes.csv"))
    assert panel.apply.list.count() == 3
    panel.apply.run_button.click()
    dock.wait(lambda: not dock.controller.applying.is_busy)
    assert panel.apply.text.text() == "2 volumes segmented, 1 failed."
    rows = {row.name: row for row in dock.controller.applying.rows()}
    assert rows["text.npy"].is_error
    assert rows["stored.npy"].result.startswith("1 object")
    labels = np.load(tmp_path / "segmented" / "stored_labels.npy")
    assert (labels[7, 9:18, 9:18] == 5).mean() > 0.7
    assert (tmp_path / "segmented" / "summary.csv").exists()
    assert "a applied" in dock.viewer.layers
    panel.apply.target_removed.emit(rows["text.npy"].key)
    assert panel.apply.list.count() == 2
    for row in dock.controller.applying.rows():
        panel.apply.target_toggled.emit(row.key, False)
    panel.apply.run_button.click()
    assert "No volume is ticked" in dock.messages()


def test_boxes_stay_where_they_are_in_the_world(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    viewer = dock.viewer
    shapes = viewer.add_shapes(
        BOXES, shape_type="rectangle", name="boxes", features={"object": [4, 4]}, scale=(2, 1, 1)
    )
    image = viewer.add_image(np.zeros((28, 96, 96)), name="fine", scale=(1, 0.5, 0.5))
    with pytest.raises(PromptError):  # one object, twice on one slice
        boxes_by_volume(shapes, [image])
    shapes.features = {"object": [4, 9]}
    found = boxes_by_volume(shapes, [image, viewer.layers["a"]])
    assert [p.object_id for p in found["fine"]] == [4, 9]
    assert found["a"][0].boxes[0].slice_index == found[ALL_VOLUMES][0].boxes[0].slice_index == 7
    assert found["fine"][0].boxes[0].slice_index == 14
    height = found["fine"][0].boxes[0].box.height
    assert abs(height - 2 * found["a"][0].boxes[0].box.height) <= 1.5
    shapes.data = []
    with pytest.raises(PromptError, match="no box"):
        boxes_by_volume(shapes, [image])


def test_files_that_are_no_adapters(open_finetune: MakeDock, tmp_path: Path) -> None:
    dock = open_finetune()
    file = tmp_path / "not.zip"
    file.write_bytes(b"nothing")
    for path, expected in ((file, "cannot be unpacked"), (tmp_path, "There is no adapter")):
        dock.panel.adapters.import_requested.emit(str(path))
        dock.wait(lambda text=expected: text in dock.messages())
    assert dock.panel.adapters.chosen is None


def test_using_an_adapter_opens_the_segment_dock(
    open_finetune: MakeDock, user_folders: Path
) -> None:
    dock = open_finetune()
    folder = user_folders / "models" / "adapters" / "damaged"
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text("{}")
    dock.controller.adapters.show()
    dock.wait(lambda: dock.panel.adapters.chosen is not None)
    dock.panel.adapters.use_button.click()
    (segment,) = segment_docks(dock.viewer)
    assert segment.controller.dock.settings.adapter == str(folder)
    dock.wait(lambda: "damaged" in segment.panel.message.label.text())
