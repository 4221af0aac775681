from __future__ import annotations

import errno
import gc
import gzip
import os
import tempfile
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import tifffile
import zarr

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning import unpacking
from napari_slidesam.tuning.pair_files import labelled_files, pairs_from, parse_slices, read_pair
from napari_slidesam.tuning.window_index import WindowIndex

SHAPE = (10, 12, 14)
AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0, 2, -3], [0, 1, 0, 4], [0, 0, 0, 1.0]])
"""Turned and mirrored: voxels of 0.5, 1 and 2."""


@pytest.fixture
def labels() -> np.ndarray:
    out = np.zeros(SHAPE, np.uint8)
    out[2:8, 3:9, 4:10] = 3
    return out


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(-500, 900, SHAPE).astype(np.int16)


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """A temporary folder of its own, and nothing that is too small to go there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(unpacking, "SMALL_BYTES", 0)
    return folder


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values.T, affine), path)
    return path


def write(path: Path, values: np.ndarray) -> Path:
    """Write a volume in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if ".nii" in name:
        return write_nifti(path, values)
    if name.endswith(".npy"):
        np.save(path, values)
    elif name.endswith(".npz"):
        np.savez_compressed(path, values)
    elif name.endswith("packed.tif"):
        tifffile.imwrite(path, values, compression="zlib", metadata={"axes": "ZYX"})
    elif name.endswith(".tif"):
        tifffile.imwrite(path, values, metadata={"axes": "ZYX"})
    elif name.endswith(".nrrd"):
        encoding = "gzip" if "packed" in name else "raw"
        nrrd.write(str(path), values, {"encoding": encoding}, index_order="C")
    else:
        zarr.save_array(str(path), values)
    return path


def is_mapped(array) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


@pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")
@pytest.mark.parametrize(
    "suffix",
    [".nii", ".nii.gz", ".npy", ".npz", ".tif", "_packed.tif", ".nrrd", "_packed.nrrd", ".zarr"],
)
def test_every_format_gives_the_same_windows(tmp_path, scratch, image, labels, suffix):
    files = write(tmp_path / f"image{suffix}", image), write(tmp_path / f"labels{suffix}", labels)
    pair = read_pair(*files, "a", unlabelled=[3])
    assert pair.unlabelled == {3}
    assert pair.object_labels == (3,)
    np.testing.assert_array_equal(np.asarray(pair.image[:]), image)
    np.testing.assert_array_equal(np.asarray(pair.labels[:]), labels)
    for array in (pair.image, pair.labels):
        assert is_mapped(array) or suffix == ".zarr"
    if os.name == "posix":
        assert list(scratch.iterdir()) == []
    index = WindowIndex([pair])
    np.testing.assert_array_equal(index.read(0).masks[1], labels[2] == 3)


def test_small_volumes_stay_in_memory(tmp_path, image, labels):
    files = write(tmp_path / "i.nii.gz", image), write(tmp_path / "l_packed.tif", labels)
    pair = read_pair(*files, "a")
    assert isinstance(pair.image, np.ndarray)
    assert not is_mapped(pair.image)


def test_scaled_values_are_scaled_when_read(tmp_path, scratch, image, labels):
    nifti = nib.Nifti1Image(image.T, AFFINE)
    nifti.header.set_slope_inter(0.5, -10)
    path = tmp_path / "image.nii"
    nib.save(nifti, path)
    packed = tmp_path / "image.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    pair = read_pair(packed, write(tmp_path / "labels.npy", labels), "a")
    expected = nib.load(path).get_fdata().T
    np.testing.assert_allclose(np.asarray(pair.image[2:4]), expected[2:4])
    assert pair.spacing_zyx == (2.0, 1.0, 0.5)


def test_a_spacing_may_be_given(tmp_path, image, labels):
    files = write(tmp_path / "i.nii.gz", image), write(tmp_path / "l.nii.gz", labels)
    assert read_pair(*files, "a", spacing_zyx=(3, 2, 1)).spacing_zyx == (3.0, 2.0, 1.0)
    assert read_pair(*files, "a", complete=True).labelled.all()


def test_2d_files_are_one_slice(tmp_path, image, labels):
    files = write(tmp_path / "i.tif", image[5]), write(tmp_path / "l.npy", labels[5])
    tifffile.imwrite(files[0], image[5])
    pair = read_pair(*files, "a")
    assert pair.shape_zyx == (1, 12, 14)
    assert WindowIndex([pair]).report.windows == 1


def test_a_truncated_file_is_named(tmp_path, scratch, image, labels):
    packed = write(tmp_path / "image.nii.gz", image)
    packed.write_bytes(packed.read_bytes()[:2000])
    with pytest.raises(TuningError, match=rf"pair 'a' cannot be read\. {packed}"):
        read_pair(packed, write(tmp_path / "labels.npy", labels), "a")
    packed.write_bytes(gzip.compress(gzip.compress(b"") + b"no image"))
    with pytest.raises(TuningError, match=str(packed)):
        read_pair(packed, tmp_path / "labels.npy", "a")
    content = gzip.compress(write(tmp_path / "image.nii", image).read_bytes()[:-900])
    packed.write_bytes(content)
    with pytest.raises(TuningError, match=str(packed)):
        read_pair(packed, tmp_path / "labels.npy", "a")
    gc.collect()


@pytest.mark.parametrize("name", ["i.nii.gz", "i.npz"])
def test_a_full_temporary_folder(tmp_path, scratch, image, labels, monkeypatch, name):
    files = write(tmp_path / name, image), write(tmp_path / "l.npy", labels)
    opened = Path.open

    def full(path, *args, **kwargs):
        if scratch in path.parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(TuningError, match=rf"{name} .*{scratch}.* No space left .* TMPDIR"):
        read_pair(*files, "a")
    assert list(scratch.iterdir()) == []


def test_a_temporary_folder_that_is_not_there(tmp_path, image, labels, scratch):
    files = write(tmp_path / "i.nii.gz", image), write(tmp_path / "l.npz", labels)
    scratch.rmdir()
    with pytest.raises(TuningError, match="TMPDIR"):
        read_pair(*files, "a")


def test_affines_that_differ(tmp_path, image, labels):
    image_path = write(tmp_path / "i.nii.gz", image)
    rounded = AFFINE * (1 + 1e-4)
    read_pair(image_path, write_nifti(tmp_path / "rounded.nii.gz", labels, rounded), "a")
    moved, mirrored = AFFINE.copy(), AFFINE @ np.diag([-1.0, 1, 1, 1])
    moved[0, 3] += 0.5
    for affine in (moved, mirrored):
        other = write_nifti(tmp_path / "l.nii.gz", labels, affine)
        with pytest.raises(TuningError, match="same affine; those of 'a'"):
            read_pair(image_path, other, "a")


def test_shapes_that_differ(tmp_path, image, labels):
    files = write(tmp_path / "i.nii.gz", image), write(tmp_path / "l.nii.gz", labels[1:])
    with pytest.raises(TuningError, match=r"same shape; 'a' has \(10, 12, 14\) and \(9, 12, 14\)"):
        read_pair(*files, "a")


def test_labels_with_colours(tmp_path, image, labels):
    colours = tmp_path / "l.tif"
    tifffile.imwrite(colours, np.stack([labels] * 3, axis=-1), photometric="rgb")
    with pytest.raises(TuningError, match="not their colours"):
        read_pair(write(tmp_path / "i.npy", image), colours, "a")


def test_nnunet_layout(tmp_path, image, labels):
    for name in ("b_2", "a_1"):
        write(tmp_path / "imagesTr" / f"{name}_0000.nii.gz", image)
        write(tmp_path / "imagesTr" / f"{name}_0001.nii.gz", image * 0)
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", labels)
    (tmp_path / "dataset.json").write_text("{}")
    pairs = pairs_from(tmp_path)
    assert [p.name for p in pairs] == ["a_1", "b_2"]
    np.testing.assert_array_equal(np.asarray(pairs[0].image[:]), image)
    assert pairs[0].spacing_zyx == (2.0, 1.0, 0.5)


def test_more_pairs_than_files_may_be_open_at_first(tmp_path, labels):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = write(tmp_path / "labels" / "0.npy", labels)
    for i in range(200):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{i}.npy").write_bytes(first.read_bytes())
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        pairs = pairs_from(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(pairs) == 200


def test_one_folder_a_volume(tmp_path, image, labels):
    for name in ("b", "a"):
        write(tmp_path / name / "image.nii.gz", image)
        write(tmp_path / name / "labels.npy", labels)
    (tmp_path / "notes").mkdir()
    assert [p.name for p in pairs_from(tmp_path)] == ["a", "b"]
    assert [p.name for p in pairs_from(tmp_path / "b")] == ["b"]


@pytest.mark.parametrize(
    ("image_name", "labels_name", "name"),
    [
        ("images/x.nii.gz", "labels/x.npy", "x"),
        ("Image/x_0000.tif", "Mask/x_seg.tif", "x"),
        ("imgs/x_0001.npy", "masks/x_0001.npy", "x_0001"),
        ("raw/x_image.zarr", "seg/x_labels.zarr", "x"),
    ],
)
def test_folders_side_by_side(tmp_path, image, labels, image_name, labels_name, name):
    write(tmp_path / image_name, image)
    write((tmp_path / image_name).parent / "y.npy", image)  # not labelled yet
    write(tmp_path / labels_name, labels)
    (tmp_path / labels_name).with_name("notes.txt").write_text("not a volume")
    (pair,) = pairs_from(tmp_path)
    assert pair.name == name
    np.testing.assert_array_equal(np.asarray(pair.image[:]), image)


def test_numbered_files_are_matched_by_their_numbers(tmp_path, image, labels):
    for i in range(3):
        write(tmp_path / "images" / f"{i:04}.npy", image + i)
        write(tmp_path / "labels" / f"{i:04}.npy", labels)
    assert [int(p.image[0, 0, 0]) - int(image[0, 0, 0]) for p in pairs_from(tmp_path)] == [0, 1, 2]


def test_a_list_of_pairs(tmp_path, image, labels):
    write(tmp_path / "data" / "i.npy", image)
    absolute = write(tmp_path / "elsewhere" / "l.npy", labels)
    table = tmp_path / "pairs.csv"
    rows = f"Image, labels, name, unlabelled\ndata/i.npy,{absolute},first,2 4-5\n"
    table.write_text(rows + f"data/i.npy,{absolute}\n", encoding="utf-8-sig")
    first, second = pairs_from(table)
    assert (first.name, first.unlabelled) == ("first", {2, 4, 5})
    assert (second.name, second.unlabelled) == ("i", frozenset())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na,b\n", "no column labels"),
        ("image,labels\n", "no row"),
        ("", "no column image and labels"),
        ("image,labels\na.npy,\n", "line 2: an image or its labels"),
        ("image,labels\na.npy,b.npy\n", "line 2: .*does not exist"),
        ("image,labels,unlabelled\na.npy,b.npy,first\n", "line 2: Slices are written"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, text, message):
    table = tmp_path / "pairs.csv"
    table.write_text(text)
    with pytest.raises(TuningError, match=message):
        pairs_from(table)


def test_a_list_that_is_no_text(tmp_path):
    (tmp_path / "pairs.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(TuningError, match="readable CSV"):
        pairs_from(tmp_path / "pairs.csv")


def test_slices_in_words():
    assert parse_slices("") == ()
    assert parse_slices(" 3; 7,9-11 ") == (3, 7, 9, 10, 11)
    with pytest.raises(TuningError, match="numbers and ranges"):
        parse_slices("3-")


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], "holds no images with labels"),
        (["labelsTr/a.npy"], "has no image"),
        (["a/image.npy"], "has no labels"),
        (["a/labels.npy"], "has no image"),
        (["images/b.npy", "labels/a.npy"], r"a\.npy has no image"),
        (["images/b.npy", "labels/readme.txt.npy.bak"], "holds no images with labels"),
    ],
)
def test_folders_that_lack_something(tmp_path, labels, present, message):
    for name in present:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(TuningError, match=message):
        pairs_from(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(TuningError, match="does not exist"):
        pairs_from(tmp_path / "nowhere")


def test_files_are_found_without_being_read(tmp_path):
    for name in ("images/a.npy", "labels/a.npy"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    (files,) = labelled_files(tmp_path)
    assert (files.name, files.image) == ("a", tmp_path / "images" / "a.npy")
