"""Embeddings are made once, kept within bounds, and never of another image."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.embedding_store import EmbeddingStore
from napari_slidesam.engine.embeddings import EmbeddingCache, EmbeddingNetwork
from napari_slidesam.engine.precompute import precompute
from napari_slidesam.engine.predictor import Predictor, WindowRequest
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.windows import Window
from napari_slidesam.errors import ConfigError, InferenceError
from napari_slidesam.geometry import Box
from napari_slidesam.intensity import Intensity
from napari_slidesam.metrics import dice
from napari_slidesam.model.protocol import EmbeddingModel
from napari_slidesam.model.sam.config import SamConfig
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.slice_cache import SliceCache
from napari_slidesam.volume import Volume

BALL = ObjectPrompts(1, (BoxPrompt(14, Box(10, 8, 27, 25)),))
OTHER = ObjectPrompts(2, (BoxPrompt(16, Box(24, 34, 37, 47)),))
TINY_SAM = SamConfig(
    embed_dim=32,
    depth=2,
    num_heads=2,
    global_attn_indexes=(1,),
    window_size=3,
    image_size=64,
    prompt_embed_dim=32,
    decoder_mlp_dim=32,
)


@pytest.fixture
def sam(make_sam):
    return make_sam()


def grown(predictor, volume, *prompts, **options):
    """Return the final masks of all objects: {(object, slice): whole-plane mask}."""
    masks = {}
    config = PropagationConfig(**options)
    for result in propagate(predictor, volume, prompts or [BALL], config):
        if result.is_final:
            mask = np.zeros(volume.along(result.axis).plane_shape_yx, dtype=bool)
            mask[result.region.slices] = result.mask
            masks[result.object_id, result.slice_index] = mask
    return masks


def request_of(volume, position=14, **values):
    cache = SliceCache(volume.along(0))
    given = {"box": Box(10, 8, 27, 25), "low_high": (0.0, 100.0), **values}
    return WindowRequest(slices=cache, position=position, **given)


def window_of(predictor, request):
    (frame,) = predictor.frames(request)
    return Window.read(request, frame)


def test_the_tiny_network_is_an_embedding_model(sam, model):
    assert isinstance(sam, EmbeddingModel)
    assert Predictor(sam).embeddings is not None
    assert Predictor(model).embeddings is None


def test_a_run_finds_the_ball_and_embeds_each_window_once(sam, volume, balls):
    masks = grown(Predictor(sam), volume)
    whole = np.stack([masks.get((1, z), np.zeros(balls.shape[1:], bool)) for z in range(30)])
    assert dice(whole, balls == 1) > 0.9
    n_windows = len(set(masks)) + 2  # the slice beyond each end was looked at
    assert sum(sam.embedded) <= n_windows
    assert len(sam.decoded) >= len(set(masks)) // 2


def test_the_same_as_without_a_cache(make_sam, volume):
    class Uncached:
        """The same network, seen as one without embeddings."""

        def __init__(self, inner):
            self.inner, self.name, self.device = inner, inner.name, inner.device

        def viewports(self, *args):
            return self.inner.viewports(*args)

        def predict_windows(self, windows, prompts):
            return self.inner.predict_windows(windows, prompts)

    cached, plain = Predictor(make_sam()), Predictor(Uncached(make_sam()))
    assert plain.embeddings is None
    found, expected = grown(cached, volume, BALL, OTHER), grown(plain, volume, BALL, OTHER)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in found)


def test_prompts_objects_directions_and_runs_share(sam, volume):
    predictor = Predictor(sam)
    first = grown(predictor, volume, BALL, OTHER)
    slices = {z for _, z in first}
    assert sum(sam.embedded) <= len(slices) + 2
    before = sum(sam.embedded)
    again = grown(predictor, volume, BALL, OTHER)
    assert sum(sam.embedded) == before
    assert all(np.array_equal(first[key], again[key]) for key in first)


def test_several_prompts_on_one_window_are_one_batch_of_an_expanded_embedding(make_sam, volume):
    class Watching(make_sam):
        def predict_embedded(self, embeddings, prompts):
            self.strides = embeddings.stride()
            return super().predict_embedded(embeddings, prompts)

    sam = Watching()
    requests = [request_of(volume, box=Box(8 + k, 8, 27, 25)) for k in range(3)]
    assert len(dict(Predictor(sam).predict(requests))) == 3
    assert (sam.embedded, sam.decoded) == ([1], [3])
    assert sam.strides[0] == 0


def test_windows_of_a_mixed_batch_keep_their_order(sam, volume):
    predictor = Predictor(sam, max_batch=8)
    requests = [request_of(volume, position=p) for p in (10, 14, 10, 18, 14)]
    together = dict(predictor.predict(requests))
    for i, request in enumerate(requests):
        ((_, alone),) = Predictor(sam).predict([request])
        np.testing.assert_allclose(
            together[i].patches[1].logits, alone.patches[1].logits, atol=1e-5
        )
    assert sam.decoded[0] == 5


@pytest.mark.parametrize(
    "change",
    [
        {"position": 15},
        {"step": 2},
        {"low_high": (0.0, 90.0)},
        {"low_high": None},
    ],
    ids=str,
)
def test_another_look_is_another_embedding(sam, volume, change):
    predictor = Predictor(sam)
    first = window_of(predictor, request_of(volume))
    other = window_of(predictor, request_of(volume, **change))
    assert first.digest != other.digest
    assert first.digest == window_of(predictor, request_of(volume)).digest


def test_an_array_edited_in_place_is_embedded_anew(sam, balls):
    data = (balls > 0).astype(np.float32) * 100
    predictor = Predictor(sam)
    grown(predictor, Volume(data))
    before = sum(sam.embedded)
    data[12:17, :, 16:] = 0
    masks = grown(predictor, Volume(data))
    assert sum(sam.embedded) > before
    assert not masks[1, 14][:, 18:].any()


def test_other_weights_are_other_embeddings(sam, volume):
    predictor = Predictor(sam)
    grown(predictor, volume)
    before = sum(sam.embedded)
    with torch.no_grad():
        sam.encoder.weight[3:] *= 2
    grown(predictor, volume)
    assert sum(sam.embedded) == 2 * before


def test_the_cache_stays_within_its_bytes():
    cache = EmbeddingCache(max_bytes=3 * 400)
    rows = {str(k): torch.full((1, 10, 10), float(k)) for k in range(5)}
    for name, row in rows.items():
        cache.put(("net", name), row)
        cache.get(("net", "0"))  # used again and again
    assert (len(cache), cache.n_bytes) == (3, 1200)
    assert cache.get(("net", "1")) is None
    assert cache.get(("net", "0")) is rows["0"]
    cache.put(("net", "0"), rows["0"])
    assert cache.n_bytes == 1200
    cache.max_bytes = 1
    assert len(cache) == 1
    cache.clear()
    assert (len(cache), cache.n_bytes) == (0, 0)


def test_a_run_bounds_the_cache_and_finds_the_same(make_sam, volume):
    sam = make_sam()
    row_bytes = 8 * 32 * 32 * 4
    predictor = Predictor(sam)
    small = grown(predictor, volume, embedding_cache_bytes=2 * row_bytes)
    assert predictor.embeddings.cache.n_bytes <= 2 * row_bytes
    large = grown(Predictor(make_sam()), volume)
    assert all(np.array_equal(small[key], large[key]) for key in large)


def test_rows_of_a_batch_do_not_keep_the_batch(make_sam, volume):
    network = EmbeddingNetwork(make_sam(), 4)
    network.encoding.size = 4
    predictor = Predictor(make_sam())
    windows = [window_of(predictor, request_of(volume, position=p)) for p in range(10, 14)]
    for row in network.embed(windows):
        assert row.untyped_storage().nbytes() == row.nbytes


class SmallMemory:
    """Makes a network refuse as CUDA's allocator would."""

    def __init__(self, sam, encoded=10**9, decoded=10**9, device="cpu"):
        self.sam, self.encoded, self.decoded = sam, encoded, decoded
        self.name, self.fingerprint = sam.name, sam.fingerprint
        self.device = torch.device(device)
        self.moved_to = []

    def viewports(self, *args):
        return self.sam.viewports(*args)

    def to_device(self, device):
        self.moved_to.append(device)
        self.device = device
        self.encoded = self.decoded = 10**9

    def embed_windows(self, windows):
        self._check(len(windows), self.encoded)
        return self.sam.embed_windows(windows)

    def predict_embedded(self, embeddings, prompts):
        self._check(len(prompts), self.decoded)
        return self.sam.predict_embedded(embeddings, prompts)

    def predict_windows(self, windows, prompts):
        return self.predict_embedded(self.embed_windows(windows), prompts)

    @staticmethod
    def _check(n, limit):
        if n > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def on_pretended_cuda(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *args, **kwargs: tensor)


def compare(predictor, reference, volume):
    requests = [request_of(volume, position=p) for p in range(10, 18)]
    found, expected = dict(predictor.predict(requests)), dict(reference.predict(requests))
    assert found.keys() == expected.keys()
    for i in found:
        np.testing.assert_allclose(
            found[i].patches[1].logits, expected[i].patches[1].logits, atol=1e-5
        )


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_memory_too_small_to_embed_halves_the_batch_and_loses_nothing(make_sam, volume, limit):
    small = SmallMemory(make_sam(), encoded=limit)
    predictor = Predictor(small, max_batch=8)
    predictor.embeddings.encoding.size = 8
    with pytest.warns(UserWarning, match="windows at a time"):
        compare(predictor, Predictor(make_sam(), max_batch=8), volume)
    assert predictor.embeddings.encoding.size == (1 if limit == 1 else 2)
    assert predictor.max_batch == 8  # decoding was not the trouble
    assert sum(small.sam.embedded) == 8


def test_memory_too_small_to_decode_keeps_the_embeddings(make_sam, volume):
    small = SmallMemory(make_sam(), decoded=2)
    predictor = Predictor(small, max_batch=8)
    with pytest.warns(UserWarning, match="windows at a time"):
        compare(predictor, Predictor(make_sam(), max_batch=8), volume)
    assert predictor.max_batch == 2
    assert sum(small.sam.embedded) == 8


@pytest.mark.parametrize("limits", [{"encoded": 0}, {"decoded": 0}], ids=str)
def test_one_window_too_large_for_the_device_goes_on_with_the_cpu(
    make_sam, volume, limits, on_pretended_cuda
):
    small = SmallMemory(make_sam(), device="cuda", **limits)
    predictor = Predictor(small, max_batch=1)
    predictor.embeddings._looks_ahead = False
    with pytest.warns(UserWarning, match="going on with the CPU"):
        compare(predictor, Predictor(make_sam(), max_batch=8), volume)
    assert small.moved_to == [torch.device("cpu")]


def test_too_large_for_the_cpu_is_an_error(make_sam, volume):
    predictor = Predictor(SmallMemory(make_sam(), encoded=0))
    with pytest.raises(InferenceError, match="does not fit into memory"):
        list(predictor.predict([request_of(volume)]))


def test_a_failing_encoder_is_an_inference_error(make_sam, volume):
    class Broken(make_sam):
        def embed_windows(self, windows):
            raise RuntimeError("shapes do not match")

    with pytest.raises(InferenceError, match=r"tiny-sam failed on 1 windows.*do not match"):
        list(Predictor(Broken()).predict([request_of(volume)]))


def ahead_predictor(sam):
    predictor = Predictor(sam)
    predictor.embeddings._looks_ahead = True
    return predictor


def test_looking_ahead_changes_nothing_but_the_time(make_sam, volume):
    sam = make_sam()
    predictor = ahead_predictor(sam)
    ahead = grown(predictor, volume, BALL, OTHER)
    plain_sam = make_sam()
    plain = grown(Predictor(plain_sam), volume, BALL, OTHER)
    assert ahead.keys() == plain.keys()
    assert all(np.array_equal(ahead[key], plain[key]) for key in plain)
    assert sum(sam.embedded) >= sum(plain_sam.embedded)


def test_the_next_windows_are_embedded_in_another_thread(make_sam, volume):
    class Watching(make_sam):
        def __init__(self):
            super().__init__()
            self.threads = []

        def embed_windows(self, windows):
            self.threads.append(threading.current_thread().name)
            return super().embed_windows(windows)

    sam = Watching()
    grown(ahead_predictor(sam), volume)
    here = threading.current_thread().name
    assert sam.threads[:2] == [here, here]  # the anchor's window, then both of the first step
    assert len([name for name in sam.threads if name.startswith("embed-ahead")]) > 5
    assert sam.threads.count(here) <= 3


def test_what_fails_ahead_is_done_when_it_is_asked_for(make_sam, volume):
    class Moody(make_sam):
        def embed_windows(self, windows):
            if threading.current_thread() is not threading.main_thread():
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().embed_windows(windows)

    found, expected = grown(ahead_predictor(Moody()), volume), grown(Predictor(make_sam()), volume)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_nothing_is_embedded_ahead_on_the_cpu(sam, volume):
    predictor = Predictor(sam)
    assert not predictor.looks_ahead
    list(predictor.predict([request_of(volume)], [request_of(volume, position=20)]))
    assert sam.embedded == [1]


@pytest.fixture
def noisy(balls):
    """The balls in noise: no two windows are alike."""
    noise = np.random.default_rng(0).normal(0, 2, balls.shape)
    return Volume(((balls > 0) * 100 + noise).astype(np.float32))


def test_windows_that_are_alike_are_embedded_once(sam):
    steps = list(precompute(Predictor(sam), Volume(np.zeros((9, 20, 20), np.float32))))
    assert [s.was_known for s in steps] == [False] + [True] * 8
    assert sum(sam.embedded) == 1


def test_precomputing_answers_every_prompt_without_the_encoder(sam, noisy, tmp_path):
    predictor = Predictor(sam, store=EmbeddingStore(tmp_path / "kept"))
    config = PropagationConfig(intensity=Intensity("limits", 0, 100))
    steps = list(precompute(predictor, noisy, config=config))
    assert [s.position for s in steps] == list(range(30))
    assert {(s.total, s.was_known) for s in steps} == {(30, False)}
    sam.embedded.clear()
    masks = grown(predictor, noisy, BALL, OTHER, intensity=Intensity("limits", 0, 100))
    assert len(masks) > 20
    assert sam.embedded == []


def test_precomputing_goes_on_where_it_was(make_sam, noisy, tmp_path):
    cancel = threading.Event()
    first = Predictor(make_sam(), store=EmbeddingStore(tmp_path / "kept"))
    for step in precompute(first, noisy, "y", cancel=cancel):
        if step.done == 7:
            cancel.set()
    sam = make_sam()
    second = Predictor(sam, store=EmbeddingStore(tmp_path / "kept"))
    steps = list(precompute(second, noisy, "y"))
    assert [s.was_known for s in steps] == [True] * 7 + [False] * 41
    assert sum(sam.embedded) == 41


def test_inserted_slices_are_embedded_too(sam, balls):
    thick = Volume((balls > 0).astype(np.float32), spacing_zyx=(3.0, 1.0, 1.0))
    config = PropagationConfig(max_step_ratio=1.5, intensity=Intensity("limits", 0, 1))
    steps = list(precompute(Predictor(sam), thick, config=config))
    assert len(steps) == 2 * 29 + 1
    before = sum(sam.embedded)
    assert before <= len(steps)


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        ("model", {}, "no embeddings"),
        ("sam", {"intensity": Intensity("percentiles")}, "percentiles"),
    ],
)
def test_what_cannot_be_made_ahead_is_said(request, volume, make, options, said):
    predictor = Predictor(request.getfixturevalue(make))
    with pytest.raises(ConfigError, match=said):
        next(precompute(predictor, volume, config=PropagationConfig(**options)))


def test_a_network_that_looks_around_the_prompt_cannot_be_prepared(make_sam, model, volume):
    sam = make_sam()
    sam.viewports = model.viewports
    with pytest.raises(ConfigError, match="surroundings of each prompt"):
        next(precompute(Predictor(sam), volume))


@pytest.mark.parametrize("is_papers", [False, True])
def test_the_first_mask_costs_the_same_however_many_slices_there_are(make_sam, is_papers):
    counts = []
    for n_slices in (10, 200):
        image = np.random.default_rng(0).normal(0, 1, (n_slices, 48, 56)).astype(np.float32)
        image[:, 12:24, 10:22] += 100
        model = SlideSam(TINY_SAM, name="tiny").eval() if is_papers else make_sam()
        predictor = Predictor(model)
        seen = []
        embed = model.embed_windows
        model.embed_windows = lambda windows, embed=embed, seen=seen: (
            seen.append(len(windows)) or embed(windows)
        )
        middle = n_slices // 2
        prompts = ObjectPrompts(1, (BoxPrompt(middle, Box(12, 10, 24, 22)),))
        first = next(propagate(predictor, Volume(image), [prompts]))
        assert first.slice_index == middle
        counts.append(sum(seen))
    assert counts == [1, 1]


def test_the_papers_network_is_served_the_same_way(volume, tmp_path):
    torch.manual_seed(0)
    predictor = Predictor(SlideSam(TINY_SAM).eval(), store=EmbeddingStore(tmp_path / "kept"))
    requests = [request_of(volume, position=p) for p in (13, 14)]
    first = dict(predictor.predict(requests))
    predictor.embeddings.cache.clear()
    stored = dict(predictor.predict(requests))
    for i in first:
        for a, b in zip(first[i].patches, stored[i].patches, strict=True):
            np.testing.assert_allclose(a.logits, b.logits, atol=2e-3)  # kept as float16
    assert len(predictor.embeddings.cache) == 2
