"""OME-Zarr: axes, scale, translation, units and levels; only the chunks needed are read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Reader

from napari_slidesam.errors import FileFormatError, VolumeError
from napari_slidesam.io import read_labels, read_volume, write_labels

FORMATS = {"0.4": 2, "0.5": 3}
LENGTHS = {"t": 2, "c": 3, "z": 5, "y": 6, "x": 7}
SCALES = {"t": 10.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}


def axis(name):
    kind = {"t": "time", "c": "channel"}.get(name, "space")
    unit = {"time": {"unit": "second"}, "space": {"unit": "micrometer"}}.get(kind, {})
    return {"name": name, "type": kind, **unit}


def save(path, values, axes="zyx", version="0.5", translation=None, *, levels=1, **extra):
    """Write an image by hand: what other programs write, not what we do."""
    group = zarr.open_group(str(path), mode="w", zarr_format=FORMATS[version])
    datasets = []
    for level in range(levels):
        step = 2**level
        part = values[tuple(slice(None, None, step if a in "yx" else 1) for a in axes)]
        array = group.create_array(
            f"{level}", shape=part.shape, dtype=part.dtype, chunks=(1,) * (part.ndim - 2) + (4, 4)
        )
        array[...] = part
        scale = [SCALES[a] * (step if a in "yx" else 1) for a in axes]
        steps = [{"type": "scale", "scale": scale}]
        if translation is not None:
            steps.append({"type": "translation", "translation": translation})
        datasets.append({"path": f"{level}", "coordinateTransformations": steps})
    multiscale = {"axes": [axis(a) for a in axes], "datasets": datasets, "name": "x", **extra}
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    else:
        group.attrs["multiscales"] = [{**multiscale, "version": version}]
    return path


def filled(axes):
    shape = [LENGTHS[a] for a in axes]
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


def multiscales(path):
    attributes = dict(zarr.open_group(str(path), mode="r").attrs)
    return attributes.get("ome", attributes)["multiscales"][0]


@pytest.mark.parametrize("version", FORMATS)
def test_scale_translation_axes_and_units_are_kept(tmp_path, image_zyx, labels_zyx, version):
    path = save(tmp_path / "i.zarr", image_zyx, "zyx", version, [10.0, 20.0, 30.0])
    opened = read_volume(path)
    assert opened.kind == "ome-zarr"
    assert (opened.volume.spacing_zyx, opened.volume.unit) == ((2.0, 0.5, 0.25), "um")
    for axis_index in range(3):
        plane = opened.volume.along(axis_index).read(1)
        np.testing.assert_array_equal(plane, np.take(image_zyx, 1, axis_index))
    out = write_labels(tmp_path / "labels.ome.zarr", labels_zyx, opened)
    ours, theirs = multiscales(out), multiscales(path)
    assert ours["axes"] == theirs["axes"]
    steps = ours["datasets"][0]["coordinateTransformations"]
    assert steps == theirs["datasets"][0]["coordinateTransformations"]
    assert zarr.open_group(str(out), mode="r").metadata.zarr_format == FORMATS[version]
    np.testing.assert_array_equal(read_labels(out), labels_zyx)


@pytest.mark.parametrize("version", FORMATS)
def test_the_reader_of_ome_zarr_opens_our_labels_as_labels(
    tmp_path, image_zyx, labels_zyx, version
):
    image = read_volume(save(tmp_path / "i.zarr", image_zyx, "zyx", version, [1.0, 2.0, 3.0]))
    out = write_labels(tmp_path / "labels.zarr", labels_zyx, image)
    (node,) = list(Reader(parse_url(str(out)))())
    assert node.load(Label) is not None, "napari-ome-zarr makes a Labels layer of this"
    np.testing.assert_array_equal(node.data[0].compute(), labels_zyx)
    assert [a["name"] for a in node.metadata["axes"]] == ["z", "y", "x"]
    scale, translation = node.metadata["coordinateTransformations"][0]
    assert scale["scale"] == [2.0, 0.5, 0.25]
    assert translation["translation"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("axes", ["tczyx", "czyx", "tzyx", "tcyx", "cyx", "yx"])
def test_time_points_and_channels(tmp_path, axes, version):
    values = filled(axes)
    path = save(tmp_path / "i.zarr", values, axes, version)
    choice, expected, kept = {}, values, [a for a in axes if a != "c"]
    if "t" in axes:
        with pytest.raises(VolumeError, match="2 time points"):
            read_volume(path)
        choice["time"], expected = 1, expected[1]
    if "c" in axes:
        choice["channel"], expected = 2, expected[2]
    opened = read_volume(path, **choice)
    volume = opened.volume
    expected = expected.reshape(volume.shape_zyx)
    for axis_index in range(3):
        plane = volume.along(axis_index).read(0)
        np.testing.assert_array_equal(plane, np.take(expected, 0, axis_index))
    labels = (expected % 3).astype(np.uint8)
    out = write_labels(tmp_path / "l.zarr", labels, opened)
    np.testing.assert_array_equal(read_labels(out), labels)
    written = multiscales(out)
    assert [a["name"] for a in written["axes"]] == kept
    steps = written["datasets"][0]["coordinateTransformations"]
    assert steps[0]["scale"] == [SCALES[a] for a in kept]
    if "t" in axes:  # the labels lie at their own time point
        assert steps[1]["translation"][kept.index("t")] == 10.0


def test_channels_are_mixed(tmp_path):
    values = filled("czyx")
    path = save(tmp_path / "i.zarr", values, "czyx")
    plane = read_volume(path, channel=(0.5, 0.0, 2.0)).volume.along(0).read(1)
    np.testing.assert_allclose(plane, 0.5 * values[0, 1] + 2.0 * values[2, 1])
    mean = read_volume(path).volume.along(0).read(1)
    np.testing.assert_allclose(mean, values[:, 1].mean(axis=0), rtol=1e-6)


def test_levels(tmp_path, image_zyx):
    path = save(tmp_path / "i.zarr", image_zyx, levels=2)
    half = read_volume(path, level=1)
    assert half.volume.shape_zyx == (5, 3, 4)
    assert half.volume.spacing_zyx == (2.0, 1.0, 0.5)
    out = write_labels(tmp_path / "l.zarr", np.ones((5, 3, 4), int), half)
    steps = multiscales(out)["datasets"][0]["coordinateTransformations"]
    assert steps[0]["scale"] == [2.0, 1.0, 0.5]
    with pytest.raises(VolumeError, match="levels 0 to 1"):
        read_volume(path, level=2)


def test_transformations_of_the_whole_image_come_after_those_of_the_level(tmp_path, image_zyx):
    whole = [
        {"type": "scale", "scale": [1.0, 2.0, 4.0]},
        {"type": "translation", "translation": [5.0, 5.0, 5.0]},
        {"type": "identity"},
    ]
    path = save(
        tmp_path / "i.zarr", image_zyx, translation=[1.0, 1.0, 1.0], coordinateTransformations=whole
    )
    opened = read_volume(path)
    assert opened.volume.spacing_zyx == (2.0, 1.0, 1.0)
    assert [a.translation for a in opened.grid.axes] == [6.0, 7.0, 9.0]


def test_units_that_differ_are_converted_to_that_of_x(tmp_path, image_zyx):
    path = save(tmp_path / "i.zarr", image_zyx)
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["ome"]["multiscales"][0]["axes"][0]["unit"] = "nanometer"
    (path / "zarr.json").write_text(json.dumps(metadata))
    volume = read_volume(path).volume
    assert volume.spacing_zyx == pytest.approx((0.002, 0.5, 0.25))


@pytest.mark.parametrize("version", ["0.1", "0.3"])
def test_older_versions_without_transformations(tmp_path, version):
    values = filled("tczyx")[:1, :1]
    group = zarr.open_group(str(tmp_path / "i.zarr"), mode="w", zarr_format=2)
    group.create_array("0", shape=values.shape, dtype=values.dtype)[...] = values
    axes = {"axes": list("tczyx")} if version == "0.3" else {}
    group.attrs["multiscales"] = [{"version": version, "datasets": [{"path": "0"}], **axes}]
    opened = read_volume(tmp_path / "i.zarr")
    assert opened.volume.spacing_zyx == (1, 1, 1)
    np.testing.assert_array_equal(opened.volume.along(0).read(4), values[0, 0, 4])
    out = write_labels(tmp_path / "l.zarr", np.ones((5, 6, 7), int), opened)
    assert multiscales(out)["version"] == "0.4"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plain_array(tmp_path, image_zyx, zarr_format):
    array = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=image_zyx.shape,
        dtype=">i2" if zarr_format == 2 else "i2",
        zarr_format=zarr_format,
    )
    array[...] = image_zyx
    volume = read_volume(tmp_path / "a.zarr").volume
    np.testing.assert_array_equal(volume.along(1).read(3), image_zyx[:, 3])
    with pytest.raises(VolumeError, match="level 0 only"):
        read_volume(tmp_path / "a.zarr", level=1)
    zarr.create_array(str(tmp_path / "b.zarr"), shape=(2, 3, 4, 5), dtype="u1")
    with pytest.raises(VolumeError, match="2 or 3 axes"):
        read_volume(tmp_path / "b.zarr")


def test_only_the_chunks_of_a_slice_are_read(tmp_path, image_zyx):
    path = save(tmp_path / "i.zarr", image_zyx)
    for chunk in (path / "0" / "c").glob("*"):
        if chunk.name != "2":
            for file in chunk.rglob("*"):
                if file.is_file():
                    file.write_bytes(b"damaged")
    stack = read_volume(path).volume.along(0)
    np.testing.assert_array_equal(stack.read(2), image_zyx[2])
    with pytest.raises(VolumeError, match="Slice 1 along z cannot be read"):
        stack.read(1)


def test_labels_that_are_lazy_are_written_slab_by_slab(tmp_path):
    class Slabs:
        shape, dtype, largest = (100, 8, 8), np.dtype("u4"), 0

        def __getitem__(self, index):
            indices = np.arange(100, dtype="u4")[index]
            Slabs.largest = max(Slabs.largest, len(indices))
            return np.broadcast_to(indices[:, None, None], (len(indices), 8, 8))

    out = write_labels(tmp_path / "l.zarr", Slabs())
    assert Slabs.largest <= 32
    found = read_labels(out)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[:, 3, 3], np.arange(100))


def test_folders_that_are_no_image_are_refused(tmp_path, image_zyx):
    (tmp_path / "plain").mkdir()
    with pytest.raises(FileFormatError, match="no zarr group"):
        read_volume(tmp_path / "plain")
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_group("inner")
    with pytest.raises(FileFormatError, match="inside are: inner"):
        read_volume(tmp_path / "g.zarr")
    group.attrs["ome"] = {"version": "0.5", "labels": ["cells"]}
    with pytest.raises(FileFormatError, match="give one of them: cells"):
        read_volume(tmp_path / "g.zarr")
    group.attrs["ome"] = {"version": "0.5", "plate": {}}
    with pytest.raises(FileFormatError, match="plate or a well"):
        read_volume(tmp_path / "g.zarr")


@pytest.mark.parametrize(
    "damage",
    [
        lambda ome: ome["multiscales"][0].pop("datasets"),
        lambda ome: ome["multiscales"][0]["axes"].pop(),
        lambda ome: ome["multiscales"][0]["datasets"][0].update(path="missing"),
        lambda ome: ome["multiscales"][0]["datasets"][0].update(
            coordinateTransformations=[{"type": "rotation", "rotation": []}]
        ),
        lambda ome: ome["multiscales"][0]["datasets"][0].update(
            coordinateTransformations=[{"type": "scale", "scale": [1.0] * 5}]
        ),
    ],
)
def test_damaged_metadata_are_refused(tmp_path, image_zyx, damage):
    path = save(tmp_path / "i.zarr", image_zyx)
    metadata = json.loads((path / "zarr.json").read_text())
    damage(metadata["attributes"]["ome"])
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(FileFormatError, match=r"i\.zarr"):
        read_volume(path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_truncated_metadata_are_refused(tmp_path, image_zyx, content):
    path = save(tmp_path / "i.zarr", image_zyx)
    (path / "zarr.json").write_text(content)
    with pytest.raises(FileFormatError, match=r"i\.zarr"):
        read_volume(path)
