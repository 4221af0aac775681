from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_slidesam.errors import ConfigError, InferenceError, VolumeError
from napari_slidesam.geometry import Box, Viewport
from napari_slidesam.metrics import iou
from napari_slidesam.model.protocol import EmbeddingModel, WindowPrediction, WindowPrompt
from napari_slidesam.model.registry import load_model
from napari_slidesam.tuning.outline_support import outline_support
from napari_slidesam.tuning.plane_network import PlaneNetwork, Sureness
from napari_slidesam.tuning.pseudo_files import PseudoFacts, PseudoStore, writing
from napari_slidesam.tuning.pseudo_labels import (
    PseudoConfig,
    plan_slices,
    pseudo_labels,
    truncated,
)
from napari_slidesam.tuning.pseudo_masks import PseudoMask
from napari_slidesam.tuning.pseudo_picture import write_pseudo_sheet
from napari_slidesam.tuning.superpixels import SuperpixelConfig, SuperpixelPrompt
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Threshold:
    """A network that outlines what is bright, in a view of the whole plane.

    It says its predicted IoU of each candidate: 0.9, 0.65, 0.3. With ``fills_boxes`` it outlines
    its box instead.
    """

    name = "threshold"
    device = torch.device("cpu")

    def __init__(self, *, most: int = 100, fills_boxes: bool = False) -> None:
        self.most, self.fills_boxes = most, fills_boxes
        self.batches: list[int] = []

    def to_device(self, device: torch.device) -> None: ...

    def viewports(
        self, box: Box | None, points_yx: Sequence[tuple[float, float]], shape: tuple[int, int]
    ) -> tuple[Viewport, ...]:
        return (Viewport(0, 0, max(shape), 64),)

    def predict_windows(
        self, windows: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> WindowPrediction:
        if len(prompts) > self.most:
            raise torch.OutOfMemoryError("no memory for so many")
        self.batches.append(len(prompts))
        logits = 20 * (windows - 0.6)
        for row, prompt in zip(logits, prompts, strict=True):
            x0, y0, x1, y1 = prompt.box_xyxy_model or (0, 0, 64, 64)
            inside = torch.zeros(64, 64, dtype=torch.bool)
            inside[max(round(y0) - 4, 0) : round(y1) + 4, max(round(x0) - 4, 0) : round(x1) + 4] = 1
            row[:, ~inside] = -9
            if self.fills_boxes:
                row[:, inside] = 9
        trust = torch.tensor([0.9, 0.65, 0.3]).expand(len(prompts), 3)
        return WindowPrediction(logits.unsqueeze(1).expand(-1, 3, -1, -1, -1), trust)


class Embedding(Threshold):
    """The same with embeddings: the windows themselves."""

    fingerprint = "threshold"
    embedded = 0

    def embed_windows(self, windows: torch.Tensor) -> torch.Tensor:
        self.embedded += len(windows)
        return windows

    def predict_embedded(
        self, embeddings: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> WindowPrediction:
        return self.predict_windows(embeddings, prompts)


class Slow:
    """An array that notes what is read of it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.largest, self.read = 0, set()

    def __getitem__(self, index: Any) -> np.ndarray:
        found = self.values[index]
        self.largest = max(self.largest, found.size)
        self.read |= set(range(*index[0].indices(self.shape[0])))
        return found


@pytest.fixture
def truth() -> np.ndarray:
    """Two balls, cut at their middle on slice 4; shape (9, 64, 64)."""
    z, y, x = np.ogrid[:9, :64, :64]
    labels = np.zeros((9, 64, 64), dtype=np.uint8)
    labels[4 * (z - 4) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 100] = 1
    labels[4 * (z - 4) ** 2 + (y - 44) ** 2 + (x - 42) ** 2 < 144] = 2
    return labels


@pytest.fixture
def image(truth: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 3, truth.shape)
    bright: np.ndarray = (noise + 100.0 * (truth > 0)).astype(np.float32)
    return bright


QUICK = PseudoConfig(sd_factors=(2.0, 1.0), superpixels=SuperpixelConfig(scales=(100.0,)))


def best_ious(masks: Sequence[Any], plane: np.ndarray) -> list[float]:
    return [
        max((iou(m.on_plane(plane.shape), plane == label) for m in masks), default=0.0)
        for label in (1, 2)
    ]


def test_objects_are_found_once(image: np.ndarray, truth: np.ndarray) -> None:
    (found,) = pseudo_labels(Threshold(), Volume(image), [(0, 4)], QUICK)
    assert (found.axis, found.slice_index, found.plane_shape_yx) == (0, 4, (64, 64))
    assert len(found.masks) == 2
    assert min(best_ious(found.masks, truth[4])) > 0.85
    assert all(m.votes >= 2 for m in found.masks)
    assert found.dropped["unsure"] > 0
    assert found.dropped["duplicate"] > 0
    assert found.prompts > 0


def test_background_is_left_out(image: np.ndarray) -> None:
    """Asked everywhere, on a slice turned dark on bright."""
    dark = Volume(100 - image)
    (found,) = pseudo_labels(Threshold(), dark, [(0, 4)], QUICK)
    everything = PseudoConfig(
        sd_factors=QUICK.sd_factors, superpixels=QUICK.superpixels, background=0.0
    )
    (more,) = pseudo_labels(Threshold(), dark, [(0, 4)], everything)
    assert found.dropped["background superpixel"] >= 2
    assert "background superpixel" not in more.dropped
    assert found.prompts < more.prompts


def test_masks_that_only_fill_their_box_are_left_out(image: np.ndarray) -> None:
    model = Threshold(fills_boxes=True)
    (found,) = pseudo_labels(model, Volume(image), [(0, 4)], QUICK)
    same = {"sd_factors": QUICK.sd_factors, "superpixels": QUICK.superpixels, "min_outline": 0.0}
    (naive,) = pseudo_labels(
        model, Volume(image), [(0, 4)], PseudoConfig(**same, min_agreement=0.0)
    )
    (again,) = pseudo_labels(model, Volume(image), [(0, 4)], PseudoConfig(**same))
    assert len(again.masks) < len(naive.masks)
    assert again.dropped["not found again"] == len(naive.masks) - len(again.masks)
    assert len(found.masks) <= len(again.masks)


def test_outlines_lie_on_edges() -> None:
    plane = np.random.default_rng(0).normal(0.2, 0.02, (60, 60)).astype(np.float32)
    y, x = np.ogrid[:60, :60]
    disk = (y - 30) ** 2 + (x - 30) ** 2 < 15**2
    plane[disk] += 0.5
    edge = plane.copy()
    edge[:, :] = np.where(x < 20, 0.8, 0.2)
    scores = {"predicted_iou": 0.9, "stability": 0.9, "sd_factor": 1.0}
    assert outline_support(PseudoMask.cut(disk, (0, 0), **scores), plane) > 0.95
    half = PseudoMask.cut(disk & (x < 30), (0, 0), **scores)
    assert outline_support(half, plane) < 0.75
    nowhere = PseudoMask.cut(disk[5:40, 5:40], (0, 0), **scores)
    assert outline_support(nowhere, np.full((60, 60), 0.4, dtype=np.float32)) == 0.0
    at_border = PseudoMask.cut(np.broadcast_to(x < 20, (60, 60)), (0, 0), **scores)
    assert outline_support(at_border, edge) == 1.0
    assert outline_support(PseudoMask.cut(np.ones((60, 60), bool), (0, 0), **scores), edge) == 1.0


@pytest.mark.weights
def test_the_embedded_network_along_two_axes(image: np.ndarray, truth: np.ndarray) -> None:
    model = load_model(device="cpu")
    config = PseudoConfig(sd_factors=(1.0,), superpixels=SuperpixelConfig(scales=(200.0,)))
    slices = [(0, 4), (1, 44)]
    along_z, along_y = pseudo_labels(model, Volume(image), slices, config)
    assert max(best_ious(along_z.masks, truth[4])) > 0.7
    assert (along_y.axis, along_y.plane_shape_yx) == (1, (9, 64))
    (again,) = pseudo_labels(model, Volume(image), slices[:1], config)
    assert [m.region for m in again.masks] == [m.region for m in along_z.masks]
    assert [m.predicted_iou for m in again.masks] == [m.predicted_iou for m in along_z.masks]


def test_an_embedding_serves_all_prompts_of_a_view(image: np.ndarray) -> None:
    model = Embedding()
    assert isinstance(model, EmbeddingModel)
    (found,) = pseudo_labels(model, Volume(image), [(0, 4)], QUICK)
    (plain,) = pseudo_labels(Threshold(), Volume(image), [(0, 4)], QUICK)
    assert [m.region for m in found.masks] == [m.region for m in plain.masks]
    # Once a truncation window, and once more where masks are asked for again.
    assert model.embedded <= 2 * len(QUICK.sd_factors)


def test_three_slices_are_read_at_a_time(image: np.ndarray) -> None:
    array = Slow(image)
    volume = Volume(array)
    found = list(pseudo_labels(Threshold(), volume, [(0, 4)], QUICK))
    assert len(found) == 1
    assert array.largest == 64 * 64
    assert array.read == {3, 4, 5}


def test_what_is_done_is_left_out_and_cancelling_stops(image: np.ndarray) -> None:
    volume = Volume(image)
    slices = plan_slices(volume, (0,), 2)
    found = pseudo_labels(Threshold(), volume, slices, QUICK, done={(0, 1), (0, 5)})
    assert [one.slice_index for one in found] == [3, 7]
    cancel = threading.Event()
    run = pseudo_labels(Threshold(), volume, slices, QUICK, cancel=cancel)
    assert next(run).slice_index == 1
    cancel.set()
    assert list(run) == []


def test_an_interrupted_run_goes_on(tmp_path: Path, image: np.ndarray) -> None:
    volume = Volume(image)
    facts = PseudoFacts("balls", "balls.npy", volume.shape_zyx, "threshold", QUICK.to_dict())
    slices = plan_slices(volume, (0,), 3)
    stores = []
    for name, first in (("whole", 9), ("parts", 1)):
        for limit in (first, 9):
            with writing(tmp_path / name, facts) as store:
                run = pseudo_labels(Threshold(), volume, slices, QUICK, done=store.done)
                for one, _ in zip(run, range(limit), strict=False):
                    store.append(one)
        stores.append(PseudoStore(tmp_path / name))
    whole, parts = stores
    assert whole.done == parts.done == set(slices)
    for axis, index in slices:
        found = (store.read(axis, index).masks for store in stores)
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a.mask, b.mask)
    write_pseudo_sheet(tmp_path / "sheet.png", [(whole, volume)])
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


@pytest.mark.parametrize("value", [7.0, np.nan])
def test_slices_without_contrast_have_no_masks(value: float) -> None:
    volume = Volume(np.full((3, 32, 32), value, dtype=np.float32))
    (found,) = pseudo_labels(Threshold(), volume, [(0, 1)], QUICK)
    assert (found.masks, found.prompts) == ((), 0)


def test_truncation_is_around_the_mean() -> None:
    plane = np.array([[0.0, 10.0], [20.0, np.nan]], dtype=np.float32)
    sd = np.std([0.0, 10.0, 20.0])
    shown = truncated(plane[None], plane, 0.5)
    assert shown is not None
    np.testing.assert_allclose(shown[0], [[0, 0.5], [1, 0]], atol=1e-6)
    wide = truncated(plane[None], plane, 3.0)
    assert wide is not None
    np.testing.assert_allclose(wide[0, 0], [0.5 - 10 / (6 * sd), 0.5], atol=1e-6)


def test_little_memory_means_smaller_batches() -> None:
    planes = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
    prompts = [SuperpixelPrompt(Box(8, 8, 20 + i, 30), None, 0.5) for i in range(7)]
    model = Threshold(most=2)
    network = PlaneNetwork(model, 16)
    found = [c for part, _ in network.candidates(planes, prompts, Sureness(0, 0, 1)) for c in part]
    assert {c.prompt for c in found} == set(prompts)
    assert max(model.batches) <= 2
    with pytest.raises(InferenceError, match="does not fit into memory"):
        list(PlaneNetwork(Threshold(most=0)).candidates(planes, prompts, Sureness(0, 0, 1)))


class Broken(Threshold):
    def predict_windows(
        self, windows: torch.Tensor, prompts: Sequence[WindowPrompt]
    ) -> WindowPrediction:
        raise RuntimeError("bad kernel")


def test_a_failing_network_is_named(image: np.ndarray) -> None:
    with pytest.raises(InferenceError, match="threshold failed on cpu: bad kernel"):
        list(pseudo_labels(Broken(), Volume(image), [(0, 4)], QUICK))


def test_masks_cut_by_the_view_are_left_out() -> None:
    class Near(Threshold):
        def viewports(self, *_: Any) -> tuple[Viewport, ...]:
            return (Viewport(16, 16, 32, 64),)

    planes = np.ones((3, 64, 64), dtype=np.float32)
    prompts = [SuperpixelPrompt(None, (20.0, 20.0), 1.0)]
    for candidates, _ in PlaneNetwork(Near()).candidates(planes, prompts, Sureness(0, 0, 1)):
        assert all(c.is_cut and c.region.shape_yx == (32, 32) for c in candidates)


def test_slices_are_planned_evenly() -> None:
    volume = Volume(np.zeros((25, 40, 12)))
    assert plan_slices(volume, (0,), 20) == [(0, 10)]
    assert plan_slices(volume, (2, 2), 5) == [(2, 2), (2, 7)]
    assert plan_slices(volume, (0,), 100) == [(0, 12)]
    assert len(plan_slices(volume, (0, 1, 2))) == 77


def test_what_cannot_be_planned() -> None:
    with pytest.raises(ConfigError, match="Every slice"):
        plan_slices(Volume(np.zeros((9, 9, 9))), (0,), 0)
    with pytest.raises(VolumeError, match="along y they are"):
        plan_slices(Volume(np.zeros((40, 40))), (1,))
    with pytest.raises(VolumeError, match="Slice 9"):
        list(pseudo_labels(Threshold(), Volume(np.zeros((9, 9, 9))), [(0, 9)]))


@pytest.mark.parametrize(
    "values",
    [
        {"sd_factors": ()}, {"sd_factors": (1.0, -1.0)}, {"min_iou": 1.5},
        {"min_share": 0.6}, {"min_votes": 0}, {"max_masks": 0}, {"looser_box": -0.1},
    ],
)  # fmt: skip
def test_settings_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="got"):
        PseudoConfig(**values)
