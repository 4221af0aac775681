"""Any array as slices: axes, types, channels, laziness, errors."""

from __future__ import annotations

import threading
from fractions import Fraction
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_slidesam.errors import VolumeError
from napari_slidesam.geometry import Region
from napari_slidesam.volume import ChannelMix, SliceCache, Volume, axis_from_name

RAMP = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


class CountingArray:
    """An array that remembers what was read of it."""

    def __init__(self, data, chunks=None):
        self.data, self.reads = data, []
        self.shape, self.dtype = data.shape, data.dtype
        if chunks is not None:
            self.chunks = chunks

    def __getitem__(self, index):
        part = self.data[index]
        self.reads.append(index)
        return part

    @property
    def voxels(self):
        return sum(self.data[index].size for index in self.reads)


def test_slices_along_every_axis_hold_the_volumes_values():
    volume = Volume(RAMP, spacing_zyx=(3.0, 1.0, 2.0), unit="um")
    for axis in range(3):
        stack = volume.along(axis)
        assert stack.n_slices == RAMP.shape[axis]
        for index in range(stack.n_slices):
            plane = stack.read(index)
            np.testing.assert_array_equal(plane, np.take(RAMP, index, axis))
            assert plane.shape == stack.plane_shape_yx
            assert plane.dtype == np.float32
            assert plane.dtype.isnative
            assert plane.flags.c_contiguous


def test_spacing_follows_the_axis():
    volume = Volume(RAMP, spacing_zyx=(3.0, 1.0, 2.0))
    z, y, x = (volume.along(name) for name in "zyx")
    assert (z.step, z.spacing_yx, z.step_ratio) == (3.0, (1.0, 2.0), 2.0)
    assert (y.step, y.spacing_yx, y.step_ratio) == (1.0, (3.0, 2.0), 0.4)
    assert (x.step, x.spacing_yx, x.step_ratio) == (2.0, (3.0, 1.0), 1.0)


@given(
    array=hnp.arrays(
        dtype=st.sampled_from(
            ["u1", "i1", "<u2", ">u2", ">i4", "<i8", ">u8", "<f2", ">f4", "<f8", ">f8", "?"]
        ),
        shape=hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    axis=st.sampled_from([0, 1, 2]),
    data=st.data(),
)
@settings(max_examples=50, deadline=None)
def test_any_type_and_byte_order_reads_as_float32(array, axis, data):
    index = data.draw(st.integers(0, array.shape[axis] - 1))
    with np.errstate(over="ignore"):
        expected = np.take(array, index, axis).astype(np.float32)
    np.testing.assert_array_equal(Volume(array).along(axis).read(index), expected)


@pytest.mark.parametrize("spelling", ["z", "Z", " z ", 0, "0", np.int64(0)])
def test_axis_names(spelling):
    assert axis_from_name(spelling) == 0


@pytest.mark.parametrize("wrong", ["t", "", "zy", 3, -1, True, None, 1.5])
def test_wrong_axis_is_named(wrong):
    with pytest.raises(VolumeError, match="'z', 'y' or 'x'"):
        axis_from_name(wrong)
    with pytest.raises(VolumeError):
        Volume(RAMP).along(wrong)


def test_2d_is_a_single_slice_along_any_axis():
    image = np.arange(12.0).reshape(3, 4)
    volume = Volume(image)
    assert volume.shape_zyx == (1, 3, 4)
    np.testing.assert_array_equal(volume.along(0).read(0), image)
    np.testing.assert_array_equal(volume.along(1).read(2), image[2:3])
    np.testing.assert_array_equal(volume.along(2).read(1), image[:, 1][None])
    window = SliceCache(volume.along(0)).window(0)
    np.testing.assert_array_equal(window, np.stack([image] * 3))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros(5), "2 or 3 axes"),
        (np.zeros(()), "2 or 3 axes"),
        (np.zeros((2, 3, 4, 5)), "time point"),
        (np.zeros((1, 2, 3, 4, 5)), "time point"),
        (np.zeros((0, 3, 4)), "empty"),
        (np.zeros((3, 0)), "empty"),
        (np.zeros((2, 3, 4), complex), "magnitude"),
        (np.zeros((2, 3, 4), object), "one number a voxel"),
        (np.zeros((2, 3, 4), "U3"), "Convert it to numbers"),
        (np.zeros((2, 3, 4), "M8[s]"), "Convert it to numbers"),
        (np.zeros((2, 3), [("r", "u1"), ("g", "u1")]), "channel axis"),
        ([[1, 2], [3, 4]], "from_multiscale"),
        (None, "NoneType"),
        (SimpleNamespace(shape=(2, 2)), "dtype"),
    ],
)
def test_unusable_arrays_are_refused_with_advice(data, says):
    with pytest.raises(VolumeError, match=says):
        Volume(data)


def test_unknown_lengths_and_foreign_types_are_refused():
    values = da.arange(10)
    with pytest.raises(VolumeError, match="known lengths"):
        Volume(values[values > 3][:, None])
    foreign = SimpleNamespace(shape=(2, 2), dtype="no such type", __getitem__=None)
    with pytest.raises(VolumeError, match="numpy"):
        Volume(foreign)


@pytest.mark.parametrize(
    "spacing", [(0, 1, 1), (-1, 1, 1), (np.nan, 1, 1), (np.inf, 1, 1), (1, 1), "abc", None]
)
def test_unusable_spacing_is_refused(spacing):
    with pytest.raises(VolumeError, match="spacing_zyx"):
        Volume(RAMP, spacing_zyx=spacing)


def test_colour_is_read_as_luminance():
    rgb = np.zeros((2, 3, 4, 3), np.uint8)
    rgb[..., 1] = 100
    volume = Volume(rgb, channel_axis=-1)
    assert volume.shape_zyx == (2, 3, 4)
    np.testing.assert_allclose(volume.along(0).read(1), 71.52, rtol=1e-6)
    rgba = np.concatenate([rgb, np.full((2, 3, 4, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_allclose(Volume(rgba, channel_axis=3).along(2).read(0), 71.52, rtol=1e-6)


def test_2d_colour_is_a_single_slice():
    rgb = np.full((3, 4, 3), 10, np.uint8)
    volume = Volume(rgb, channel_axis=-1)
    assert volume.shape_zyx == (1, 3, 4)
    for axis in range(3):
        np.testing.assert_allclose(volume.along(axis).read(0), 10, rtol=1e-6)


@pytest.mark.parametrize("channel_axis", [0, 1, 2, 3, -1, -4])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_channels_on_any_axis(channel_axis, axis):
    planes = np.random.default_rng(0).normal(size=(3, 4, 5, 2))
    stored = np.moveaxis(planes, -1, channel_axis)
    one = Volume(stored, channel_axis=channel_axis, channels=1).along(axis).read(1)
    np.testing.assert_allclose(one, np.take(planes[..., 1], 1, axis), rtol=1e-6)
    mean = Volume(stored, channel_axis=channel_axis).along(axis).read(1)
    np.testing.assert_allclose(mean, np.take(planes.mean(-1), 1, axis), atol=1e-6)
    mixed = Volume(stored, channel_axis=channel_axis, channels=(2.0, -1.0)).along(axis).read(1)
    expected = np.take(planes @ np.array([2.0, -1.0]), 1, axis)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)


def test_a_channel_without_weight_may_hold_nan():
    planes = np.ones((2, 3, 4, 2), np.float32)
    planes[..., 1] = np.nan
    np.testing.assert_array_equal(
        Volume(planes, channel_axis=3, channels=(1, 0)).along(0).read(0), 1
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channel_axis": 4}, "channel_axis 4"),
        ({"channel_axis": -5}, "channel_axis -5"),
        ({"channel_axis": 3, "channels": 2}, "channels 0 to 1"),
        ({"channel_axis": 3, "channels": (1.0,)}, "2 channels"),
        ({"channel_axis": 3, "channels": (0.0, 0.0)}, "not all zero"),
        ({"channel_axis": 3, "channels": (1.0, np.nan)}, "finite"),
    ],
)
def test_wrong_channels_are_refused(options, says):
    with pytest.raises(VolumeError, match=says):
        Volume(np.zeros((2, 3, 4, 2)), **options)


def test_a_channel_of_a_volume_without_channels_is_refused():
    with pytest.raises(VolumeError, match="needs channel_axis"):
        Volume(RAMP, channels=0)


def test_channel_mix_needs_exactly_one_choice():
    for choice in ({}, {"index": 0, "weights": (1.0,)}):
        with pytest.raises(VolumeError, match="either"):
            ChannelMix(**choice)
    assert Volume(np.zeros((2, 3, 4, 2)), channel_axis=3, channels=-1).channels == ChannelMix(1)


def test_levels_of_a_multiscale_image_scale_the_spacing():
    levels = [np.zeros((8, 16, 16)), np.zeros((8, 8, 8)), np.zeros((4, 4, 4))]
    half = Volume.from_multiscale(levels, 1, spacing_zyx=(2.0, 0.5, 0.5), unit="um")
    assert (half.spacing_zyx, half.unit) == ((2.0, 1.0, 1.0), "um")
    assert Volume.from_multiscale(levels, 2, spacing_zyx=(2.0, 0.5, 0.5)).spacing_zyx == (4, 2, 2)
    for level in (-1, 3):
        with pytest.raises(VolumeError, match="levels 0 to 2"):
            Volume.from_multiscale(levels, level)
    with pytest.raises(VolumeError, match="at least one level"):
        Volume.from_multiscale([])


def test_only_the_slice_asked_for_is_read():
    for axis in range(3):
        counting = CountingArray(RAMP)
        Volume(counting).along(axis).read(1)
        assert len(counting.reads) == 1
        assert counting.voxels == RAMP.size // RAMP.shape[axis]


def test_one_channel_is_read_alone():
    counting = CountingArray(np.zeros((3, 4, 5, 6)))
    Volume(counting, channel_axis=0, channels=2).along(0).read(1)
    assert counting.voxels == 5 * 6


def test_dask_computes_only_its_slices():
    computed = []

    def load(block_info=None):
        computed.append(block_info[None]["chunk-location"][0])
        return np.zeros((1, 8, 8))

    lazy = da.map_blocks(load, chunks=((1,) * 20, (8,), (8,)), dtype=float)
    computed.clear()  # dask calls it once to learn the type
    SliceCache(Volume(lazy).along("z")).window(7)
    assert sorted(computed) == [6, 7, 8]


def test_zarr_reads_only_the_chunks_of_a_region():
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(
        store, shape=(64, 4096, 4096), chunks=(16, 256, 256), dtype="u1", fill_value=3
    )
    reads = []
    counting = CountingArray(array, array.chunks)
    counting.__class__ = type(
        "Recording",
        (CountingArray,),
        {"__getitem__": lambda self, i: reads.append(i) or self.data[i]},
    )
    cache = SliceCache(Volume(counting).along("z"))
    region = Region(1000, 3000, 1100, 3050)
    for index in range(16, 32):
        assert (cache.read(index, region) == 3).all()
    touched = {
        (k, j, i)
        for z, y, x in reads
        for k in range(z.start // 16, -(-z.stop // 16))
        for j in range(y.start // 256, -(-y.stop // 256))
        for i in range(x.start // 256, -(-x.stop // 256))
    }
    assert touched == {(1, 3, 11), (1, 4, 11)}
    assert len(reads) == 2, "the slices of one chunk are kept, not decoded again"


def test_a_slice_outside_is_refused():
    stack = Volume(RAMP).along(0)
    for index in (-1, 4):
        with pytest.raises(VolumeError, match="slices 0 to 3"):
            stack.read(index)
        with pytest.raises(VolumeError, match="slices 0 to 3"):
            SliceCache(stack).read(index)
        with pytest.raises(VolumeError, match="slices 0 to 3"):
            SliceCache(stack).window(index)
    for region in (Region(0, 0, 6, 6), Region(-1, 0, 2, 2), Region(2, 2, 2, 3)):
        with pytest.raises(VolumeError, match="does not lie inside"):
            SliceCache(stack).read(0, region)


@pytest.mark.parametrize("error", [OSError("disk gone"), ValueError("bad chunk"), KeyError("x")])
def test_a_failing_read_is_a_volume_error_with_its_cause(error):
    class Broken(CountingArray):
        def __getitem__(self, index):
            raise error

    with pytest.raises(VolumeError, match="cannot be read") as caught:
        Volume(Broken(RAMP)).along(0).read(0)
    assert caught.value.__cause__ is error


def test_an_array_that_lies_about_its_shape_is_refused():
    class Liar(CountingArray):
        def __getitem__(self, index):
            return np.zeros((1, 2, 2))

    with pytest.raises(VolumeError, match="gave shape"):
        Volume(Liar(RAMP)).along(0).read(0)


def test_slices_are_copies_of_the_volume():
    data = np.zeros((2, 3, 4), np.float32)
    Volume(data).along(0).read(0)[:] = 9
    assert not data.any()
    kept = SliceCache(Volume(data).along(0)).read(0)
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1


def test_values_beyond_float32_become_infinite_quietly():
    plane = Volume(np.full((1, 2, 2), 1e300)).along(0).read(0)
    assert np.isinf(plane).all()


def test_windows_repeat_the_ends():
    cache = SliceCache(Volume(RAMP).along("y"))
    np.testing.assert_array_equal(cache.window(0), RAMP[:, [0, 0, 1]].transpose(1, 0, 2))
    np.testing.assert_array_equal(cache.window(4), RAMP[:, [3, 4, 4]].transpose(1, 0, 2))
    window = cache.window(2)
    window[:] = 0
    assert cache.window(2).any()


def test_planes_between_slices_are_linear():
    cache = SliceCache(Volume(RAMP).along(0))
    np.testing.assert_array_equal(cache.read_at(1.5), (RAMP[1] + RAMP[2]) / 2)
    np.testing.assert_allclose(
        cache.read_at(Fraction(1, 3)), RAMP[0] + (RAMP[1] - RAMP[0]) / 3, rtol=1e-6
    )
    np.testing.assert_array_equal(cache.read_at(-3), RAMP[0])
    np.testing.assert_array_equal(cache.read_at(Fraction(99)), RAMP[3])
    region = Region(1, 2, 4, 5)
    np.testing.assert_array_equal(
        cache.read_at(0.5, region), ((RAMP[0] + RAMP[1]) / 2)[region.slices]
    )


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_region_of_a_large_plane_is_its_part(data):
    plane_yx = (1300, 1100)
    values = np.arange(2 * 1300 * 1100, dtype=np.int32).reshape(2, *plane_yx)
    chunks = data.draw(st.sampled_from([None, (2, 100, 300), (1, 2000, 512)]))
    cache = SliceCache(Volume(CountingArray(values, chunks)).along(0))
    y0, x0 = (data.draw(st.integers(0, n - 1)) for n in plane_yx)
    y1 = data.draw(st.integers(y0 + 1, plane_yx[0]))
    x1 = data.draw(st.integers(x0 + 1, plane_yx[1]))
    region = Region(y0, x0, y1, x1)
    found = cache.read(1, region)
    np.testing.assert_array_equal(found, values[1][region.slices].astype(np.float32))
    np.testing.assert_array_equal(cache.read(1)[region.slices], found)


def test_the_cache_keeps_slices_and_forgets_the_oldest():
    counting = CountingArray(np.zeros((10, 8, 8), np.float32))
    cache = SliceCache(Volume(counting).along(0), max_bytes=3 * 8 * 8 * 4)
    for index in (0, 1, 2, 0, 3):  # 1 is now the longest unused
        cache.read(index)
    assert len(counting.reads) == 4
    cache.read(0)
    assert len(counting.reads) == 4
    cache.read(1)
    assert len(counting.reads) == 5


def test_a_plane_larger_than_the_budget_still_works():
    counting = CountingArray(RAMP)
    cache = SliceCache(Volume(counting).along(0), max_bytes=1)
    np.testing.assert_array_equal(cache.window(1), RAMP[:3])
    np.testing.assert_array_equal(cache.window(2), RAMP[1:])


def test_slices_of_one_chunk_are_read_together():
    counting = CountingArray(np.zeros((12, 8, 8), np.float32), chunks=(4, 8, 8))
    stack = Volume(counting).along(0)
    assert stack.chunk_shape == (4, 8, 8)
    cache = SliceCache(stack)
    for index in (5, 6, 7, 4):
        cache.read(index)
    assert [index[0] for index in counting.reads] == [slice(4, 8)]
    assert Volume(da.zeros((6, 8, 8), chunks=(3, 8, 4))).along("x").chunk_shape == (4, 3, 8)


def test_threads_may_share_a_cache():
    counting = CountingArray(RAMP)
    cache = SliceCache(Volume(counting).along(0), max_bytes=2 * 5 * 6 * 4)
    wrong = []

    def work(seed):
        for index in np.random.default_rng(seed).integers(0, 4, 100):
            if not (cache.read(int(index)) == RAMP[index]).all():
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
