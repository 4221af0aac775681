from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_slidesam.gui.views.dialogs import FileDialogs

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot


@pytest.fixture
def parent(qtbot: QtBot) -> QWidget:
    widget = QWidget()
    qtbot.addWidget(widget)
    return widget


def _answer(monkeypatch: pytest.MonkeyPatch, name: str, answer: Any) -> list[str]:
    """Let Qt's dialog be answered at once; return where it begins each time."""
    begun: list[str] = []

    def ask(_: QWidget, __: str, start: str, *___: str) -> Any:
        begun.append(start)
        return answer

    monkeypatch.setattr(QFileDialog, name, ask)
    return begun


def test_each_question_begins_where_the_last_answer_was(
    parent: QWidget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = _answer(monkeypatch, "getOpenFileName", (str(tmp_path / "a" / "net.pt"), "All"))
    saved = _answer(monkeypatch, "getSaveFileName", (str(tmp_path / "b" / "out.csv"), "CSV"))
    chosen = _answer(monkeypatch, "getExistingDirectory", str(tmp_path / "c" / "lora"))
    dialogs = FileDialogs(str(tmp_path))
    assert dialogs.open_file(parent, "Open", "All (*)") == str(tmp_path / "a" / "net.pt")
    assert dialogs.save_file(parent, "Save", "x.csv", "CSV") == str(tmp_path / "b" / "out.csv")
    assert dialogs.choose_folder(parent, "Folder") == str(tmp_path / "c" / "lora")
    assert dialogs.open_file(parent, "Open", "All (*)")
    assert opened == [str(tmp_path), str(tmp_path / "c")]
    assert saved == [str(tmp_path / "a" / "x.csv")]
    assert chosen == [str(tmp_path / "b")]


def test_no_answer_is_an_empty_path(
    parent: QWidget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = _answer(monkeypatch, "getOpenFileName", ("", ""))
    dialogs = FileDialogs(str(tmp_path))
    assert dialogs.open_file(parent, "Open", "All (*)") == ""
    assert dialogs.open_file(parent, "Open", "All (*)") == ""
    assert begun == [str(tmp_path)] * 2
