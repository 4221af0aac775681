"""TIFF: axes, byte order, laziness; resolution, spacing and unit from image to labels."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import tifffile

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io import read_labels, read_volume, write_labels

IMAGEJ = {
    "imagej": True,
    "resolution": (1 / 0.2, 1 / 0.3),
    "metadata": {"axes": "ZYX", "spacing": 0.5, "unit": "um"},
}
OME_SIZES = {
    "PhysicalSizeX": 0.2,
    "PhysicalSizeY": 0.3,
    "PhysicalSizeZ": 500.0,
    "PhysicalSizeZUnit": "nm",
}


def tags(path):
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].tags
        return {n: page[n].value for n in ("XResolution", "YResolution", "ResolutionUnit")}


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "u4", "f4", "f8"])
def test_a_stack_of_any_type_and_byte_order(tmp_path, image_zyx, dtype, byteorder, compression):
    values = image_zyx.astype(dtype)
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path, values, byteorder=byteorder, compression=compression, photometric="minisblack"
    )
    opened = read_volume(path)
    assert opened.kind == "tiff"
    assert (opened.volume.spacing_zyx, opened.volume.unit) == ((1, 1, 1), "px")
    for axis in range(3):
        plane = opened.volume.along(axis).read(2)
        np.testing.assert_array_equal(plane, np.take(values, 2, axis).astype(np.float32))
    assert isinstance(opened.volume.data, np.memmap) == (compression is None)


def test_compressed_pages_are_decoded_one_by_one(tmp_path, image_zyx):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, image_zyx, compression="zlib", photometric="minisblack")
    data = read_volume(path).volume.data
    assert data.chunks == (1, *image_zyx.shape[1:])
    del data
    gc.collect()  # an unclosed file would warn, and warnings are errors here


def test_imagej_calibration_is_kept(tmp_path, image_zyx, labels_zyx):
    path = tmp_path / "image.tif"
    metadata = {**IMAGEJ["metadata"], "xorigin": 3.0, "zorigin": 1.0}
    tifffile.imwrite(path, image_zyx.astype("u2"), **{**IMAGEJ, "metadata": metadata})
    opened = read_volume(path)
    assert opened.volume.spacing_zyx == pytest.approx((0.5, 0.3, 0.2), rel=1e-6)
    assert opened.volume.unit == "um"
    out = write_labels(tmp_path / "labels.tif", labels_zyx, opened)
    assert tags(out) == tags(path)
    with tifffile.TiffFile(out) as tif:
        assert tif.is_imagej
        assert tif.series[0].axes == "ZYX"
        found = tif.imagej_metadata
    assert (found["spacing"], found["unit"], found["slices"]) == (0.5, "um", 5)
    assert (found["xorigin"], found["zorigin"]) == (3.0, 1.0)
    np.testing.assert_array_equal(read_labels(out), labels_zyx)
    assert read_volume(out).volume.spacing_zyx == opened.volume.spacing_zyx


def test_plain_resolution_tags_are_kept_but_are_no_spacing(tmp_path, image_zyx, labels_zyx):
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path,
        image_zyx,
        photometric="minisblack",
        resolution=(72.0, 96.5),
        resolutionunit="INCH",
    )
    opened = read_volume(path)
    assert (opened.volume.spacing_zyx, opened.volume.unit) == ((1, 1, 1), "px")
    out = write_labels(tmp_path / "labels.tif", labels_zyx, opened)
    assert tags(out) == tags(path)
    assert read_volume(out).volume.spacing_zyx == (1, 1, 1)


def test_ome_sizes_and_units_are_kept(tmp_path, image_zyx, labels_zyx):
    path = tmp_path / "image.ome.tif"
    tifffile.imwrite(path, image_zyx, metadata={"axes": "ZYX", **OME_SIZES})
    opened = read_volume(path)
    assert opened.volume.spacing_zyx == pytest.approx((0.5, 0.3, 0.2))
    assert opened.volume.unit == "um"
    out = write_labels(tmp_path / "labels.tif", labels_zyx, opened)
    with tifffile.TiffFile(out) as tif:
        assert tif.is_ome
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.2, 0.3)
    assert pixels["PhysicalSizeZ"] == 0.5
    assert {pixels[f"PhysicalSize{a}Unit"] for a in "XYZ"} == {"µm"}
    np.testing.assert_array_equal(read_labels(out), labels_zyx)
    again = read_volume(out).volume
    assert (again.spacing_zyx, again.unit) == (opened.volume.spacing_zyx, "um")


@pytest.mark.parametrize("is_ome", [True, False])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["ZCYX", "CZYX", "TZCYX", "TZYX", "CYX"])
def test_hyperstacks(tmp_path, labels_zyx, axes, compression, is_ome):
    lengths = {"T": 2, "Z": 5, "C": 3, "Y": 6, "X": 7}
    if not is_ome:
        axes = "".join(a for a in "TZCYX" if a in axes)
    values = np.arange(np.prod([lengths[a] for a in axes])) % 60000
    values = values.astype("u2").reshape([lengths[a] for a in axes])
    path = tmp_path / ("image.ome.tif" if is_ome else "image.tif")
    tifffile.imwrite(
        path,
        values,
        compression=compression,
        photometric="minisblack",
        metadata={"axes": axes},
        **({"ome": True} if is_ome else {"imagej": True}),
    )
    choice = {}
    if "T" in axes:
        with pytest.raises(VolumeError, match="2 time points"):
            read_volume(path)
        choice["time"] = 1
    if "C" in axes:
        choice["channel"] = 2
    volume = read_volume(path, **choice).volume
    expected = values
    if "C" in axes:
        expected = np.take(expected, 2, axes.index("C"))
    if "T" in axes:
        expected = np.take(expected, 1, 0)
    expected = expected.reshape(volume.shape_zyx)
    for axis in range(3):
        np.testing.assert_array_equal(volume.along(axis).read(0), np.take(expected, 0, axis))


def test_colour_planes(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (6, 7, 3)).astype("u1")
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(path, rgb, photometric="rgb")
    opened = read_volume(path)
    assert opened.volume.shape_zyx == (1, 6, 7)
    expected = rgb @ np.array([0.2126, 0.7152, 0.0722])
    np.testing.assert_allclose(opened.volume.along(0).read(0), expected, rtol=1e-5)
    out = write_labels(tmp_path / "labels.tif", np.ones((1, 6, 7), int), opened)
    assert tifffile.imread(out).shape == (6, 7)
    assert read_labels(out).shape == (1, 6, 7)
    with pytest.raises(FileFormatError, match="3 channels"):
        read_labels(path)


def test_large_ids_are_not_rounded(tmp_path, labels_zyx):
    labels_zyx[0, 0, 0] = 2**31 + 1
    out = write_labels(tmp_path / "labels.tif", labels_zyx)
    found = read_labels(out)
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, labels_zyx)


def test_levels_of_a_pyramid(tmp_path):
    full = np.arange(3 * 64 * 64, dtype="u2").reshape(3, 64, 64)
    path = tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        options = {"tile": (32, 32), "photometric": "minisblack"}
        sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
        tif.write(full, subifds=1, metadata={"axes": "ZYX", **sizes}, **options)
        tif.write(full[:, ::2, ::2], subfiletype=1, **options)
    half = read_volume(path, level=1)
    assert half.volume.shape_zyx == (3, 32, 32)
    assert half.volume.spacing_zyx == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(half.volume.along(0).read(1), full[1, ::2, ::2])
    out = write_labels(tmp_path / "labels.tif", np.zeros((3, 32, 32), int), half)
    assert read_volume(out).volume.spacing_zyx == (2.0, 1.0, 1.0)
    with pytest.raises(VolumeError, match="levels 0 to 1"):
        read_volume(path, level=2)


@pytest.mark.parametrize("kind", ["plain", "imagej", "ome"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.8, 0.97])
def test_truncated_files_are_refused(tmp_path, kind, compression, share):
    values = np.random.default_rng(0).integers(0, 255, (12, 40, 50)).astype("u1")
    path = tmp_path / "image.tif"
    options = {"plain": {}, "imagej": {"imagej": True}, "ome": {"ome": True}}[kind]
    metadata = {"axes": "ZYX"} if kind != "plain" else None
    tifffile.imwrite(
        path,
        values,
        compression=compression,
        metadata=metadata,
        photometric="minisblack",
        **options,
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileFormatError, match=r"image\.tif"):
        read_volume(path)


def test_two_kinds_of_channels_are_refused(tmp_path):
    values = np.zeros((2, 6, 7, 3), "u1")
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, values, photometric="rgb", metadata={"axes": "CYXS"})
    with pytest.raises(VolumeError, match="two of them hold channels"):
        read_volume(path)


def test_positions_are_refused(tmp_path):
    path = tmp_path / "x.ome.tif"
    values = np.zeros((2, 4, 6, 7), "u1")
    tifffile.imwrite(path, values, photometric="minisblack", metadata={"axes": "HZYX"})
    with pytest.raises(VolumeError, match="HZYX"):
        read_volume(path)
