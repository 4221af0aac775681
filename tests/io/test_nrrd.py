"""NRRD: space, directions and origin from image to labels."""

from __future__ import annotations

import sys
import warnings

import nibabel as nib
import nrrd
import numpy as np
import pytest

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io import read_labels, read_volume, write_labels

OBLIQUE = np.array([[0.4, 0.3, 0.0], [-0.3, 0.4, 0.0], [0.0, 0.0, 3.0]])


def save(path, data_zyx, **header):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # datetime.utcnow in pynrrd
        nrrd.write(str(path), data_zyx, header, index_order="C")
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", ">u4", "<f4", ">f8"])
def test_types_byte_orders_and_encodings(tmp_path, image_zyx, dtype, encoding):
    values = image_zyx.astype(dtype)
    volume = read_volume(save(tmp_path / "i.nrrd", values, encoding=encoding)).volume
    assert (volume.spacing_zyx, volume.unit) == ((1, 1, 1), "px")
    assert isinstance(volume.data, np.memmap) == (encoding == "raw")
    for axis in range(3):
        expected = np.take(values, 1, axis).astype(np.float32)
        np.testing.assert_array_equal(volume.along(axis).read(1), expected)


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "left-anterior-superior"])
def test_labels_lie_exactly_on_the_image(tmp_path, image_zyx, labels_zyx, space):
    path = save(
        tmp_path / "image.nrrd",
        image_zyx,
        **{"space": space, "space directions": OBLIQUE, "space origin": [5.0, -6.0, 7.0]},
    )
    opened = read_volume(path)
    assert opened.volume.spacing_zyx == pytest.approx((3.0, 0.5, 0.5))
    assert opened.volume.unit == "mm"
    out = write_labels(tmp_path / "labels.nrrd", labels_zyx, opened)
    header = nrrd.read_header(str(out))
    assert header["space"] == space
    np.testing.assert_array_equal(header["space directions"], OBLIQUE)
    np.testing.assert_array_equal(header["space origin"], [5, -6, 7])
    assert header["type"] == "uint8"
    np.testing.assert_array_equal(read_labels(out), labels_zyx)
    # the same place in NIfTI, whose world is right-anterior-superior
    nifti = nib.load(write_labels(tmp_path / "labels.nii.gz", labels_zyx, opened))
    to_ras = {"RAS": (1, 1, 1), "left-anterior-superior": (-1, 1, 1)}.get(space, (-1, -1, 1))
    voxel = np.array([2.0, 3.0, 1.0])
    world = (voxel @ OBLIQUE + [5, -6, 7]) * to_ras
    np.testing.assert_allclose(nib.affines.apply_affine(nifti.affine, voxel), world, atol=1e-5)


def test_nifti_orientation_goes_into_nrrd(tmp_path, image_zyx, labels_zyx):
    affine = np.array([[0, 0, 3, -10], [-0.5, 0, 0, 20], [0, 0.75, 0, 30], [0, 0, 0, 1.0]])
    nib.Nifti1Image(image_zyx.T, affine).to_filename(tmp_path / "image.nii")
    out = write_labels(tmp_path / "l.nrrd", labels_zyx, read_volume(tmp_path / "image.nii"))
    again = read_volume(out)
    np.testing.assert_allclose(again.grid.affine_ras, affine, atol=1e-6)
    assert again.volume.unit == "mm"


def test_spacings_and_units_without_a_space(tmp_path, image_zyx, labels_zyx):
    path = save(tmp_path / "i.nrrd", image_zyx, spacings=[0.2, 0.3, 2.0], units=["um", "um", "um"])
    opened = read_volume(path)
    assert (opened.volume.spacing_zyx, opened.volume.unit) == ((2.0, 0.3, 0.2), "um")
    again = read_volume(write_labels(tmp_path / "l.nrrd", labels_zyx, opened)).volume
    assert (again.spacing_zyx, again.unit) == ((2.0, 0.3, 0.2), "um")


def test_colours_and_time(tmp_path, image_zyx, labels_zyx):
    colour = np.stack([image_zyx, image_zyx + 1], axis=-1)
    directions = np.vstack([[np.nan] * 3, OBLIQUE])
    path = save(
        tmp_path / "c.nrrd",
        colour,
        **{"space": "RAS", "kinds": ["vector", *["domain"] * 3], "space directions": directions},
    )
    opened = read_volume(path, channel=1)
    np.testing.assert_array_equal(opened.volume.along(0).read(2), image_zyx[2] + 1)
    out = write_labels(tmp_path / "l.nrrd", labels_zyx, opened)
    np.testing.assert_array_equal(nrrd.read_header(str(out))["space directions"], OBLIQUE)

    series = np.stack([image_zyx, image_zyx + 2])
    path = save(tmp_path / "t.nrrd", series, kinds=[*["domain"] * 3, "time"])
    with pytest.raises(VolumeError, match="2 time points"):
        read_volume(path)
    volume = read_volume(path, time=1).volume
    np.testing.assert_array_equal(volume.along(0).read(0), image_zyx[0] + 2)
    unnamed = save(tmp_path / "u.nrrd", series)
    with pytest.raises(VolumeError, match=r"u\.nrrd.*time point"):
        read_volume(unnamed)
    volume = read_volume(unnamed, time=1).volume
    np.testing.assert_array_equal(volume.along(0).read(0), image_zyx[0] + 2)


def test_a_plane_stays_a_plane(tmp_path, image_zyx):
    path = save(tmp_path / "i.nrrd", image_zyx[0], spacings=[0.2, 0.3])
    opened = read_volume(path)
    assert opened.volume.spacing_zyx == (1.0, 0.3, 0.2)
    out = write_labels(tmp_path / "l.nrrd", np.ones((1, 6, 7), int), opened)
    assert list(nrrd.read_header(str(out))["sizes"]) == [7, 6]


def test_detached_data(tmp_path, image_zyx):
    path = save(tmp_path / "image.nhdr", image_zyx, encoding="raw")
    np.testing.assert_array_equal(read_volume(path).volume.along(0).read(0), image_zyx[0])
    with pytest.raises(FileFormatError, match="must end in"):
        write_labels(tmp_path / "labels.nhdr", image_zyx.clip(0))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_truncated_files_are_refused(tmp_path, image_zyx, encoding, share):
    path = save(tmp_path / "image.nrrd", image_zyx, encoding=encoding)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileFormatError, match=r"image\.nrrd"):
        read_volume(path)


def test_a_missing_library_is_named(tmp_path, image_zyx, monkeypatch):
    path = save(tmp_path / "image.nrrd", image_zyx)
    monkeypatch.delitem(sys.modules, "napari_slidesam.io.nrrd", raising=False)
    monkeypatch.setitem(sys.modules, "nrrd", None)
    with pytest.raises(FileFormatError, match="pip install"):
        read_volume(path)
