from __future__ import annotations

import csv
import json
import threading

import numpy as np
import pytest

from napari_slidesam.errors import FileFormatError, PromptError
from napari_slidesam.geometry import Box
from napari_slidesam.io import prompts_to_dict, read_labels, write_prompts
from napari_slidesam.jobs.apply import (
    SUMMARY_FILE,
    NamedVolume,
    SlicesApplied,
    VolumeApplied,
    apply_to_volumes,
)
from napari_slidesam.jobs.boxes import boxes_of, read_boxes
from napari_slidesam.metrics import dice
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.volume import Volume

PROMPTS = (
    ObjectPrompts(3, boxes=(BoxPrompt(10, Box(6, 3, 31, 28)),)),
    ObjectPrompts(7, boxes=(BoxPrompt(13, Box(22, 32, 43, 53)),)),
)
CSV = """volume,object,axis,slice,y0,x0,y1,x1
a,3,z,10,6,3,31,28
a,7,z,13,22,32,43,53
"*",3,,10,6,3,31,28
"""


def finished(events):
    return [event for event in events if isinstance(event, VolumeApplied)]


def test_files_become_labels_and_a_summary(tmp_path, write_pair, labels, network):
    volumes = [write_pair(tmp_path, name)[0] for name in ("a", "b")]
    out = tmp_path / "out"
    events = list(apply_to_volumes(network, volumes, {"*": PROMPTS}, out))
    progress = [e for e in events if isinstance(e, SlicesApplied)]
    assert [e.name for e in finished(events)] == ["a.nii.gz", "b.nii.gz"]
    assert {(e.number, e.n_volumes) for e in progress} == {(1, 2), (2, 2)}
    assert progress[0].slices == 1
    for event in finished(events):
        assert event.error == ""
        assert event.labels_zyx is None
        assert [row.object_id for row in event.objects] == [3, 7]
        found = read_labels(event.labels_path)
        assert event.labels_path.name == f"{event.name[0]}_labels.nii.gz"
        assert all(dice(found == i, labels == i) > 0.9 for i in (3, 7))
    with (out / SUMMARY_FILE).open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["file"], r["object"]) for r in rows] == [
        ("a.nii.gz", "3"), ("a.nii.gz", "7"), ("b.nii.gz", "3"), ("b.nii.gz", "7"),
    ]  # fmt: skip
    assert int(rows[0]["voxels"]) > 1000
    assert float(rows[0]["seconds"]) > 0


def test_open_volumes_give_labels_back(image, labels, network):
    volumes = [NamedVolume("left", Volume(image)), NamedVolume("right", Volume(image[:, ::-1]))]
    boxes = {"left": PROMPTS, "right": PROMPTS[:1]}
    left, right = finished(apply_to_volumes(network, volumes, boxes))
    assert dice(left.labels_zyx == 7, labels == 7) > 0.9
    assert set(np.unique(right.labels_zyx)) <= {0, 3}
    assert left.labels_path is None


def test_one_that_fails_holds_up_no_other(tmp_path, write_pair, network):
    good = write_pair(tmp_path, "good")[0]
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no volume")
    boxes = {"good": PROMPTS, "broken": PROMPTS, "unprompted": ()}
    other = write_pair(tmp_path, "unprompted")[0]
    events = finished(apply_to_volumes(network, [broken, other, good], boxes, tmp_path / "out"))
    assert [bool(e.error) for e in events] == [True, True, False]
    assert "There is no box for unprompted.nii.gz" in events[1].error
    text = (tmp_path / "out" / SUMMARY_FILE).read_text()
    assert "broken.nii.gz" in text
    again = finished(apply_to_volumes(network, [good], boxes, tmp_path / "out"))
    assert "exists already" in again[0].error
    replaced = apply_to_volumes(network, [good], boxes, tmp_path / "out", overwrite=True)
    assert finished(replaced)[0].error == ""


def test_cancelling_keeps_what_is_done(image, network):
    cancel = threading.Event()
    volumes = [NamedVolume(name, Volume(image)) for name in "ab"]
    seen = []
    for event in apply_to_volumes(network, volumes, {"*": PROMPTS}, cancel=cancel):
        seen.append(event)
        if isinstance(event, SlicesApplied) and event.slices == 4:
            cancel.set()
    (one,) = finished(seen)
    assert one.was_cancelled
    assert one.labels_zyx.any()


def test_by_name_with_an_adapter(tmp_path, write_pair, tiny_weights):
    from napari_slidesam.model.adapters import LoraSettings, add_lora, save_adapter
    from napari_slidesam.model.registry import load_model

    model = load_model(str(tiny_weights), "cpu")
    add_lora(model, LoraSettings(rank=2))
    save_adapter(model, tmp_path / "adapter")
    path = write_pair(tmp_path, "a")[0]
    (one,) = finished(
        apply_to_volumes(
            str(tiny_weights), [path], {"a": PROMPTS}, adapter=tmp_path / "adapter", device="cpu"
        )
    )
    assert one.error == ""


def test_what_cannot_be_applied(tmp_path, image, network):
    with pytest.raises(PromptError, match="at least one volume"):
        list(apply_to_volumes(network, [], {"*": PROMPTS}))
    twice = [tmp_path / "a.nii.gz", tmp_path / "b" / "a.tif"]
    with pytest.raises(PromptError, match="Two volumes are named a"):
        list(apply_to_volumes(network, twice, {"*": PROMPTS}))
    (tmp_path / "file").write_text("")
    named = [NamedVolume("a", Volume(image))]
    with pytest.raises(FileFormatError, match="cannot be made"):
        list(apply_to_volumes(network, named, {"*": PROMPTS}, tmp_path / "file"))


def test_boxes_from_csv(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(CSV)
    found = read_boxes(path)
    assert [p.object_id for p in found["a"]] == [3, 7]
    assert found["a"][0].boxes == PROMPTS[0].boxes
    assert boxes_of(found, "other.tif", "other") == found["*"]
    assert boxes_of(found, "a.tif", "a") == found["a"]


def test_boxes_from_json(tmp_path):
    path = write_prompts(tmp_path / "boxes.json", PROMPTS)
    assert [p.object_id for p in read_boxes(path)["*"]] == [3, 7]
    path.write_text(json.dumps({"a.tif": prompts_to_dict(PROMPTS[:1])}))
    found = read_boxes(path)
    assert [p.object_id for p in boxes_of(found, "a.tif", "a")] == [3]
    with pytest.raises(PromptError, match="no box for b"):
        boxes_of(found, "b.tif", "b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ('{"a": 1}', "volume 'a'"),
        ("{}", "holds no box"),
        ("slice,y0\n1,2\n", "object, x0, y1, x1"),
        ("object,slice,y0,x0,y1,x1\n1,2,5,5,4,4\n", "line 2"),
        ("object,slice,y0,x0,y1,x1\n1,2,a,5,4,4\n", "line 2"),
        ("object,slice,y0,x0,y1,x1\n1,2,5\n", "line 2"),
        ("object,axis,slice,y0,x0,y1,x1\n1,z,2,5,5,9,9\n1,y,3,5,5,9,9\n", "two axes"),
        ("object,axis,slice,y0,x0,y1,x1\n1,q,2,5,5,9,9\n", "line 2"),
    ],
)
def test_boxes_that_are_none(tmp_path, text, said):
    path = tmp_path / "boxes"
    path.write_text(text)
    with pytest.raises(PromptError, match=said):
        read_boxes(path)


def test_a_file_of_boxes_that_is_not_there(tmp_path):
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_boxes(tmp_path / "none.csv")
