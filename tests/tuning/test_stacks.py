from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.components import keep_connected
from napari_slidesam.tuning.labelled import LabelledVolume
from napari_slidesam.tuning.planes import ObjectIndex, Plane, draw_plane, look_at_target
from napari_slidesam.tuning.stack_config import StackConfig
from napari_slidesam.tuning.stacks import StackSampler, volume_weights

SMALL = StackConfig(side_px=64)


def two_balls(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> LabelledVolume:
    """A bright ball of radius 10 at (20, 20, 20), a dark one of radius 6 at (20, 40, 40)."""
    shape = tuple(round(n / s) for n, s in zip((40, 56, 56), spacing, strict=True))
    z, y, x = ((i + 0.5) * s for i, s in zip(np.indices(shape), spacing, strict=True))
    labels = np.zeros(shape, np.uint16)
    labels[(z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 100] = 1
    labels[(z - 20) ** 2 + (y - 40) ** 2 + (x - 40) ** 2 < 36] = 2
    image = np.array([100, 200, 30])[labels] + np.random.default_rng(0).normal(0, 5, shape)
    return LabelledVolume.from_arrays("balls", image, labels, spacing)


@pytest.mark.parametrize("source", ["real", "painted", "procedural"])
def test_the_target_is_central_connected_and_of_the_right_size(source: str) -> None:
    volume = two_balls()
    sampler = StackSampler([volume], [replace(volume, image=None)], SMALL)
    rng = np.random.default_rng(0)
    for _ in range(15):
        stack = sampler.draw_from(source, rng)
        assert stack.images.shape == stack.masks.shape == (5, 64, 64)
        assert (stack.images.dtype, stack.masks.dtype) == (np.uint8, bool)
        assert stack.source == f"{source}/balls"
        centre = stack.masks[2]
        assert ndimage.label(centre, np.ones((3, 3)))[1] == 1
        rows, cols = np.flatnonzero(centre.any(1)), np.flatnonzero(centre.any(0))
        longest = max(np.ptp(rows), np.ptp(cols)) + 1
        assert 0.65 < longest * 2.7 / 64 < 1.5
        assert abs(rows.mean() - 31.5) < 20
        assert abs(cols.mean() - 31.5) < 20


def test_masks_lie_on_their_object_in_the_image() -> None:
    volume = two_balls((2.0, 1.0, 1.0))
    bright = replace(volume, object_ids=(1,))
    config = replace(SMALL, painted=0, union_real=0)
    sampler = StackSampler([bright], config=config)
    index = sampler.sources["real"][0]
    rng = np.random.default_rng(1)
    agreements = []
    for _ in range(10):
        label = index.draw_object(rng)
        plane = draw_plane(index, label, np.eye(3), None, rng)
        coordinates = plane.coordinates(index.spacing, 50, 2.0, 64, 5)
        labels, inside = index.look_up(coordinates)
        values = ndimage.map_coordinates(volume.image, coordinates, order=1, mode="nearest")
        agreements.append(((values > 180 * 257) == (labels == 1))[inside].mean())
    assert min(agreements) > 0.95


def test_sampling_is_fixed_by_the_generator() -> None:
    sampler = StackSampler([two_balls()], config=SMALL)
    first = sampler.draw(np.random.default_rng(7))
    second = sampler.draw(np.random.default_rng(7))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.masks, second.masks)


def test_objects_end_within_many_of_the_stacks_laid_at_their_ends() -> None:
    def share_ending(end_share: float) -> float:
        config = replace(SMALL, end_share=end_share, painted=0, union_real=0)
        sampler = StackSampler([two_balls()], config=config)
        rng = np.random.default_rng(3)
        stacks = [sampler.draw(rng) for _ in range(40)]
        return float(np.mean([not s.masks.any((1, 2)).all() for s in stacks]))

    assert share_ending(1.0) > 0.6
    assert share_ending(0.0) < 0.45


def test_native_stacks_are_the_volumes_own_slices() -> None:
    volume = two_balls((4.0, 1.0, 1.0))
    assert volume.image is not None
    numbered = np.broadcast_to(np.arange(10, dtype=np.uint16)[:, None, None] * 5000, (10, 56, 56))
    config = replace(SMALL, native_share=1.0, jitter=0.0, painted=0)
    sampler = StackSampler([replace(volume, image=np.ascontiguousarray(numbered))], config=config)
    index = sampler.sources["real"][0]
    rng = np.random.default_rng(0)
    along_z = 0
    for _ in range(30):
        placed = sampler._place(index, True, rng)
        assert placed is not None
        axis = placed.plane.through
        np.testing.assert_array_equal(np.sort(np.abs(placed.plane.axes), axis=1)[:, :2], 0)
        assert placed.step == volume.spacing_zyx[axis]
        depth = placed.plane.centre[axis]
        assert depth == pytest.approx(round(depth), abs=1e-9)
        along_z += axis == 0
    assert along_z > 3


def test_a_coarse_look_finds_centre_and_side() -> None:
    index = ObjectIndex(two_balls())
    start = Plane(np.array([20.0, 14.0, 24.0]), np.eye(3))
    outline = look_at_target(index, start, 1, False, np.random.default_rng(0))
    assert outline is not None
    assert outline.labels == (1,)
    np.testing.assert_allclose(outline.offset_yx, (5.5, -4.5), atol=0.7)
    assert outline.side == pytest.approx(20, abs=1.5)


def test_outside_is_the_border_but_marked() -> None:
    index = ObjectIndex(two_balls())
    coordinates = np.array([[-3.0, 20.0], [20.0, 20.0], [20.0, 70.0]], np.float32)[:, :, None, None]
    labels, inside = index.look_up(coordinates)
    assert inside.ravel().tolist() == [False, False]
    assert labels.ravel().tolist() == [0, 0]
    _, inside = index.look_up(coordinates, through=0)
    assert inside.ravel().tolist() == [True, False]


def test_only_parts_that_continue_the_central_one_are_kept() -> None:
    masks = np.zeros((5, 40, 40), bool)
    masks[2, 15:25, 15:25] = True
    masks[2, 2:8, 2:8] = True  # another part on the centre slice
    masks[3, 18:30, 18:30] = True
    masks[3, 2:8, 2:8] = True
    masks[4, 32:38, 32:38] = True  # next to slice 3's part, far from slice 2's
    masks[0, 15:25, 15:25] = True  # slice 1 is empty: not connected
    kept = keep_connected(masks)
    assert kept is not None
    assert kept.sum((1, 2)).tolist() == [0, 0, 100, 144, 36]
    assert keep_connected(np.zeros((3, 8, 8), bool)) is None


def test_no_volume_takes_more_than_its_share() -> None:
    volume = two_balls()
    many = replace(volume, object_ids=tuple(range(1, 401)))
    few = [volume] * 6
    weights = volume_weights([many, *few], 0.25)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] == pytest.approx(0.25)
    np.testing.assert_allclose(weights[1:], 0.125)
    np.testing.assert_allclose(volume_weights([many, volume], 0.25), 0.5)


def test_bad_input_gets_a_clear_error() -> None:
    with pytest.raises(TuningError, match="at least one volume"):
        StackSampler([])
    with pytest.raises(TuningError, match="3, 5 or 7"):
        StackConfig(slices=4)
    with pytest.raises(TuningError, match="negative"):
        StackConfig(real=-1)
    volume = two_balls()
    flat = replace(volume, image=np.full(volume.labels.shape, 9, np.uint16))
    with pytest.raises(TuningError, match="No stack found"):
        StackSampler([flat], config=replace(SMALL, painted=0)).draw(np.random.default_rng(0))


def test_focus_shows_soft_tissue_beside_bone() -> None:
    labels = np.zeros((12, 56, 56), np.uint8)
    labels[:, 20:36, 20:36] = 1
    image = np.where(labels > 0, 1050.0, 1000.0)
    image += np.random.default_rng(0).normal(0, 5, image.shape)
    image[:, :6], image[:, -6:] = 0.0, 4000.0  # air and bone
    volume = LabelledVolume.from_arrays("head", image, labels, (1.0, 1.0, 1.0))

    def contrast(focus: float) -> float:
        config = replace(
            SMALL, focus=focus, remap=0.0, degrade=0.0, native_share=1.0, painted=0, end_share=0.0
        )
        sampler, rng = StackSampler([volume], config=config), np.random.default_rng(1)
        stacks = [sampler.draw(rng) for _ in range(8)]
        steps = [np.ptp([s.images[2][s.masks[2] == k].mean() for k in (0, 1)]) for s in stacks]
        return float(np.median(steps))

    assert contrast(1.0) > contrast(0.0) + 20
