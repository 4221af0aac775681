"""Crops, frames, candidates and memory."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from napari_slidesam.engine.compat import quirks_of
from napari_slidesam.engine.predictor import Predictor, WindowRequest
from napari_slidesam.errors import InferenceError, PromptError
from napari_slidesam.geometry import Box, Region, Viewport
from napari_slidesam.metrics import dice
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.protocol import WindowPrediction
from napari_slidesam.prompts import PointPrompt
from napari_slidesam.slice_cache import SliceCache
from napari_slidesam.volume import Volume


@pytest.fixture
def slices(volume):
    return SliceCache(volume.along(0))


def request_of(slices, **kwargs):
    values = {"position": 14, "box": Box(10, 8, 27, 25), "low_high": (0.0, 100.0)}
    return WindowRequest(slices=slices, **{**values, **kwargs})


def predict(predictor, *requests):
    found = dict(predictor.predict(requests))
    assert sorted(found) == list(range(len(requests)))
    return [found[i] for i in range(len(requests))]


def test_logits_come_back_where_the_object_is(predictor, slices, balls):
    (prediction,) = predict(predictor, request_of(slices))
    for patch, index in zip(prediction.patches, (13, 14, 15), strict=True):
        mask = np.zeros(balls.shape[1:], dtype=bool)
        mask[patch.region.slices] = patch.mask
        assert dice(mask, balls[index] == 1) > 0.93


def test_batch_equals_single(predictor, slices):
    requests = [
        request_of(slices),
        request_of(slices, position=17),
        request_of(slices, position=10),
    ]
    together = predict(predictor, *requests)
    for request, expected in zip(requests, together, strict=True):
        (alone,) = predict(predictor, request)
        for a, b in zip(alone.patches, expected.patches, strict=True):
            np.testing.assert_allclose(a.logits, b.logits, atol=1e-6)


@pytest.mark.parametrize("max_batch", [1, 2, 3, 100])
def test_batches_are_cut_to_size(make_model, slices, max_batch):
    model = make_model()
    predict(Predictor(model, max_batch=max_batch), *[request_of(slices) for _ in range(7)])
    assert sum(model.batches) == 7
    assert max(model.batches) <= max_batch


@pytest.mark.parametrize("max_batch", [1, 2, 4])
def test_a_point_is_looked_at_in_several_viewports_and_gives_one_answer(
    make_model, slices, balls, max_batch
):
    model = make_model()
    click = request_of(slices, box=None, points=(PointPrompt(14, 18, 16),))
    first, second = predict(Predictor(model, max_batch=max_batch), click, click)
    assert sum(model.batches) == 6
    mask = np.zeros(balls.shape[1:], dtype=bool)
    mask[first.patches[1].region.slices] = first.patches[1].mask
    assert dice(mask, balls[14] == 1) > 0.9
    np.testing.assert_array_equal(first.patches[1].logits, second.patches[1].logits)


def test_a_window_needs_a_prompt(predictor, slices):
    with pytest.raises(PromptError, match="box or a point"):
        list(predictor.predict([request_of(slices, box=None)]))


def test_position_between_two_slices_is_interpolated(predictor, slices):
    (prediction,) = predict(
        predictor, request_of(slices, position=Fraction(29, 2), step=Fraction(1, 2))
    )
    assert prediction.patches[1].mask.any()


class Recorder:
    """Keeps what the network was given; answers with nothing."""

    name = "recorder"

    def __init__(self, view):
        self.view = view
        self.windows = None
        self.prompts = None

    device = torch.device("cpu")

    def viewports(self, box, points_yx, plane_shape_yx):
        return (self.view,)

    def predict_windows(self, windows, prompts):
        self.windows, self.prompts = windows, prompts
        b, size = len(prompts), windows.shape[-1]
        return WindowPrediction(torch.full((b, 1, 3, size, size), -9.0), torch.ones(b, 1))


def test_window_is_the_plain_crop_at_equal_size():
    rng = np.random.default_rng(0)
    data = rng.random((3, 20, 22)).astype(np.float32)
    model = Recorder(Viewport(4, 5, 10, 10))
    cache = SliceCache(Volume(data).along(0))
    predict(
        Predictor(model),
        WindowRequest(slices=cache, position=1, box=Box(5, 6, 9, 9), low_high=(0.0, 1.0)),
    )
    np.testing.assert_allclose(model.windows[0].numpy(), data[:, 4:14, 5:15], atol=1e-6)
    assert model.prompts[0].box_xyxy_model == (1.0, 1.0, 4.0, 5.0)


def test_border_pixels_are_repeated_beyond_the_plane():
    data = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4) / 24
    model = Recorder(Viewport(-2, -3, 9, 9))
    cache = SliceCache(Volume(data).along(0))
    predict(
        Predictor(model),
        WindowRequest(slices=cache, position=0, box=Box(0, 0, 2, 2), low_high=(0.0, 1.0)),
    )
    seen = model.windows[0].numpy()
    np.testing.assert_allclose(seen[0], seen[1])  # before slice 0 comes slice 0
    np.testing.assert_allclose(seen[1, 2:5, 3:7], data[0], atol=1e-6)
    np.testing.assert_allclose(seen[1, :2, :3], data[0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(seen[2, 5:, 7:], data[1, -1, -1], atol=1e-6)


def test_mask_prompt_reaches_the_network_in_its_frame(slices, balls):
    mask = balls[14] == 1
    model = Recorder(Viewport(6, 4, 24, 48))
    known = LogitPatch.from_mask(mask)
    predict(Predictor(model), request_of(slices, masks=(None, known, None)))
    layers = model.prompts[0].mask_logits_model
    assert layers.shape == (3, 48, 48)
    assert not layers[0].any()
    inside = layers[1].reshape(24, 2, 24, 2).mean((1, 3)) > 0
    np.testing.assert_array_equal(inside, mask[6:30, 4:28])


def test_candidate_like_the_known_mask_is_preferred(make_model, slices, balls):
    whole = LogitPatch.from_mask(balls[14] > 0)
    box = Box(8, 6, 40, 50)

    class Narrow(make_model):
        def predict_windows(self, windows, prompts):
            out = super().predict_windows(windows, prompts)
            out.mask_logits[:, 0, :, :, 32:] = -5.0
            return out

    predictor = Predictor(Narrow())
    (trusting,) = predict(predictor, request_of(slices, box=box))
    (consistent,) = predict(
        predictor, request_of(slices, box=box, reference=whole, consistency_weight=1.0)
    )
    assert consistent.patches[1].mask.sum() > 1.2 * trusting.patches[1].mask.sum()


class SmallMemory:
    """Wraps a network; refuses more than so many windows, as CUDA's allocator would."""

    def __init__(self, model, limit, device="cpu"):
        self.model, self.limit = model, limit
        self.device = torch.device(device)
        self.name = model.name
        self.moved_to = []

    def viewports(self, *args):
        return self.model.viewports(*args)

    def to_device(self, device):
        self.moved_to.append(device)
        self.device = device
        self.limit = 10**9

    def predict_windows(self, windows, prompts):
        if len(prompts) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.model.predict_windows(windows, prompts)


def test_out_of_memory_halves_the_batch_and_loses_nothing(make_model, slices):
    requests = [request_of(slices, position=p) for p in range(10, 18)]
    expected = predict(Predictor(make_model(), max_batch=8), *requests)
    predictor = Predictor(SmallMemory(make_model(), limit=2), max_batch=8)
    with pytest.warns(UserWarning, match="windows at a time"):
        found = predict(predictor, *requests)
    assert predictor.max_batch == 2
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.patches[1].logits, b.patches[1].logits, atol=1e-6)


def test_out_of_memory_at_one_window_goes_on_with_the_cpu(make_model, slices, monkeypatch):
    model = SmallMemory(make_model(), limit=0, device="cuda")
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **kwargs: tensor)
    with pytest.warns(UserWarning, match="going on with the CPU"):
        (prediction,) = predict(Predictor(model), request_of(slices))
    assert model.moved_to == [torch.device("cpu")]
    assert prediction.patches[1].mask.any()


def test_out_of_memory_on_the_cpu_is_an_error(make_model, slices):
    predictor = Predictor(SmallMemory(make_model(), limit=0))
    with pytest.raises(InferenceError, match="does not fit into memory"):
        predict(predictor, request_of(slices))


def test_region_stays_inside_the_plane(predictor, slices):
    (prediction,) = predict(predictor, request_of(slices, box=Box(-5, -5, 30, 60)))
    assert prediction.patches[1].region == Region(0, 0, 48, 56)


def test_a_run_gives_the_published_quirks_to_every_window(make_model, slices):
    view = Viewport(0, 0, 56, 28)
    plain, quirky = Recorder(view), Recorder(view)
    predict(Predictor(plain), request_of(slices))
    predict(Predictor(quirky), request_of(slices, quirks=quirks_of("published")))
    assert plain.prompts[0].box_xyxy_model == (4.0, 5.0, 12.5, 13.5)
    # The whole plane of 48 x 56 pixels, stretched to the square; the last pixels are inside.
    assert quirky.prompts[0].box_xyxy_model == pytest.approx((4.5, 6.3333, 12.5, 15.6667), abs=1e-3)
    assert plain.windows.shape == quirky.windows.shape
    assert set(np.unique(quirky.windows)) == {0.0, 1.0}


def test_a_margin_for_the_look_leaves_the_prompt_alone(make_model, slices):
    model = make_model()
    near, far = request_of(slices), request_of(slices, look_margin=0.5)
    (near_frame,), (far_frame,) = Predictor(model).frames(near), Predictor(model).frames(far)
    assert far_frame.shape_yx[0] == 2 * near_frame.shape_yx[0]
    assert far_frame.outer.y0 < near_frame.outer.y0


def test_bounding_embeddings_is_harmless_without_them(predictor):
    predictor.limit_embeddings(1)
    assert predictor.embeddings is None
    assert not predictor.looks_ahead
