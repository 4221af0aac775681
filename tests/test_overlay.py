from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.geometry import Box
from napari_slidesam.overlay import choose_slices, write_contact_sheet
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts, PointPrompt
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

YELLOW = np.array([255, 212, 0])


def _scene(axis: int = 0) -> tuple[Volume, np.ndarray, ObjectPrompts]:
    labels = np.zeros((16, 40, 48), dtype=np.uint16)
    labels[4:12, 10:22, 12:30] = 1
    image = labels.astype(np.float32) * 100
    box = {0: Box(10, 12, 22, 30), 1: Box(4, 12, 12, 30), 2: Box(4, 10, 12, 22)}[axis]
    slice_index = {0: 8, 1: 15, 2: 20}[axis]
    prompts = ObjectPrompts(
        1, (BoxPrompt(slice_index, box),), (PointPrompt(slice_index, 6, 14),), axis=axis
    )
    return Volume(image, (2.0, 1.0, 1.0), "mm"), labels, prompts


def _planes(labels: np.ndarray, axis: int = 0) -> Callable[[int], np.ndarray]:
    return lambda index: np.take(labels, index, axis)


def _share_of_yellow(path: Path) -> float:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return float((np.abs(pixels - YELLOW).sum(axis=2) < 60).mean())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_outlines_are_drawn_along_any_axis(tmp_path: Path, axis: int) -> None:
    volume, labels, prompts = _scene(axis)
    path = tmp_path / "sheet.png"
    found = np.flatnonzero(labels.any(axis=tuple(i for i in range(3) if i != axis)))
    write_contact_sheet(path, volume, _planes(labels, axis), [prompts], found.tolist())
    assert _share_of_yellow(path) > 0.002
    bare = tmp_path / "bare.png"
    write_contact_sheet(bare, volume, _planes(0 * labels, axis), [prompts], found.tolist())
    assert _share_of_yellow(bare) < _share_of_yellow(path)


def test_only_the_drawn_slices_are_read(tmp_path: Path) -> None:
    volume, labels, prompts = _scene()
    read: list[object] = []

    class Watched:
        shape, dtype = volume.data.shape, volume.data.dtype

        def __getitem__(self, index: object) -> np.ndarray:
            read.append(index)
            return np.asarray(volume.data[index])

    watched = Volume(Watched(), volume.spacing_zyx, volume.unit)
    write_contact_sheet(tmp_path / "a.png", watched, _planes(labels), [prompts], [4, 5])
    assert len(read) == 3


def test_a_single_plane_and_a_volume_that_is_not_finite(tmp_path: Path) -> None:
    image = np.full((30, 30), np.nan, dtype=np.float32)
    labels = np.zeros((1, 30, 30), dtype=np.uint8)
    prompts = ObjectPrompts(3, points=(PointPrompt(0, 4, 4),))
    write_contact_sheet(tmp_path / "a.png", Volume(image), _planes(labels), [prompts], [])
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 100


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    volume, labels, prompts = _scene()
    with pytest.raises(VolumeError, match="shape"):
        write_contact_sheet(tmp_path / "a.png", volume, _planes(labels[:, 1:]), [prompts], [5])
    with pytest.raises(VolumeError, match="prompts"):
        write_contact_sheet(tmp_path / "a.png", volume, _planes(labels), [], [5])
    with pytest.raises(FileFormatError, match="cannot be written"):
        write_contact_sheet(tmp_path / "no" / "a.png", volume, _planes(labels), [prompts], [5])
    with pytest.raises(FileFormatError, match="cannot be written"):
        write_contact_sheet(tmp_path / "a.nothing", volume, _planes(labels), [prompts], [5])


@settings(max_examples=50, deadline=None)
@given(
    slices=st.lists(st.integers(0, 500), max_size=60),
    prompted=st.lists(st.integers(0, 500), min_size=1, max_size=3),
)
def test_chosen_slices_are_few_sorted_and_hold_a_prompt(
    slices: list[int], prompted: list[int]
) -> None:
    chosen = choose_slices(slices, prompted, n_tiles=6)
    assert chosen == sorted(set(chosen))
    assert 1 <= len(chosen) <= 6
    assert set(chosen) <= {*slices, *prompted}
    assert set(chosen) & set(prompted)
