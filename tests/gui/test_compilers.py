from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_slidesam.gui import compilers
from napari_slidesam.gui.compilers import leave_compiler_out

if TYPE_CHECKING:
    from pathlib import Path

IN_A_NEW_PROCESS = """
import napari
from qtpy.QtWidgets import QApplication

viewer = napari.Viewer()
QApplication.processEvents()
viewer.window.add_plugin_dock_widget("napari-slidesam", "Segment with Slide-SAM")
from napari_slidesam.gui.compilers import leave_compiler_out
leave_compiler_out()
import peft  # imports triton where it is there
viewer.close()
"""


@pytest.mark.parametrize(
    ("libraries", "is_left_out"), [("/lib/libLLVM.so.19.1", True), ("/lib/libGL.so.1", False)]
)
def test_the_compiler_is_left_out_where_opengl_has_loaded_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libraries: str, is_left_out: bool
) -> None:
    loaded = tmp_path / "maps"
    loaded.write_text(f"7f00-7f01 r-xp 00000000 00:00 0 {libraries}\n")
    monkeypatch.setattr(compilers, "LOADED", loaded)
    monkeypatch.setattr(compilers, "COMPILER", "a_compiler_of_no_one")
    monkeypatch.delitem(sys.modules, "a_compiler_of_no_one", raising=False)
    assert leave_compiler_out() is is_left_out
    assert ("a_compiler_of_no_one" in sys.modules) is is_left_out
    assert leave_compiler_out() is is_left_out
    sys.modules.pop("a_compiler_of_no_one", None)


def test_without_a_list_of_libraries_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilers, "LOADED", tmp_path / "missing")
    monkeypatch.setattr(compilers, "COMPILER", "a_compiler_of_no_one")
    assert not leave_compiler_out()


@pytest.mark.slow
def test_the_dock_opens_in_a_window_that_was_there_before_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
