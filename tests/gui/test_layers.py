from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import Dims
from napari.layers import Image, Labels

from napari_slidesam.errors import PromptError, VolumeError
from napari_slidesam.geometry import Box
from napari_slidesam.gui import displayed, layers
from napari_slidesam.gui.drawing import box_vertices, drawn_box, drawn_point, point_position
from napari_slidesam.gui.layers import Plane
from napari_slidesam.prompts import BoxPrompt, PointPrompt

SHAPE = (5, 8, 10)


class CountedArray:
    """An array that knows how much of it was read."""

    def __init__(self, values: np.ndarray) -> None:
        self._values, self.n_read = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.size = values.size

    def __getitem__(self, index: Any) -> np.ndarray:
        part = self._values[index]
        self.n_read += part.size
        return part


def _values(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)


def _dims(layer: Image, order: tuple[int, ...] | None = None, **options: Any) -> Dims:
    dims = Dims(ndim=layer.ndim, **options)
    for axis, n in enumerate(layers.full_shape(layer)):
        dims.set_range(axis, (0, n - 1, 1))
    if order is not None:
        dims.order = order
    return dims


def test_a_volume_is_the_array_of_the_layer() -> None:
    image = Image(_values(), scale=(2, 0.5, 0.5), units=("mm", "mm", "mm"))
    volume = layers.volume_of(image)
    assert volume.data is image.data
    assert volume.shape_zyx == SHAPE
    assert volume.spacing_zyx == (2.0, 0.5, 0.5)
    assert volume.unit == "mm"


def test_a_2d_image_is_one_slice() -> None:
    image = Image(_values((8, 10)), scale=(0.5, 0.25))
    volume = layers.volume_of(image)
    assert volume.shape_zyx == (1, 8, 10)
    assert volume.spacing_zyx == (1.0, 0.5, 0.25)
    assert displayed.displayed_plane(_dims(image), image) == Plane(0, 0)


@pytest.mark.parametrize("shape", [(8, 10, 3), (5, 8, 10, 3)])
def test_rgb_images_give_luminance_or_one_channel(shape: tuple[int, ...]) -> None:
    values = (_values(shape) % 251).astype(np.uint8)
    image = Image(values, rgb=True)
    choice = layers.image_choices([image])[0]
    assert choice.channels == ("red", "green", "blue")
    volume = layers.volume_of(image, channel=1)
    read = volume.along(0).read(0)
    np.testing.assert_array_equal(read, values.reshape(-1, 8, 10, 3)[0, :, :, 1])
    assert layers.volume_of(image).shape_zyx[1:] == (8, 10)


def test_multiscale_dask_and_zarr_are_read_slice_by_slice() -> None:
    values = _values()
    multiscale = Image([values, values[:, ::2, ::2]], multiscale=True)
    assert layers.volume_of(multiscale).shape_zyx == SHAPE
    for data in (da.from_array(values, chunks=(1, 8, 10)), zarr.array(values, chunks=(1, 8, 10))):
        volume = layers.volume_of(Image(data, multiscale=False))
        np.testing.assert_array_equal(volume.along(0).read(3), values[3])
    counted = CountedArray(_values((3, *SHAPE)))
    image = Image(counted, multiscale=False, contrast_limits=(0, 1))
    counted.n_read = 0
    volume = layers.volume_of(image, leading=(2,))
    assert counted.n_read == 0
    np.testing.assert_array_equal(volume.along(0).read(1), _values((3, *SHAPE))[2, 1])
    assert counted.n_read == 80


def test_the_time_point_is_where_the_slider_stands() -> None:
    image = Image(_values((3, *SHAPE)), scale=(10, 2, 1, 1))
    dims = Dims(ndim=4)
    for axis, n in enumerate((3, *SHAPE)):
        dims.set_range(axis, (0, (n - 1) * image.scale[axis], image.scale[axis]))
    dims.set_current_step(0, 2)
    dims.set_current_step(1, 4)
    assert displayed.leading_of(dims, image) == (2,)
    assert displayed.displayed_plane(dims, image) == Plane(0, 4, (2,))
    np.testing.assert_array_equal(layers.volume_of(image, leading=(2,)).data, image.data[2])
    dims.order = (1, 2, 0, 3)
    with pytest.raises(VolumeError, match="before z"):
        displayed.displayed_plane(dims, image)


@pytest.mark.parametrize(
    ("order", "axis"),
    [((0, 1, 2), 0), ((0, 2, 1), 0), ((1, 0, 2), 1), ((2, 1, 0), 2), ((1, 2, 0), 1)],
)
def test_the_displayed_plane_whatever_the_order(order: tuple[int, ...], axis: int) -> None:
    image = Image(_values())
    dims = _dims(image, order)
    dims.set_current_step(axis, 3)
    assert displayed.displayed_plane(dims, image) == Plane(axis, 3)


def test_three_dimensions_are_refused() -> None:
    image = Image(_values())
    with pytest.raises(VolumeError, match="2D"):
        displayed.displayed_plane(_dims(image, ndisplay=3), image)


def test_showing_a_slice_respects_scale_and_translation() -> None:
    image = Image(_values(), scale=(3, 1, 1), translate=(7, 0, 0))
    dims = Dims(ndim=3)
    dims.set_range(0, (7, 7 + 12, 3))
    displayed.show_slice(dims, image, 0, 3)
    assert dims.point[0] == 16
    assert displayed.displayed_plane(dims, image).slice_index == 3


def _transformed() -> Image:
    return Image(
        _values(),
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        rotate=(0, 0, 30),
        shear=(0.1, 0, 0),
        affine=np.diag([1.0, 3.0, 1.0, 1.0]),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
    )


def test_layers_lie_where_the_image_does() -> None:
    image = _transformed()
    made = (
        layers.new_labels_layer(image, "a"),
        layers.new_boxes_layer(image, "b"),
        layers.new_points_layer(image, "c"),
    )
    for layer in made:
        for point in np.random.default_rng(0).uniform(0, 8, (5, 3)):
            np.testing.assert_allclose(
                layer.data_to_world(point), image.data_to_world(point), atol=1e-9
            )
        assert layer.units == image.units
        assert layer.axis_labels == image.axis_labels
    assert made[0].data.shape == SHAPE


def test_large_labels_are_kept_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "LARGEST_NUMPY_LABELS", 100)
    labels = layers.new_labels_layer(Image(_values()), "labels")
    assert isinstance(labels.data, zarr.Array)
    assert labels.data.chunks == (1, 8, 10)
    view = layers.spatial_view(labels, ())
    view[2, 1:3, 2:4] = 7
    assert np.asarray(labels.data[2]).sum() == 28


@pytest.mark.parametrize("lazy", [False, True])
def test_writing_into_labels_with_more_or_fewer_axes(lazy: bool) -> None:
    for shape, leading in (((8, 10), ()), ((3, *SHAPE), (1,))):
        data: Any = np.zeros(shape, dtype=np.uint8)
        labels = Labels(zarr.array(data) if lazy else data, multiscale=False)
        view = layers.spatial_view(labels, leading)
        assert view.shape == ((1, 8, 10) if leading == () else SHAPE)
        view[0, 1:3, 2:4] = np.full((2, 2), 5)
        view[0:1, 4:5, 2:4] = np.full((1, 1, 2), 5)
        written = np.asarray(labels.data)
        assert written.sum() == 30
        assert np.asarray(view[0]).sum() == 30


def test_the_affine_of_an_export_is_the_transform_of_the_layer() -> None:
    image = _transformed()
    affine = layers.affine_xyz(image)
    z, y, x = image.data_to_world((3, 2, 1))
    np.testing.assert_allclose(affine @ (1, 2, 3, 1), (x, y, z, 1))


@settings(max_examples=50, deadline=None)
@given(
    axis=st.integers(0, 2),
    index=st.integers(0, 4),
    y=st.floats(0, 3),
    x=st.floats(0, 3),
    leading=st.sampled_from([(), (2,), (1, 0)]),
)
def test_a_box_drawn_is_the_box_read(
    axis: int, index: int, y: float, x: float, leading: tuple[int, ...]
) -> None:
    prompt = BoxPrompt(index, Box(y, x, y + 1.5, x + 2.0))
    plane = Plane(axis, index, leading)
    vertices = box_vertices(prompt, plane, len(leading) + 3)
    drawn = drawn_box(vertices, "rectangle", SHAPE, axis)
    assert drawn.plane == plane
    np.testing.assert_allclose(drawn.box.box.yxyx, prompt.box.yxyx, atol=1e-9)
    point = PointPrompt(index, y, x)
    again = drawn_point(point_position(point, plane, len(leading) + 3), True, axis, SHAPE)
    np.testing.assert_allclose((again.y, again.x), (y, x))
    assert again.slice_index == index


def _rectangle(y0: float, x0: float, y1: float, x1: float, z: float = 2.0) -> np.ndarray:
    return np.array([[z, y0, x0], [z, y0, x1], [z, y1, x1], [z, y1, x0]])


@pytest.mark.parametrize(
    ("vertices", "reason"),
    [
        (_rectangle(2, 2, 2.3, 2.3), "press and drag"),
        (_rectangle(-9, -9, -3, -3), "outside"),
        (_rectangle(2, 2, 6, 6, z=7), "slices 0 to 4"),
        (_rectangle(2, 2, 6, 6) + np.array([[0.0], [0.0], [2.0], [2.0]]) * [1, 0, 0], "across"),
    ],
)
def test_what_cannot_be_a_box_is_refused(vertices: np.ndarray, reason: str) -> None:
    with pytest.raises(PromptError, match=reason):
        drawn_box(vertices, "rectangle", SHAPE, 0)


def test_boxes_of_one_pixel_and_partly_outside() -> None:
    one = drawn_box(_rectangle(2.5, 3.5, 3.5, 4.5), "rectangle", SHAPE, 0)
    assert one.box.box.yxyx == (3.0, 4.0, 4.0, 5.0)
    partly = drawn_box(_rectangle(-4, -4, 3.5, 3.5), "rectangle", SHAPE, 0)
    assert partly.box.box.yxyx == (0.0, 0.0, 4.0, 4.0)
