"""An outline network's training in seconds: volumes of bright balls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from napari_slidesam.errors import CheckpointError, TuningError
from napari_slidesam.model.outline.config import OutlineConfig
from napari_slidesam.model.outline.network import OutlineNetwork
from napari_slidesam.model.outline.weights import load_outline, save_outline
from napari_slidesam.tuning.labelled import LabelledVolume
from napari_slidesam.tuning.outline import train_outline
from napari_slidesam.tuning.outline_config import OutlineTraining
from napari_slidesam.tuning.outline_task import OutlineTask, dice
from napari_slidesam.tuning.outline_views import OutlineSampler
from napari_slidesam.tuning.processes import OneProcess
from napari_slidesam.tuning.settings import changed
from napari_slidesam.tuning.small_network_run import trainer_config
from napari_slidesam.tuning.task import StepDraw
from napari_slidesam.tuning.trainer import train

CONFIG = OutlineTraining(
    minutes=0.01,
    batch_size=4,
    warmup_steps=3,
    learning_rate=5e-3,
    ema_decay=0.8,
    precision="float32",
    network=OutlineConfig(widths=(16, 16, 16, 16)),
    kept_views=24,
    new_share=0.5,
    held_out=("a",),
    validation_views=8,
)


@pytest.fixture(scope="module")
def volumes():
    """Three volumes with a ball each, of different size."""
    z, y, x = np.ogrid[:32, :32, :32]
    made = []
    for name, radius in (("a", 8), ("b", 6), ("c", 10)):
        labels = ((z - 16) ** 2 + (y - 16) ** 2 + (x - 16) ** 2 < radius**2).astype(np.uint16)
        image = np.random.default_rng(radius).normal(50, 8, labels.shape) + 100 * labels
        made.append(LabelledVolume.from_arrays(name, image, labels, (1.0, 1.0, 1.0)))
    return made


def run(volumes, out, config=CONFIG, *, steps, resume=False):
    """Train by steps: time is never twice the same."""
    task = OutlineTask(volumes, config)
    settings = trainer_config(config, task.identity, 1)
    settings = replace(settings, steps=steps, minutes=None, validate_every_steps=5)
    reports = train(task, out, settings, task.validate, resume=resume, accelerator=OneProcess())
    return task, reports


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_training_raises_the_dice(volumes, tmp_path):
    task, reports = run(volumes, tmp_path, steps=25)
    reports = list(reports)
    before, after = reports[0].validation, reports[-1].validation
    assert reports[-1].loss < 0.8 * reports[1].loss
    assert after.dice > before.dice + 0.1
    assert set(after.dice_by_label) == {"real/a"}
    network = load_outline(tmp_path / "outline.safetensors")
    assert network.config == CONFIG.network
    for name, value in task.average.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=2e-3, atol=1e-4)
    header = header_of(tmp_path / "outline.safetensors")
    assert (header["steps"], header["windows"], header["seed"]) == ("25", "100", "0")
    assert (header["trained_on"], header["held_out"]) == ("b, c", "a")
    assert header["start"] == "random weights"


def test_a_resumed_run_goes_on_where_it_was(volumes, tmp_path):
    def losses(reports):
        return [r.loss for r in reports if r.step]

    expected = losses(run(volumes, tmp_path / "whole", steps=4)[1])
    _, begun = run(volumes, tmp_path / "parts", steps=4)
    found = losses(next(begun) for _ in range(3))
    begun.close()
    assert found + losses(run(volumes, tmp_path / "parts", steps=4, resume=True)[1]) == expected


def test_a_run_is_not_resumed_with_other_volumes_held_out(volumes, tmp_path):
    list(run(volumes, tmp_path, steps=1)[1])
    with pytest.raises(TuningError, match="another run"):
        list(run(volumes, tmp_path, replace(CONFIG, held_out=("b",)), steps=2, resume=True)[1])


def test_what_a_batch_holds_depends_on_the_draw_alone(volumes):
    draw = StepDraw(seed=3, step=9, process=0, batch_size=4)
    first, second = (OutlineTask(volumes, CONFIG) for _ in range(2))
    for step in range(9):
        first.batch(replace(draw, step=step))
    one, two = first.batch(draw), second.batch(draw)
    for name in ("images", "truths", "inside", "boxes"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    assert not torch.equal(one.images, first.batch(replace(draw, process=1)).images)
    assert not torch.equal(one.images, first.batch(replace(draw, seed=4)).images)


@pytest.mark.parametrize(("new_share", "expected"), [(1.0, 32), (0.5, 16), (0.1, 8)])
def test_a_share_of_each_batch_is_new(volumes, monkeypatch, new_share, expected):
    task = OutlineTask(volumes, replace(CONFIG, new_share=new_share))
    drawn = []
    draw_one = OutlineSampler.draw

    def counted(sampler, rng):
        drawn.append(rng)
        return draw_one(sampler, rng)

    monkeypatch.setattr(OutlineSampler, "draw", counted)
    for step in range(8):
        batch = task.batch(StepDraw(seed=0, step=step, process=0, batch_size=4))
        assert len(batch) == 4
    assert len(drawn) == expected


def test_volumes_and_weights_are_given(volumes, tmp_path):
    weights = tmp_path / "start.safetensors"
    torch.manual_seed(1)
    save_outline(OutlineNetwork(CONFIG.network), weights, {})
    out = tmp_path / "run"
    list(train_outline(volumes, out, replace(CONFIG, minutes=0.0), weights=weights))
    started = load_outline(out / "outline.safetensors")
    torch.testing.assert_close(started.head.weight, load_outline(weights).head.weight)
    list(train_outline(volumes, out, CONFIG, resume=True))
    assert header_of(out / "outline.safetensors")["start"] == "start.safetensors"


def test_what_cannot_be_trained_is_refused(volumes, tmp_path):
    with pytest.raises(TuningError, match="nowhere is not among"):
        OutlineTask(volumes, replace(CONFIG, held_out=("nowhere",)))
    with pytest.raises(TuningError, match="source with a share"):
        OutlineTask([], replace(CONFIG, held_out=()))
    with pytest.raises(TuningError, match="source with a share"):
        OutlineTask(volumes, replace(CONFIG, held_out=("a", "b", "c")))
    with pytest.raises(CheckpointError, match="cannot be read"):
        list(train_outline(volumes, tmp_path, CONFIG, weights=tmp_path / "none"))
    other = tmp_path / "other.safetensors"
    save_outline(OutlineNetwork(OutlineConfig(widths=(16, 16, 16, 32))), other, {})
    with pytest.raises(TuningError, match="widths"):
        list(train_outline(volumes, tmp_path, CONFIG, weights=other))


def test_without_names_volumes_are_drawn_where_there_are_enough(volumes):
    drawn = OutlineTask(volumes, replace(CONFIG, held_out=(), held_out_volumes=1))
    assert len(drawn.held_out) == 1
    assert OutlineTask(volumes, replace(CONFIG, held_out=())).held_out == ()


def test_views_at_the_border_of_a_plane_count_inside_it_alone(volumes):
    task = OutlineTask(volumes, CONFIG)
    batch = task.batch(StepDraw(seed=0, step=0, process=0, batch_size=4))
    inside = torch.zeros_like(batch.inside)
    inside[:, :, 20:40] = True
    half = replace(batch, inside=inside, truths=batch.truths * inside)
    logits = torch.where(inside, half.truths * 2 - 1, 5.0)
    torch.testing.assert_close(dice(logits, half), torch.ones(4))
    assert (dice(-logits, half) < 0.5).all()
    nothing = replace(half, truths=torch.zeros_like(half.truths))
    torch.testing.assert_close(dice(torch.full_like(logits, -1.0), nothing), torch.ones(4))


def test_label_maps_alone_are_painted_and_validated_on(volumes):
    maps = [replace(v, image=None) for v in volumes]
    task = OutlineTask(maps, CONFIG)
    assert set(task.validate(task.model.eval(), 0).dice_by_label) == {"painted/a"}


def test_settings_are_changed_by_name():
    config = changed(changed(CONFIG, "dice=0.5"), "draw.real=0.2")
    assert (config.dice, config.draw.real) == (0.5, 0.2)


@pytest.mark.parametrize(
    "setting",
    [
        "nothing=1",
        "batch_size=0",
        "validation_views=0",
        "new_share=0",
        "new_share=1.5",
        "kept_views=3",
        "network.widths=[16,16]",
        "network.widths=[16,16,16,24]",
        "network.side=40",
        "network.slices=4",
        "network.depth=4",
    ],
)
def test_settings_that_cannot_be_are_refused(setting):
    with pytest.raises(TuningError, match=r"no setting|at least|at most|multiples? of 16|odd"):
        changed(CONFIG, setting)
