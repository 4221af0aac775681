"""The script that makes the pictures of the documentation, on a few slices."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_slidesam.gui.settings import FileStore
from napari_slidesam.gui.state import SegmentSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import napari

SCRIPT = Path(__file__).parents[2] / "docs" / "make_pictures.py"


@pytest.fixture
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pictures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_pictures_are_made(
    pictures: Any,
    make_napari_viewer: Callable[..., napari.Viewer],
    user_folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FileStore(user_folders / "segment.json").save(SegmentSettings(max_extent_slices=1))
    watched = SimpleNamespace(Viewer=lambda: make_napari_viewer(show=True))
    monkeypatch.setattr(pictures, "napari", watched)
    monkeypatch.setattr(pictures, "WINDOW_PX", (900, 640))
    monkeypatch.setattr(pictures, "BOXES_YXYX", pictures.BOXES_YXYX[:2])
    monkeypatch.setattr(pictures, "GIF_MAX_GROWING", 1)
    monkeypatch.setattr(pictures, "GIF_SLICES", (16, 17))
    pictures.main(tmp_path / "images")
    with Image.open(tmp_path / "images" / "dock.png") as dock:
        pixels = np.asarray(dock)
    assert pixels.shape[2] == 3
    assert min(pixels.shape[:2]) >= 600
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    with Image.open(tmp_path / "images" / "flow.gif") as flow:
        assert flow.width == pictures.GIF_WIDTH_PX
        assert flow.n_frames >= 4
        first = np.asarray(flow.convert("RGB"), dtype=int)
        flow.seek(flow.n_frames - 1)
        last = np.asarray(flow.convert("RGB"), dtype=int)
        assert flow.info["duration"] == pictures.LAST_MS
    assert np.abs(first - last).max() > 50
