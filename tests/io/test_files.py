"""Which format a file is, what may be written where, and that nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io import (
    read_labels,
    read_volume,
    replacing_file,
    replacing_folder,
    write_labels,
)

SUFFIXES = [".nii.gz", ".nii", ".tif", ".tiff", ".ome.tif", ".nrrd", ".npy", ".npz", ".zarr"]


@pytest.fixture
def image_files(tmp_path, image_zyx):
    """The same volume in each format, 2 um deep and 0.5 um wide where the format can say so."""
    folder = tmp_path / "images"
    folder.mkdir()
    image = nib.Nifti1Image(image_zyx.T, np.diag([0.5, 0.5, 2.0, 1.0]))
    image.header.set_xyzt_units("micron")
    image.to_filename(folder / "image.nii.gz")
    opened = read_volume(folder / "image.nii.gz")
    np.save(folder / "image.npy", image_zyx)
    for suffix in (".ome.tif", ".nrrd", ".zarr"):
        write_labels(folder / f"image{suffix}", image_zyx.clip(0), opened)
    tifffile.imwrite(
        folder / "image.tif",
        image_zyx.astype("u2"),
        imagej=True,
        resolution=(2.0, 2.0),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
    )
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("source", ["nii.gz", "npy", "ome.tif", "tif", "nrrd", "zarr"])
def test_labels_of_any_image_in_any_format(tmp_path, image_files, labels_zyx, source, suffix):
    opened = read_volume(image_files / f"image.{source}")
    out = write_labels(tmp_path / f"labels{suffix}", labels_zyx, opened)
    found = read_labels(out)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels_zyx)
    if source != "npy" and not suffix.startswith(".np"):
        volume = read_volume(out).volume
        assert volume.spacing_zyx == pytest.approx((2.0, 0.5, 0.5), rel=1e-6)
        assert volume.unit == "um"


@pytest.mark.parametrize(
    ("unit", "stored", "factor"),
    [("nm", "micron", 1e-3), ("inch", "mm", 25.4), ("cm", "mm", 10), ("furlong", "unknown", 1)],
)
def test_units_that_nifti_lacks_are_converted(tmp_path, labels_zyx, unit, stored, factor):
    tifffile.imwrite(
        tmp_path / "i.tif",
        np.zeros(labels_zyx.shape, "u1"),
        imagej=True,
        resolution=(0.25, 0.5),
        metadata={"axes": "ZYX", "spacing": 8.0, "unit": unit},
    )
    out = write_labels(tmp_path / "l.nii", labels_zyx, read_volume(tmp_path / "i.tif"))
    image = nib.load(out)
    assert image.header.get_xyzt_units()[0] == stored
    np.testing.assert_allclose(np.diag(image.affine)[:3], np.array([4, 2, 8]) * factor)
    np.testing.assert_allclose(image.header.get_zooms(), np.array([4, 2, 8]) * factor, rtol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_without_an_image(tmp_path, labels_zyx, suffix):
    out = write_labels(tmp_path / f"labels{suffix}", labels_zyx > 0)
    np.testing.assert_array_equal(read_labels(out), labels_zyx > 0)
    assert read_volume(out).volume.spacing_zyx == (1, 1, 1)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_plane(tmp_path, suffix):
    np.save(tmp_path / "plane.npy", np.zeros((6, 7)))
    labels = np.zeros((1, 6, 7), int)
    labels[0, 2, 3] = 4
    out = write_labels(tmp_path / f"labels{suffix}", labels, read_volume(tmp_path / "plane.npy"))
    np.testing.assert_array_equal(read_labels(out), labels)


@pytest.mark.parametrize("suffix", [s.upper() for s in SUFFIXES])
def test_suffixes_in_capitals(tmp_path, labels_zyx, folder_content, suffix):
    out = write_labels(tmp_path / f"L{suffix}", labels_zyx)
    assert folder_content(tmp_path) == [f"L{suffix}"]
    np.testing.assert_array_equal(read_labels(out), labels_zyx)


@pytest.mark.parametrize("name", ["l", "l.png", "l.dcm", "l.nii.bz2", "l.hdr", "l.nhdr", "nii"])
def test_unknown_suffixes_are_not_written(tmp_path, labels_zyx, name):
    with pytest.raises(FileFormatError, match=r"must end in \.nii\.gz"):
        write_labels(tmp_path / name, labels_zyx)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.tif", "x.nrrd", "x.npy", "x.zarr", "x"])
@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n....", os.urandom(512)])
def test_content_that_is_no_image_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"truncated or damaged.*can be read") as caught:
        read_volume(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("start", [b"II*\0", b"NRRD0004\n", b"\x93NUMPY", b"PK\x03\x04"])
def test_only_the_first_bytes_of_an_image(tmp_path, start):
    names = {b"II*\0": "x.tif", b"NRRD0004\n": "x.nrrd", b"PK\x03\x04": "x.npz"}
    path = tmp_path / names.get(start, "x.npy")
    path.write_bytes(start)
    with pytest.raises(FileFormatError, match=r"x\.[a-z]+ cannot be read as"):
        read_volume(path)


def test_names_that_lie_are_refused(tmp_path, labels_zyx):
    wrong = write_labels(tmp_path / "l.tif", labels_zyx).rename(tmp_path / "l.nii")
    with pytest.raises(FileFormatError, match=r"holds tiff data.*\.tif"):
        read_volume(wrong)
    nameless = write_labels(tmp_path / "l.npy", labels_zyx).rename(tmp_path / "l")
    with pytest.raises(FileFormatError, match="holds npy data"):
        read_volume(nameless)


def test_missing_files(tmp_path):
    with pytest.raises(FileFormatError, match="does not exist"):
        read_volume(tmp_path / "missing.nii.gz")
    with pytest.raises(FileFormatError, match="no zarr group"):
        read_volume(tmp_path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".npy"])
def test_formats_without_levels(tmp_path, labels_zyx, suffix):
    path = write_labels(tmp_path / f"l{suffix}", labels_zyx)
    with pytest.raises(VolumeError, match="level 0 only"):
        read_volume(path, level=1)


@pytest.mark.parametrize("suffix", [".nii.gz", ".tif", ".nrrd", ".npy", ".zarr"])
def test_time_points_that_are_not_there(tmp_path, labels_zyx, suffix):
    path = write_labels(tmp_path / f"l{suffix}", labels_zyx)
    with pytest.raises(VolumeError, match="time=5 does not exist"):
        read_volume(path, time=5)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros((5, 6, 8), int), r"shape \(5, 6, 8\), but the image"),
        (np.zeros((6, 7), int), "but the image"),
        (np.zeros((5, 6, 7)), "integers or bool"),
        (np.full((5, 6, 7), -1), "0 or positive"),
        (np.zeros((5, 6, 7), object), "integers or bool"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, image_files, labels, says):
    opened = read_volume(image_files / "image.nii.gz")
    with pytest.raises(VolumeError, match=says):
        write_labels(tmp_path / "l.nii.gz", labels, opened)
    assert not (tmp_path / "l.nii.gz").exists()


def test_empty_labels_are_refused(tmp_path):
    for shape in ((0, 3, 3), (3, 3)):
        with pytest.raises(VolumeError, match="three axes"):
            write_labels(tmp_path / "l.npy", np.zeros(shape, int))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_output_is_kept_unless_asked(tmp_path, labels_zyx, folder_content, suffix):
    path = write_labels(tmp_path / f"l{suffix}", labels_zyx)
    with pytest.raises(FileFormatError, match="overwrite"):
        write_labels(path, labels_zyx * 2)
    np.testing.assert_array_equal(read_labels(path), labels_zyx)
    write_labels(path, labels_zyx * 2, overwrite=True)
    np.testing.assert_array_equal(read_labels(path), labels_zyx * 2)
    assert folder_content(tmp_path) == [f"l{suffix}"]


def test_the_image_is_never_replaced_by_its_labels(tmp_path, image_files, labels_zyx, image_zyx):
    for name in ("image.nii.gz", "image.zarr"):
        opened = read_volume(image_files / name)
        with pytest.raises(FileFormatError, match="is the image itself"):
            write_labels(image_files / name, labels_zyx, opened, overwrite=True)
        assert opened.volume.along(0).read(0).any()


def test_folders_that_are_no_zarr_are_never_replaced(tmp_path, labels_zyx):
    folder = tmp_path / "mine.zarr"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(FileFormatError, match="not replaced"):
        write_labels(folder, labels_zyx, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "years of work"
    named_like_a_file = tmp_path / "l.npy"
    named_like_a_file.mkdir()
    with pytest.raises(FileFormatError, match="is a folder"):
        write_labels(named_like_a_file, labels_zyx, overwrite=True)


def test_folders_that_cannot_be_written_to(tmp_path, labels_zyx):
    with pytest.raises(FileFormatError, match="does not exist"):
        write_labels(tmp_path / "missing" / "l.npy", labels_zyx)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFormatError, match="does not exist"):
        write_labels(tmp_path / "file" / "l.zarr", labels_zyx)


NO_SPACE = """
import resource, sys
import numpy as np
from napari_slidesam.errors import FileFormatError
from napari_slidesam.io import write_labels

labels = np.random.default_rng(0).integers(0, 60000, (8, 128, 128))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for name in sys.argv[1:]:
    try:
        write_labels(name, labels, overwrite=True)
    except FileFormatError as error:
        assert "cannot be written" in str(error), error
        assert error.__cause__ is not None
    else:
        raise SystemExit(f"{name} was written")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes to run into")
def test_no_space_left_keeps_the_old_files_and_leaves_nothing(tmp_path, labels_zyx, folder_content):
    paths = [write_labels(tmp_path / f"l{suffix}", labels_zyx) for suffix in SUFFIXES]
    before = folder_content(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NO_SPACE, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert folder_content(tmp_path) == before
    for path in paths:
        np.testing.assert_array_equal(read_labels(path), labels_zyx)


KILLED = """
import os, signal, sys
from napari_slidesam.io import replacing_file, replacing_folder

file, folder = sys.argv[1:]
with replacing_file(file, overwrite=True) as path:
    path.write_text("half of the new")
    with replacing_folder(folder, overwrite=True) as inner:
        inner.mkdir()
        (inner / "a").write_text("half of the new")
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_kill_leaves_the_last_complete_state(tmp_path):
    file, folder = tmp_path / "f.txt", tmp_path / "d"
    file.write_text("old")
    folder.mkdir()
    (folder / "a").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(file), str(folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert file.read_text() == "old"
    assert (folder / "a").read_text() == "old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, folder_content, error):
    (tmp_path / "f").write_text("old")
    (tmp_path / "d").mkdir()

    def write_file():
        with replacing_file(tmp_path / "f", overwrite=True) as path:
            path.write_text("new")
            raise error("stopped")

    def write_folder():
        with replacing_folder(tmp_path / "d", overwrite=True) as path:
            path.mkdir()
            raise error("stopped")

    expected = FileFormatError if error is OSError else error
    with pytest.raises(expected, match="stopped"):
        write_file()
    with pytest.raises(expected, match="stopped"):
        write_folder()
    assert folder_content(tmp_path) == ["d", "f"]
    assert (tmp_path / "f").read_text() == "old"


def test_a_folder_takes_the_place_of_another(tmp_path, folder_content):
    for content in ("first", "second"):
        with replacing_folder(tmp_path / "d", overwrite=True) as path:
            path.mkdir()
            (path / content).write_text("")
    assert folder_content(tmp_path / "d") == ["second"]
    assert folder_content(tmp_path) == ["d"]


def test_a_folder_that_was_never_made_leaves_the_old_one(tmp_path, folder_content):
    (tmp_path / "d").mkdir()
    with (
        pytest.raises(FileFormatError, match="cannot be written"),
        replacing_folder(tmp_path / "d", overwrite=True),
    ):
        pass
    assert folder_content(tmp_path) == ["d"]


def test_reading_loads_only_the_library_needed(tmp_path, labels_zyx):
    path = write_labels(tmp_path / "l.npy", labels_zyx)
    code = (
        "import sys; from napari_slidesam.io import read_volume; read_volume(sys.argv[1]); "
        "assert not {'torch', 'napari', 'nibabel', 'tifffile', 'zarr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_zarr_markers_are_those_of_both_formats(tmp_path):
    for zarr_format in (2, 3):
        path = tmp_path / f"{zarr_format}.zarr"
        zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
        with pytest.raises(FileFormatError, match="without an OME-Zarr image"):
            read_volume(path)
