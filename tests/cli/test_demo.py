from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from napari_slidesam import sample_data
from napari_slidesam.cli.demo import nuclei_case
from napari_slidesam.engine.session import Session
from napari_slidesam.io import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Run = Callable[..., Result]
    RunJson = Callable[..., dict[str, Any]]


def test_boxes_are_those_of_the_labels() -> None:
    shown = nuclei_case(3)
    labels = sample_data.nuclei().labels
    assert labels is not None
    assert len(shown.prompts) == 3
    for prompts in shown.prompts:
        (prompt,) = prompts.boxes
        plane = labels[prompt.slice_index] == prompts.object_id
        rows, cols = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        assert prompt.box.yxyx == (rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)


def test_labels_picture_session_and_dice(
    tiny_weights: Path, run_json: RunJson, run_cli: Run, tmp_path: Path
) -> None:
    command = ["demo", "--out", tmp_path / "out", "--objects", "2", "--model", tiny_weights]
    facts = run_json(*command)
    assert len(facts["dice"]) == 2
    assert all(0 <= d <= 1 for d in facts["dice"].values())
    written = read_volume(facts["labels"]).volume
    sample = sample_data.nuclei().image
    assert written.shape_zyx == sample.shape_zyx
    assert written.spacing_zyx == pytest.approx(sample.spacing_zyx)
    assert written.unit == sample.unit
    with Image.open(facts["picture"]) as picture:
        assert picture.width > 200
    assert len(Session.load(facts["session"]).object_ids) == 2
    again = run_cli(*command)  # its own outputs are replaced
    assert again.exit_code == 0
    assert "mean Dice" in again.stdout


@pytest.mark.weights
def test_the_embedded_network_segments_nuclei(run_json: RunJson, tmp_path: Path) -> None:
    facts = run_json("demo", "--out", tmp_path, "--objects", "4")
    assert facts["mean_dice"] > 0.5


def test_a_folder_that_cannot_be_made(tiny_weights: Path, run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run_cli("demo", "--out", tmp_path / "file" / "out", "--model", tiny_weights)
    assert result.exit_code == 2
    assert "cannot be made" in result.stderr
