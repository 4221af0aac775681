from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from napari_slidesam.gui.finetune.remembered import RememberedJob
from napari_slidesam.jobs.spec import FinetuneJob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeDock = Callable[..., Any]

CHOSEN = FinetuneJob(
    "",
    model="mine",
    rank=16,
    dropout=0.1,
    train_encoder=False,
    train_decoder=True,
    epochs=10_000,
    minutes=30.0,
    learning_rate=5e-4,
    weight_decay=0.2,
    batch_size=2,
    accumulate=4,
    axes=(0, 2),
    validation_share=0.3,
    validation_boxes=3,
    patience=5,
    device="cpu",
    precision="float32",
    gradient_checkpointing=True,
    seed=7,
)


def test_settings_come_back_and_data_do_not(tmp_path: Path) -> None:
    file = RememberedJob(tmp_path / "new" / "finetune.json")
    assert file.load() == FinetuneJob("")
    file.save(replace(CHOSEN, name="brain", data=("/data",), labels=(1,), complete=True))
    assert file.load() == CHOSEN


@pytest.mark.parametrize(
    "content",
    ["{", "[1, 2]", '{"rank": "eight"}', '{"axes": [5]}', '{"minutes": -1}', '{"rank": 2.5}',
     '{"train_decoder": 1}', '{"weight_decay": NaN}', '{"model": ""}', '{"later": 1}'],
)  # fmt: skip
def test_what_cannot_be_used_is_a_default(tmp_path: Path, content: str) -> None:
    file = RememberedJob(tmp_path / "finetune.json")
    file.path.write_text(content)
    assert file.load() == FinetuneJob("")


def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    RememberedJob(tmp_path / "file" / "finetune.json").save(CHOSEN)
    assert "cannot be kept" in caplog.text


def test_the_next_dock_begins_where_the_last_one_ended(
    open_finetune: MakeDock, user_folders: Path
) -> None:
    dock = open_finetune()
    path = user_folders / "finetune.json"
    dock.panel.settings.rank_box.setValue(16)
    dock.panel.advanced.share_box.setValue(35)
    dock.panel.settings.axis_checks[1].click()
    dock.panel.settings.name_edit.setText("brain")
    dock.panel.advanced.labels_edit.setText("1")
    assert not path.exists()
    dock.viewer.window.remove_dock_widget(dock.widget)  # before the half second is over
    assert json.loads(path.read_text())["rank"] == 16
    again = open_finetune(dock.viewer)
    expected = replace(FinetuneJob(""), rank=16, validation_share=0.35, axes=(0, 2))
    assert again.panel.job() == expected
    assert again.panel.settings.name_edit.text() == ""
    again.panel.settings.rank_box.setValue(4)
    again.wait(lambda: json.loads(path.read_text())["rank"] == 4)


def test_showing_a_job_is_no_change(open_finetune: MakeDock, user_folders: Path) -> None:
    dock = open_finetune()
    dock.panel.set_job(CHOSEN)
    dock.qtbot.wait(20)
    assert not dock.controller._keep_timer.isActive()
    assert not (user_folders / "finetune.json").exists()


def test_which_slices_are_labelled(open_finetune: MakeDock) -> None:
    dock = open_finetune()
    dock.panel.advanced.complete_check.click()
    dock.panel.advanced.unlabelled_edit.setText("all of them")
    dock.panel.add_button.click()
    assert "numbers and ranges" in dock.messages()
    dock.panel.advanced.unlabelled_edit.setText("3, 5-6")
    dock.add("mine", starts=False)
    entry = dock.entry("mine")
    assert entry is not None
    assert entry.job.complete
    assert [pair.unlabelled for pair in entry.job.pairs] == [(3, 5, 6)]
    dock.panel.set_job(FinetuneJob(""))
    dock.panel.set_job(entry.job)
    assert dock.panel.advanced.unlabelled == (3, 5, 6)
    assert dock.panel.advanced.complete_check.isChecked()
