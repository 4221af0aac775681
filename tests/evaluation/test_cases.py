from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from napari_slidesam.errors import EvaluationError, FileFormatError
from napari_slidesam.evaluation.cases import Case, evenly_chosen, find_cases
from napari_slidesam.volume import Volume


def test_a_folder_a_volume(tmp_path, write_case, image, labels):
    write_case(tmp_path / "b", meta={"objects": [7], "slice_axis_xyz": 2, "modality": "MR"})
    write_case(tmp_path / "a", meta={"slice_axis_xyz": 0})
    (tmp_path / "notes.txt").write_text("not a volume")
    first, second = find_cases(tmp_path)
    assert (first.name, first.axis, first.object_ids) == ("a", 2, None)
    assert (second.name, second.axis, second.object_ids) == ("b", 0, (7,))
    case = second.load()
    assert case.modality == "MR"
    assert case.volume.spacing_zyx == (2.0, 1.0, 1.0)
    assert np.array_equal(case.image_zyx, image)
    assert np.array_equal(case.labels_zyx, labels)


def test_one_volume_alone(tmp_path, write_case):
    (found,) = find_cases(write_case(tmp_path / "only"))
    assert found.name == "only"


def test_the_slice_axis_is_converted_from_xyz(tmp_path, write_case):
    write_case(tmp_path / "v", meta={"objects": [3], "slice_axis_xyz": 1})
    case = find_cases(tmp_path)[0].load()
    assert case.axis == 1
    assert case.spacing_syx == (1.0, 2.0, 1.0)
    assert case.plane_shape_yx == (24, 56)
    (truth,) = case.objects()
    assert np.array_equal(truth.mask.to_array(case.labels_zyx.shape, 1), case.labels_zyx == 3)


def test_nnunet_layout(tmp_path, image, labels):
    for folder, suffix, data in (("imagesTr", "_0000", image), ("labelsTr", "", labels)):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(data.T, np.eye(4)), tmp_path / folder / f"liver_1{suffix}.nii.gz")
    (tmp_path / "dataset.json").write_text("{}")
    (found,) = find_cases(tmp_path)
    case = found.load()
    assert (case.name, case.axis) == ("liver_1", 0)
    assert case.object_ids == (3, 7)


def test_nnunet_without_image(tmp_path, labels):
    (tmp_path / "labelsTr").mkdir()
    nib.save(nib.Nifti1Image(labels.T, np.eye(4)), tmp_path / "labelsTr" / "liver_1.nii.gz")
    with pytest.raises(EvaluationError, match="liver_1_0000"):
        find_cases(tmp_path)


def test_objects_are_the_large_labels(labels):
    labels = labels.astype(np.int32)
    labels[0, :40, :40] = 11  # large, on one slice
    labels[:, 0, 55] = 12  # long, 1 pixel of 2,688: under 0.14 %
    labels[:4, 40:44, :4] = labels[5:9, 40:44, :4] = 13  # 8 slices, but not consecutive
    labels[2:10, 44:48, :4] = 14
    labels[-1, -1, 0] = -5
    case = Case("phantom", Volume(np.zeros(labels.shape)), labels)
    assert case.object_ids == (3, 7, 14)


def test_labels_of_any_size_are_found():
    labels = np.zeros((10, 20, 20), np.int64)
    labels[:, 2:8, 2:8] = 3_000_000_000
    labels[:, 10:18, 10:18] = 5
    case = Case("phantom", Volume(np.zeros(labels.shape)), labels)
    assert case.object_ids == (5, 3_000_000_000)
    assert [o.mask.mask.sum() for o in case.objects()] == [640, 360]


def test_true_object_is_its_label(case, labels):
    for truth in case.objects():
        assert np.array_equal(truth.mask.to_array(labels.shape), labels == truth.object_id)


def test_objects_are_chosen_evenly(case):
    assert evenly_chosen(tuple(range(10)), 2) == (2, 7)
    assert evenly_chosen((1, 2), 5) == (1, 2)
    assert [o.object_id for o in case.objects(limit=1)] == [7]


def test_a_named_object_must_be_there(case):
    with pytest.raises(EvaluationError, match="object 4"):
        list(replace(case, object_ids=(4,)).objects())


def test_bad_cases(case, labels):
    with pytest.raises(EvaluationError, match="same grid"):
        replace(case, labels_zyx=labels[1:])
    with pytest.raises(EvaluationError, match="integers"):
        replace(case, labels_zyx=labels.astype(float))
    with pytest.raises(EvaluationError, match="axis"):
        replace(case, axis=3)


def test_no_folder(tmp_path):
    with pytest.raises(EvaluationError, match="not a folder"):
        find_cases(tmp_path / "missing")


def test_no_volume(tmp_path):
    with pytest.raises(EvaluationError, match="no labelled volume"):
        find_cases(tmp_path)


def test_a_volume_without_labels(tmp_path, write_case):
    (write_case(tmp_path / "v") / "labels.nii.gz").unlink()
    with pytest.raises(EvaluationError, match=r"labels\.nii\.gz"):
        find_cases(tmp_path)


def test_label_maps_without_objects_are_left_out(tmp_path, write_case):
    write_case(tmp_path / "a")
    (write_case(tmp_path / "b", meta={"objects": []}) / "image.nii.gz").unlink()
    assert [c.name for c in find_cases(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"),
        ("[1]", "JSON object"),
        (json.dumps({"objects": "1"}), "positive label"),
        (json.dumps({"objects": [0]}), "positive label"),
        (json.dumps({"slice_axis_xyz": "z"}), "slice_axis_xyz"),
    ],
)
def test_malformed_meta(tmp_path, write_case, text, message):
    (write_case(tmp_path / "v") / "meta.json").write_text(text)
    with pytest.raises(EvaluationError, match=message):
        find_cases(tmp_path)


def test_a_truncated_image(tmp_path, write_case):
    path = write_case(tmp_path / "v") / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    (files,) = find_cases(tmp_path)
    with pytest.raises(FileFormatError):
        files.load()
