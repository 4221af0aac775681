"""NIfTI: labels open exactly on their image, whatever its orientation."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io import read_labels, read_volume, write_labels
from napari_slidesam.volume import SliceCache

PLAIN = np.diag([0.5, 0.75, 3.0, 1.0])
FLIPPED = np.array([[-0.5, 0, 0, 90], [0, -0.75, 0, 126], [0, 0, 3, -72], [0, 0, 0, 1.0]])
PERMUTED = np.array([[0, 0, 3, -10], [-0.5, 0, 0, 20], [0, 0.75, 0, 30], [0, 0, 0, 1.0]])


def _oblique() -> np.ndarray:
    a, b = 0.3, -0.2
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([0.5, 0.75, 3.0])
    affine[:3, 3] = 11, -22, 33
    return affine


AFFINES = {"plain": PLAIN, "flipped": FLIPPED, "permuted": PERMUTED, "oblique": _oblique()}


def save(path, data_zyx, affine=PLAIN, *, cls=nib.Nifti1Image, sform=1, qform=1, unit="mm"):
    image = cls(data_zyx.T, affine, dtype=data_zyx.dtype)
    image.set_sform(affine, code=sform)
    image.set_qform(affine, code=qform)
    image.header.set_xyzt_units(unit)
    image.to_filename(path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", AFFINES)
def test_labels_lie_exactly_on_the_image(tmp_path, image_zyx, labels_zyx, name, suffix):
    affine = AFFINES[name]
    image_path = save(tmp_path / f"image{suffix}", image_zyx, affine, sform=3, qform=1)
    opened = read_volume(image_path)
    assert opened.volume.shape_zyx == image_zyx.shape
    assert opened.volume.spacing_zyx == pytest.approx((3.0, 0.75, 0.5))
    assert opened.volume.unit == "mm"
    np.testing.assert_array_equal(opened.volume.along(1).read(2), image_zyx[:, 2])

    out = write_labels(tmp_path / "labels.nii.gz", labels_zyx, opened)
    image, written = nib.load(image_path), nib.load(out)
    assert written.shape == image.shape
    np.testing.assert_array_equal(written.affine, image.affine)
    for form in ("get_sform", "get_qform"):
        theirs, code = getattr(image, form)(coded=True)
        ours, our_code = getattr(written, form)(coded=True)
        assert our_code == code
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert written.header.get_xyzt_units() == image.header.get_xyzt_units()
    assert written.get_data_dtype() == np.uint8
    # voxel by voxel, in the world: where our labels say 7 is where we drew it
    drawn_xyz = np.argwhere(labels_zyx == 7)[:, ::-1]
    found_xyz = np.argwhere(np.asarray(written.dataobj) == 7)
    world = nib.affines.apply_affine(image.affine, drawn_xyz)
    found = nib.affines.apply_affine(written.affine, found_xyz)
    np.testing.assert_allclose(sorted(map(tuple, found)), sorted(map(tuple, world)), atol=1e-5)
    np.testing.assert_array_equal(read_labels(out), labels_zyx)


@pytest.mark.parametrize(("sform", "qform"), [(0, 0), (0, 1), (2, 0), (4, 4)])
def test_codes_are_kept(tmp_path, image_zyx, labels_zyx, sform, qform):
    path = save(tmp_path / "image.nii", image_zyx, FLIPPED, sform=sform, qform=qform)
    out = write_labels(tmp_path / "labels.nii", labels_zyx, read_volume(path))
    image, written = nib.load(path), nib.load(out)
    np.testing.assert_array_equal(written.affine, image.affine)
    assert int(written.header["sform_code"]) == sform
    assert int(written.header["qform_code"]) == qform


@pytest.mark.parametrize("dtype", [">i2", ">f4", "<f8", "u1", "i1", ">u2", "<i4", "<i8"])
def test_types_and_byte_orders(tmp_path, labels_zyx, dtype):
    values = np.arange(labels_zyx.size).reshape(labels_zyx.shape).astype(dtype)
    path = tmp_path / "image.nii"
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(values.dtype)
    image = nib.Nifti1Image(values.T, PLAIN, header, dtype=values.dtype)
    image.to_filename(path)
    opened = read_volume(path)
    np.testing.assert_array_equal(opened.volume.along(0).read(3), values[3].astype(np.float32))
    out = write_labels(tmp_path / "labels.nii", labels_zyx, opened)
    np.testing.assert_array_equal(read_labels(out), labels_zyx)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_stored_values_are_scaled_slice_by_slice(tmp_path, image_zyx, suffix):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)  # nibabel finds slope and intercept
    path = tmp_path / f"image{suffix}"
    nib.Nifti1Image((image_zyx * 0.37 - 1000).T, PLAIN, header).to_filename(path)
    scaled = nib.load(path).get_fdata().T
    volume = read_volume(path).volume
    for axis in range(3):
        expected = np.take(scaled, 1, axis)
        np.testing.assert_allclose(volume.along(axis).read(1), expected, rtol=1e-6)


def test_uncompressed_files_are_memory_mapped(tmp_path, image_zyx):
    data = read_volume(save(tmp_path / "image.nii", image_zyx)).volume.data
    assert isinstance(data, np.memmap)


def test_nifti_2_stays_nifti_2(tmp_path, image_zyx, labels_zyx):
    path = save(tmp_path / "image.nii", image_zyx, PERMUTED, cls=nib.Nifti2Image)
    out = write_labels(tmp_path / "labels.nii.gz", labels_zyx, read_volume(path))
    assert type(nib.load(out)) is nib.Nifti2Image
    np.testing.assert_array_equal(nib.load(out).affine, nib.load(path).affine)
    np.testing.assert_array_equal(read_labels(out), labels_zyx)


def test_header_and_data_in_two_files(tmp_path, image_zyx, labels_zyx):
    nib.Nifti1Pair(image_zyx.T, FLIPPED).to_filename(tmp_path / "image.img")
    opened = read_volume(tmp_path / "image.hdr")
    np.testing.assert_array_equal(opened.volume.along(0).read(0), image_zyx[0])
    out = write_labels(tmp_path / "labels.nii", labels_zyx, opened)
    np.testing.assert_array_equal(nib.load(out).affine, FLIPPED)


@pytest.mark.parametrize(("stored", "unit"), [("micron", "um"), ("meter", "m"), ("unknown", "mm")])
def test_units(tmp_path, image_zyx, stored, unit):
    assert read_volume(save(tmp_path / "i.nii", image_zyx, unit=stored)).volume.unit == unit


@pytest.mark.parametrize("shape_xyz", [(7, 6), (7, 6, 1), (7, 6, 5, 1), (7, 6, 5, 1, 1)])
def test_missing_and_single_axes(tmp_path, shape_xyz):
    values = np.arange(np.prod(shape_xyz), dtype=np.int16).reshape(shape_xyz)
    nib.Nifti1Image(values, PLAIN).to_filename(tmp_path / "image.nii")
    opened = read_volume(tmp_path / "image.nii")
    depth = shape_xyz[2] if len(shape_xyz) > 2 else 1
    assert opened.volume.shape_zyx == (depth, 6, 7)
    np.testing.assert_array_equal(
        opened.volume.along(0).read(0), values.reshape(7, 6, depth)[..., 0].T
    )
    labels = np.ones((depth, 6, 7), np.uint8)
    out = write_labels(tmp_path / "labels.nii", labels, opened)
    assert nib.load(out).shape == shape_xyz[:3]
    assert read_labels(out).shape == (depth, 6, 7)


def test_time_points_are_chosen(tmp_path, image_zyx, labels_zyx):
    series = np.stack([image_zyx.T, image_zyx.T + 1], axis=-1)
    path = tmp_path / "series.nii.gz"
    nib.Nifti1Image(series, FLIPPED).to_filename(path)
    with pytest.raises(VolumeError, match=r"series\.nii\.gz has 2 time points.*time=0 to 1"):
        read_volume(path)
    with pytest.raises(VolumeError, match="time=2 does not exist"):
        read_volume(path, time=2)
    opened = read_volume(path, time=1)
    np.testing.assert_array_equal(opened.volume.along(0).read(2), image_zyx[2] + 1)
    out = write_labels(tmp_path / "labels.nii.gz", labels_zyx, opened)
    assert nib.load(out).shape == series.shape[:3]
    np.testing.assert_array_equal(nib.load(out).affine, nib.load(path).affine)


def test_vectors_are_channels(tmp_path, image_zyx):
    vectors = np.stack([image_zyx.T, image_zyx.T * 2], axis=-1)[:, :, :, None]
    nib.Nifti1Image(vectors, PLAIN).to_filename(tmp_path / "v.nii")
    volume = read_volume(tmp_path / "v.nii", channel=1).volume
    np.testing.assert_array_equal(volume.along(0).read(0), image_zyx[0] * 2)
    with pytest.raises(VolumeError, match="channels 0 to 1"):
        read_volume(tmp_path / "v.nii", channel=2)
    with pytest.raises(FileFormatError, match="2 channels"):
        read_labels(tmp_path / "v.nii")


def test_two_long_extra_axes_are_refused(tmp_path):
    nib.Nifti1Image(np.zeros((3, 3, 3, 1, 2, 2), "u1"), PLAIN).to_filename(tmp_path / "x.nii")
    with pytest.raises(VolumeError, match="at most one axis"):
        read_volume(tmp_path / "x.nii")


def test_colours(tmp_path):
    rgb = np.random.default_rng(1).integers(0, 255, (4, 3, 2, 3)).astype(np.uint8)
    records = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nib.Nifti1Image(records, PLAIN).to_filename(tmp_path / "rgb.nii")
    volume = read_volume(tmp_path / "rgb.nii", channel=2).volume
    assert volume.shape_zyx == (2, 3, 4)
    np.testing.assert_array_equal(volume.along(0).read(1), rgb[:, :, 1, 2].T)
    assert read_volume(tmp_path / "rgb.nii").volume.channels.weights is not None


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(255, np.uint8), (256, np.uint16), (65536, np.uint32), (2**32, np.uint64), (0, np.uint8)],
)
def test_the_smallest_type_that_holds_the_ids(tmp_path, labels_zyx, labels, dtype):
    labels_zyx[0, 0, 0] = labels
    labels_zyx[labels_zyx != labels] = 0
    out = write_labels(tmp_path / "labels.nii", labels_zyx)
    assert nib.load(out).get_data_dtype() == dtype
    found = read_labels(out)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, labels_zyx)


def test_bad_voxel_sizes_fall_back_to_one(tmp_path, image_zyx, caplog):
    path = save(tmp_path / "image.nii", image_zyx, sform=0, qform=0)
    raw = bytearray(path.read_bytes())
    raw[80:92] = np.array([np.nan, 0, np.inf], "<f4").tobytes()  # pixdim 1 to 3
    path.write_bytes(raw)
    assert read_volume(path).volume.spacing_zyx == (1, 1, 1)
    assert "no usable voxel sizes" in caplog.text


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files_are_refused(tmp_path, image_zyx, suffix, share):
    path = save(tmp_path / f"image{suffix}", image_zyx)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileFormatError, match=r"image\.nii"):
        read_volume(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 400, gzip.compress(b"hello", mtime=0)])
def test_files_that_are_no_nifti_are_refused(tmp_path, content):
    for suffix in (".nii", ".nii.gz", ".hdr"):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="named like nifti"):
            read_volume(path)


def test_labels_need_not_be_stored_as_integers(tmp_path, labels_zyx):
    path = save(tmp_path / "float.nii", labels_zyx.astype(np.float32))
    np.testing.assert_array_equal(read_labels(path), labels_zyx)
    assert read_labels(path).dtype == np.uint8


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf, -1.0])
def test_values_that_are_no_labels_are_refused(tmp_path, labels_zyx, wrong):
    values = labels_zyx.astype(np.float32)
    values[0, 0, 0] = wrong
    with pytest.raises(FileFormatError, match=r"fractions|negative"):
        read_labels(save(tmp_path / "x.nii", values))


def test_windows_of_a_file(tmp_path, image_zyx):
    cache = SliceCache(read_volume(save(tmp_path / "i.nii.gz", image_zyx)).volume.along("x"))
    np.testing.assert_array_equal(cache.window(3), image_zyx[:, :, 2:5].transpose(2, 0, 1))
