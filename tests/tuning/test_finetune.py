"""Fine-tuning of both networks on windows in memory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_slidesam.engine.compat import NO_QUIRKS
from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.windows import Frame
from napari_slidesam.errors import TuningError
from napari_slidesam.geometry import Box, mask_to_box
from napari_slidesam.intensity import Intensity
from napari_slidesam.model.adapters import has_adapter, load_adapter, merge_adapter, save_adapter
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.protocol import WindowPrompt
from napari_slidesam.model.registry import load_model
from napari_slidesam.model.sam.config import VIT_B, SamConfig
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.tuning.finetune import FinetuneBatch, FinetuneTask
from napari_slidesam.tuning.finetune_config import FinetuneConfig
from napari_slidesam.tuning.plane_augment import NO_AUGMENTATION
from napari_slidesam.tuning.plane_prompts import CENTRE, PlanePrompt, PlanePromptConfig
from napari_slidesam.tuning.plane_views import choose_view, seen_prompt
from napari_slidesam.tuning.task import RatedTask, StepDraw
from napari_slidesam.tuning.window_draws import draw_window
from napari_slidesam.tuning.windows import TrainingWindow
from napari_slidesam.volume import Volume

SHAPE = (14, 72, 80)
TINY_SAM = SamConfig(
    embed_dim=32,
    depth=2,
    num_heads=2,
    global_attn_indexes=(1,),
    window_size=3,
    image_size=64,
    prompt_embed_dim=32,
    decoder_mlp_dim=32,
    iou_head_hidden_dim=16,
)
PLAIN = PlanePromptConfig(slide_share=0, corrective_share=0, second_look_share=0)
BOXES = replace(PLAIN, box_share=1, box_noise=0)


def phantom():
    """A textured ellipsoid that stands out from noise, and its mask."""
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]].astype(np.float32)
    distance = ((z - 7) / 4.2) ** 2 + ((y - 34) / 17) ** 2 + ((x - 42) / 22) ** 2
    masks = distance < 1
    rng = np.random.default_rng(0)
    images = 0.3 + 0.35 * masks + 0.1 * rng.standard_normal(SHAPE).astype(np.float32)
    return images.clip(0, 1).astype(np.float32), masks


class Windows:
    """The labelled windows of the phantom along z; knows no neighbours."""

    def __init__(self, indicator=(True, True, True)):
        self.images, self.masks = phantom()
        self.indicator = indicator
        self.centres = [int(i) for i in np.flatnonzero(self.masks.any(axis=(1, 2)))]

    def __len__(self):
        return len(self.centres)

    def window(self, centre):
        places = np.clip([centre - 1, centre, centre + 1], 0, SHAPE[0] - 1)
        masks = self.masks[places] & np.array(self.indicator)[:, None, None]
        return TrainingWindow(self.images[places], masks, self.indicator, "phantom", 0, centre, 1)

    def read(self, index):
        return self.window(self.centres[index])


class SlidingWindows(Windows):
    def read_next(self, index, step):
        return self.window(self.centres[index] + step)


def lite():
    model = load_model("embedded", "cpu")
    assert isinstance(model, SlideSamLite)
    return model


def tiny_sam(seed=0):
    torch.manual_seed(seed)
    return SlideSam(TINY_SAM, name="tiny").eval().requires_grad_(False)


BUILD = {"lite": lite, "sam": tiny_sam}


@pytest.fixture(params=["lite", "sam"])
def build(request):
    return BUILD[request.param]


def steps(task, n, rate, batch_size=4, seed=3):
    """Train, and return the losses."""
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in task.model.parameters() if p.requires_grad], lr=rate)
    losses = []
    for step in range(n):
        task.model.train()
        loss = task.loss(task.batch(StepDraw(seed, step, 0, batch_size))).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    task.model.eval()
    return losses


def mean_loss(task, n=2, seed=99):
    with torch.no_grad():
        batches = [task.batch(StepDraw(seed, step, 0, 4)) for step in range(n)]
        return float(np.mean([float(task.loss(b).total) for b in batches]))


@pytest.mark.parametrize(("kind", "n", "rate"), [("lite", 4, 3e-3), ("sam", 12, 1e-2)])
def test_a_few_steps_reduce_the_loss(kind, n, rate):
    task = FinetuneTask(BUILD[kind](), SlidingWindows(), FinetuneConfig(rank=4))
    task.model.eval()
    before = mean_loss(task)
    steps(task, n, rate)
    assert mean_loss(task) < 0.9 * before


def test_the_same_draw_is_the_same_batch_and_loss(build):
    task = FinetuneTask(build(), SlidingWindows())
    task.model.eval()
    one, two = (task.batch(StepDraw(1, 5, 0, 4)) for _ in range(2))
    for a, b in zip(one.draws, two.draws, strict=True):
        np.testing.assert_array_equal(a.window.images, b.window.images)
        assert (a.prompt.box, a.prompt.points, a.seed) == (b.prompt.box, b.prompt.points, b.seed)
    with torch.no_grad():
        assert float(task.loss(one).total) == float(task.loss(two).total)
    other = task.batch(StepDraw(1, 5, 1, 4)), task.batch(StepDraw(1, 6, 0, 4))
    assert all(o.draws[0].seed != one.draws[0].seed for o in other)


def test_each_process_goes_through_all_windows():
    source = Windows()
    task = FinetuneTask(tiny_sam(), source, FinetuneConfig(batch_size=3, prompts=PLAIN))
    assert task.steps_per_epoch == math.ceil(len(source) / 3)
    seen = [
        draw.window.key[2]
        for step in range(len(source))
        for draw in task.batch(StepDraw(0, step, 1, 1)).draws
    ]
    assert sorted(seen) == source.centres


@pytest.mark.parametrize(("kind", "whole"), [("lite", 0.1), ("sam", 1.0)])
def test_what_the_small_network_knows_changes_slowly(kind, whole):
    task = FinetuneTask(BUILD[kind](), Windows(), FinetuneConfig(rank=2))
    assert isinstance(task, RatedTask)
    shares = {n: task.rate_share(n) for n, p in task.model.named_parameters() if p.requires_grad}
    low_rank = {n for n in shares if ".lora_A." in n or ".lora_B." in n}
    assert {shares[n] for n in low_rank} == {1.0}
    assert {shares[n] for n in shares.keys() - low_rank} == {whole}


def test_frozen_parts_stay_as_they_are(build):
    model = build()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    task = FinetuneTask(model, SlidingWindows(), FinetuneConfig(rank=2))
    steps(task, 1, 1e-2, batch_size=2)
    trained = task.trained_state()
    assert any(not torch.equal(t, torch.zeros_like(t)) for n, t in trained.items() if "lora_B" in n)
    for name, tensor in model.state_dict().items():
        if ".lora_" in name or ".modules_to_save." in name:
            if "running_" in name:  # statistics do not drift where weights train, either
                own = name.replace(".modules_to_save.default.", ".")
                torch.testing.assert_close(tensor, before[own], atol=0, rtol=0)
            continue
        plain = name.replace(".base_layer.", ".").replace(".original_module.", ".")
        torch.testing.assert_close(tensor, before[plain], atol=0, rtol=0)


@pytest.mark.parametrize("encoder", [True, False])
def test_an_untrained_adapter_changes_nothing_and_a_trained_one_travels(build, encoder, tmp_path):
    def masks_of(model):
        torch.manual_seed(1)
        side = model.viewports(Box(8, 8, 40, 40), (), (64, 64))[0].size
        prompt = task_prompt()
        return model.predict_windows(torch.rand(1, 3, side, side), [prompt]).mask_logits.detach()

    model = build()
    before = masks_of(model)
    config = FinetuneConfig(rank=2, train_encoder=encoder)
    task = FinetuneTask(model, Windows(), config)
    torch.testing.assert_close(masks_of(model), before, atol=1e-5, rtol=1e-5)
    steps(task, 1, 1e-2, batch_size=2)
    trained = masks_of(model)
    assert not torch.allclose(trained, before, atol=1e-3)
    save_adapter(model, tmp_path / "adapter")
    other = build()
    load_adapter(other, tmp_path / "adapter")
    torch.testing.assert_close(masks_of(other), trained, atol=1e-5, rtol=1e-5)
    merge_adapter(other)
    torch.testing.assert_close(masks_of(other), trained, atol=1e-4, rtol=1e-4)


def task_prompt():
    return WindowPrompt(box_xyxy_model=(8.0, 9.0, 40.0, 44.0))


def test_trained_state_goes_back(build):
    task = FinetuneTask(build(), Windows(), FinetuneConfig(prompts=PLAIN))
    state = {name: t.clone() for name, t in task.trained_state().items()}
    before = mean_loss(task, 1)
    steps(task, 1, 1e-2, batch_size=2)
    assert mean_loss(task, 1) != before
    task.load_trained_state(state)
    assert mean_loss(task, 1) == pytest.approx(before, rel=1e-5)


def test_an_adapter_is_trained_on(tmp_path):
    first = FinetuneTask(tiny_sam(), Windows(), FinetuneConfig(rank=2))
    steps(first, 1, 1e-2, batch_size=2)
    save_adapter(first.model, tmp_path / "adapter")
    model = tiny_sam()
    load_adapter(model, tmp_path / "adapter")
    assert not any(p.requires_grad for p in model.parameters())
    second = FinetuneTask(model, Windows(), FinetuneConfig(rank=8))
    names = [{n for n, p in t.model.named_parameters() if p.requires_grad} for t in (first, second)]
    assert names[0] == names[1]


def test_recomputing_gives_the_same_gradients(build):
    gradients, runs = [], []
    for again in (False, True):
        config = FinetuneConfig(rank=2, gradient_checkpointing=again)
        torch.manual_seed(0)
        task = FinetuneTask(build(), Windows(), config)
        task.model.train()
        encoder = getattr(task.model, "image_encoder", None) or task.model.trunk
        calls = []
        encoder.blocks[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        task.loss(task.batch(StepDraw(0, 0, 0, 2))).total.backward()
        gradients.append(
            {n: p.grad for n, p in task.model.named_parameters() if p.grad is not None}
        )
        runs.append(len(calls))
    assert runs[1] > runs[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("again", [False, True])
def test_the_trainers_precision_holds(build, again):
    """Under autocast the loss is nearly that of float32, and gradients are float32."""
    config = FinetuneConfig(rank=2, gradient_checkpointing=again)
    task = FinetuneTask(build(), SlidingWindows(), config)
    task.model.train()
    batch = task.batch(StepDraw(0, 0, 0, 2))
    with torch.no_grad():
        exact = float(task.loss(batch).total)
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(batch).total
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(exact, rel=0.25)
    gradients = [p.grad for p in task.model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


def test_every_trained_tensor_gets_a_gradient(build):
    task = FinetuneTask(build(), SlidingWindows(), FinetuneConfig(rank=2))
    task.model.train()
    task.loss(task.batch(StepDraw(0, 0, 0, 2))).total.backward()
    assert not [n for n, p in task.model.named_parameters() if p.requires_grad and p.grad is None]


def test_a_frozen_encoder_sees_each_window_once():
    model = tiny_sam()
    seen = []
    model.image_encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    source = Windows()
    task = FinetuneTask(model, source, FinetuneConfig(train_encoder=False, prompts=PLAIN))
    steps(task, len(source), 1e-3, batch_size=2)
    assert sum(seen) == len(source)


def test_embeddings_are_kept_within_bounds():
    model, source = tiny_sam(), Windows()
    seen = []
    model.image_encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    one = 32 * 4 * 4 * 4
    config = FinetuneConfig(train_encoder=False, embedding_bytes=2 * one, prompts=PLAIN)
    task = FinetuneTask(model, source, config)
    steps(task, len(source), 1e-3, batch_size=2)
    assert sum(seen) > len(source)
    assert len(task._network._kept) <= 2
    task = FinetuneTask(tiny_sam(), source, replace(config, embedding_bytes=0))
    assert not task._network.keeps_embeddings


def test_kept_embeddings_change_nothing():
    losses = []
    for kept in (0, 2**20):
        torch.manual_seed(0)
        config = FinetuneConfig(train_encoder=False, embedding_bytes=kept, augment=NO_AUGMENTATION)
        task = FinetuneTask(tiny_sam(), SlidingWindows(), config)
        losses.append(steps(task, 3, 1e-3))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


class Shown:
    """Notes what a network is shown, by training or by inference."""

    def __init__(self, monkeypatch):
        self.windows, self.prompts = [], []
        self._monkeypatch = monkeypatch

    def in_training(self, task):
        answer = task._network.answer

        def noted(windows, prompts, keys):
            self.windows.append(windows)
            self.prompts.append(list(prompts))
            return answer(windows, prompts, keys)

        self._monkeypatch.setattr(task._network, "answer", noted)

    def in_inference(self, model):
        names = ["predict_windows"] if isinstance(model, SlideSamLite) else ["embed_windows"]
        names += [] if isinstance(model, SlideSamLite) else ["predict_embedded"]
        for name in names:
            self._note(model, name, getattr(model, name))

    def _note(self, model, name, method):
        def noted(first, *rest):
            if name != "predict_embedded":
                self.windows.append(first)
            if rest:
                self.prompts.append(list(rest[0]))
            return method(first, *rest)

        self._monkeypatch.setattr(model, name, noted)


def same_prompt(one, other):
    assert one.box_xyxy_model == pytest.approx(other.box_xyxy_model, abs=1e-4)
    assert (one.mask_logits_model is None) == (other.mask_logits_model is None)
    if one.mask_logits_model is not None:
        np.testing.assert_allclose(one.mask_logits_model, other.mask_logits_model, atol=1e-4)


def trained_and_asked(build, prompts, config, monkeypatch, seed):
    """Return what training shows of a box, and what propagation from that slice shows."""
    source = SlidingWindows()
    limits = Intensity() if config.intensity.kind == "window" else config.intensity
    task = FinetuneTask(
        build(),
        source,
        FinetuneConfig(prompts=prompts, augment=NO_AUGMENTATION, intensity=limits),
    )
    task.model.eval()
    draw = task.batch(StepDraw(seed, 0, 0, 1)).draws[0]
    start = (draw.before or draw.window).key[2]
    box = BoxPrompt(start, mask_to_box(source.masks[start]))
    training, inference = Shown(monkeypatch), Shown(monkeypatch)
    training.in_training(task)
    draw = replace(draw, growth=1.0, drift=0.0, carries=True)
    with torch.no_grad():
        task.loss(FinetuneBatch((draw,)))
    inference.in_inference(task.model)
    run = propagate(
        Predictor(task.model, max_batch=1),
        Volume(source.images),
        [ObjectPrompts(1, boxes=(box,))],
        config,
    )
    for _ in run:
        pass
    return draw, training, inference


@pytest.mark.parametrize("intensity", [Intensity(), Intensity("limits", 0.0, 1.0)])
def test_training_shows_what_inference_shows(build, intensity, monkeypatch):
    """A drawn box, and its second look."""
    config = PropagationConfig(intensity=intensity, max_extent_slices=0)
    prompts = replace(BOXES, second_look_share=1.0)
    _, trained, asked = trained_and_asked(build, prompts, config, monkeypatch, 0)
    torch.testing.assert_close(trained.windows[0], asked.windows[0], atol=1e-5, rtol=1e-5)
    for look in (0, 1):
        same_prompt(trained.prompts[look][0], asked.prompts[look][0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_shows_what_sliding_shows(seed, monkeypatch):
    """The box and the masks that the network's own answer hands on, in either direction."""
    config = PropagationConfig(
        refine_prompted=False,
        max_extent_slices=1,
        min_presence=0.0,
        coarse_look=False,
        outline_look=False,
    )
    prompts = replace(BOXES, slide_share=1.0)
    draw, trained, asked = trained_and_asked(lite, prompts, config, monkeypatch, seed)
    assert draw.before is not None
    (place,) = (
        k
        for k, window in enumerate(asked.windows[1:], 1)
        if torch.allclose(window, trained.windows[1], atol=1e-4)
    )
    same_prompt(trained.prompts[1][0], asked.prompts[place][0])


def test_points_are_put_where_inference_puts_them(build):
    model = build()
    mask = Windows().masks[7]
    prompt = PlanePrompt(points=((30.0, 41.0, True), (3.0, 70.0, False)))
    view = choose_view(model, prompt, mask, np.random.default_rng(0))
    frame = Frame.of(view, mask.shape, NO_QUIRKS)
    expected = tuple(frame.point_xy(y, x, NO_QUIRKS) for y, x, _ in prompt.points)
    found = seen_prompt(prompt, view).points_xy_model
    np.testing.assert_allclose(found, expected)
    assert seen_prompt(prompt, view).point_labels == (1, 0)


def test_labels_of_one_slice_train_that_slice_alone(build):
    """Without labels beside it nothing slides, and sides and IoU cost nothing."""
    source = SlidingWindows(indicator=(False, True, False))
    config = FinetuneConfig(prompts=replace(PLAIN, slide_share=1.0), augment=NO_AUGMENTATION)
    task = FinetuneTask(build(), source, config)
    task.model.eval()
    batch = task.batch(StepDraw(0, 0, 0, 4))
    assert all(draw.before is None for draw in batch.draws)
    with torch.no_grad():
        loss = task.loss(batch)
        assert loss.parts["iou_error"] == 0
        for draw in batch.draws:
            draw.window.masks[0] = True
        assert float(task.loss(batch).total) == pytest.approx(float(loss.total))


def draws_of(source, n=300, **shares):
    config = replace(PlanePromptConfig(), **shares)
    rng = np.random.default_rng(0)
    for k in range(n):
        yield draw_window(source, k % len(source), config, NO_AUGMENTATION, rng)


@pytest.mark.parametrize("kind", [Windows, SlidingWindows])
def test_sliding_arrives_and_leaves_in_both_directions(kind):
    source = kind()
    ways = set()
    for draw in draws_of(source, slide_share=1):
        assert draw.before is not None
        assert draw.before.masks[CENTRE].any()
        first, second = draw.before.key, draw.window.key
        assert second[2] - first[2] == draw.direction
        # The end slice of the window before is the centre of the next one.
        np.testing.assert_array_equal(
            draw.before.images[CENTRE + draw.direction], draw.window.images[CENTRE]
        )
        np.testing.assert_array_equal(
            draw.before.images[CENTRE], draw.window.images[CENTRE - draw.direction]
        )
        is_past_end = not draw.window.masks[CENTRE].any()
        ways.add((draw.direction, first[2] in source.centres, is_past_end))
        if kind is SlidingWindows:
            for window in (draw.before, draw.window):
                np.testing.assert_array_equal(window.images[CENTRE], source.images[window.key[2]])
                assert window.key[3] == 0
    assert {(1, True, True), (-1, True, True), (1, True, False), (-1, True, False)} <= ways


def test_prompts_are_points_or_boxes_with_equal_probability():
    boxes = [draw.prompt.box is not None for draw in draws_of(Windows(), slide_share=0)]
    assert 0.4 < np.mean(boxes) < 0.6
    for draw in draws_of(Windows(), 50, box_share=0):
        ((y, x, positive),) = draw.prompt.points
        prompted = draw.before or draw.window
        assert positive
        assert prompted.masks[CENTRE, int(y), int(x)]


def test_box_noise_has_the_papers_size_and_cap():
    truth = mask_to_box(Windows().masks[7])
    source = Windows()
    source.centres = [7]
    boxes = [d.prompt.box for d in draws_of(source, 2000, box_share=1, slide_share=0)]
    errors = np.array([box.yxyx for box in boxes]) - truth.yxyx
    assert errors[:, 0].std() == pytest.approx(0.1 * truth.height, rel=0.1)
    assert errors[:, 1].std() == pytest.approx(0.1 * truth.width, rel=0.1)
    capped = draws_of(source, 50, box_share=1, slide_share=0, box_noise=5, box_noise_px=2)
    errors = [np.array(d.prompt.box.yxyx) - truth.yxyx for d in capped]
    assert np.abs(errors).max() <= 2 + 1e-6


@pytest.fixture
def spied(build, monkeypatch):
    """Return a task's network and the prompts that it was shown."""

    def make(**shares):
        config = FinetuneConfig(prompts=replace(BOXES, **shares), augment=NO_AUGMENTATION)
        task = FinetuneTask(build(), SlidingWindows(), config)
        task.model.eval()
        shown = []
        forward = type(task._network).answer

        def spy(self, windows, prompts, keys):
            shown.append(list(prompts))
            return forward(self, windows, prompts, keys)

        monkeypatch.setattr(type(task._network), "answer", spy)
        with torch.no_grad():
            task.loss(task.batch(StepDraw(0, 0, 0, 2)))
        return shown

    return make


def test_corrective_rounds_add_points_on_errors(spied):
    *_, last = spied(corrective_share=1, max_corrections=1)
    assert all(len(prompt.points_xy_model) == 1 for prompt in last)
    assert all(prompt.box_xyxy_model is not None for prompt in last)


def test_a_second_look_has_the_networks_own_mask(spied):
    first, last = spied(second_look_share=1)
    assert all(prompt.mask_logits_model is None for prompt in first)
    for prompt in last:
        if prompt.mask_logits_model is not None:  # None where nothing was found
            assert not prompt.mask_logits_model[[0, 2]].any()
            assert prompt.mask_logits_model[1].any()


def test_sliding_hands_on_a_box_and_two_masks(spied):
    first, last = spied(slide_share=1, carry_share=1)
    assert all(prompt.mask_logits_model is None for prompt in first)
    for prompt in last:
        assert prompt.box_xyxy_model is not None
        if prompt.mask_logits_model is not None:
            sides = prompt.mask_logits_model[[0, 2]].any(axis=(1, 2))
            assert sides.sum() == 1
            assert prompt.mask_logits_model[1].any()


def test_a_rank_8_adapter_of_vit_b_is_under_10_mb(tmp_path):
    model = SlideSam(VIT_B)
    FinetuneTask(model, Windows())
    save_adapter(model, tmp_path / "adapter", card="# Card\n")
    size = sum(path.stat().st_size for path in (tmp_path / "adapter").iterdir())
    assert 5e6 < size < 10e6
    assert has_adapter(model)


class NoWindows(Windows):
    def __len__(self):
        return 0


def test_what_cannot_be_trained():
    with pytest.raises(TuningError, match="no windows"):
        FinetuneTask(tiny_sam(), NoWindows())
    with pytest.raises(TuningError, match="Nothing would train"):
        FinetuneConfig(train_encoder=False, train_decoder=False)
    with pytest.raises(TuningError, match="at least one window"):
        FinetuneConfig(batch_size=0)
