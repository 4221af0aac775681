"""The script behind the table of fine-tunings."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.cases import Case
from napari_slidesam.jobs.spec import FinetuneJob
from napari_slidesam.tuning.splits import slab_split
from napari_slidesam.volume import Volume

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "measure_finetuning.py"))


@pytest.fixture
def volumes(tmp_path, write_pair):
    folder = tmp_path / "volumes" / "phantom"
    image, labels = write_pair(folder, "image")
    labels.rename(folder / "labels.nii.gz")
    assert image.exists()
    (folder / "meta.json").write_text(json.dumps({"objects": [3, 7], "modality": "phantom"}))
    return tmp_path / "volumes"


def test_a_volume_is_measured_once(volumes, tmp_path, tiny_weights):
    settings = FinetuneJob("", model=str(tiny_weights), rank=2, epochs=1, device="cpu")
    (row,) = SCRIPT["measure_folder"](volumes, tmp_path / "runs", settings)
    assert (row.volume, row.modality) == ("phantom", "phantom")
    assert row.objects >= 1
    assert row.steps >= 1
    assert 0 <= row.better <= row.objects
    job = FinetuneJob.load(tmp_path / "runs" / "phantom")
    assert job.axes == (0, 1, 2)
    assert SCRIPT["measure_folder"](volumes, tmp_path / "runs", settings, ["phantom"]) == [row]
    with pytest.raises(EvaluationError, match="no volume named nothing"):
        SCRIPT["measure_folder"](volumes, tmp_path / "runs", settings, ["nothing"])


def test_thirds_are_of_the_objects_that_are_measured(image, labels):
    labels = labels.copy()
    labels[22:, :2, :2] = 1
    case = Case("a", Volume(image), labels, 0, (3, 7))
    parts = slab_split([SCRIPT["_worth_a_box"](case)], 0, SCRIPT["TEST_THIRD"])
    (train,), (unseen,) = parts.train, parts.validation
    # objects 3 and 7 are on slices 3 to 19
    assert (train.start, train.stop, unseen.start, unseen.stop) == (0, 13, 15, 24)


def test_the_table_and_where_it_goes(tmp_path):
    row = SCRIPT["Row"]("a", "CT", 300, 4, 0.5, 0.625, 3, 900, 800, 599.6)
    text = SCRIPT["table"]([row])
    last = "| a | CT | 300 | 4 | 0.500 | 0.625 | +0.125 | 3 of 4 | 600 |"
    assert text.splitlines()[-1] == last
    document = tmp_path / "doc.md"
    document.write_text("before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n")
    SCRIPT["write_into"](document, text)
    assert document.read_text() == (
        f"before\n<!-- measured -->\n{text}\n<!-- /measured -->\nafter\n"
    )
    document.write_text("nothing")
    with pytest.raises(EvaluationError, match="lacks the lines"):
        SCRIPT["write_into"](document, text)
