"""A coarse network's training in seconds: tiny cubes with a bright ball."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from napari_slidesam.errors import CheckpointError, DeviceError, TuningError
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.features import KnownSlices
from napari_slidesam.model.coarse.network import CoarseNetwork
from napari_slidesam.model.coarse.weights import load_coarse, save_coarse
from napari_slidesam.tuning.coarse import data_identity, train_coarse
from napari_slidesam.tuning.coarse_augment import CropBatch
from napari_slidesam.tuning.coarse_config import CoarseTraining
from napari_slidesam.tuning.coarse_pool_files import (
    ARRAY_FILES,
    SOURCES_FILE,
    CoarsePoolState,
    CropArrays,
    JoinedCoarsePools,
)
from napari_slidesam.tuning.coarse_split import split_crops
from napari_slidesam.tuning.coarse_task import CoarseTask, dice
from napari_slidesam.tuning.processes import OneProcess
from napari_slidesam.tuning.settings import changed
from napari_slidesam.tuning.small_network_run import trainer_config
from napari_slidesam.tuning.task import StepDraw
from napari_slidesam.tuning.trainer import train

SIDE = 16
SOURCES = ("real/a", "real/b", "real/c", "real/d", "painted/a", "procedural/cells")
CONFIG = CoarseTraining(
    minutes=0.02,
    batch_size=4,
    warmup_steps=3,
    learning_rate=5e-3,
    ema_decay=0.9,
    precision="float32",
    widths=(8, 8, 16),
    held_out=("a",),
)


@pytest.fixture
def folder(tmp_path):
    """A pool of 24 balls of different size, 4 of each source."""
    path = tmp_path / "pool"
    path.mkdir()
    rng = np.random.default_rng(0)
    crops = CropArrays.empty(24, SIDE)
    grid = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    for i in range(24):
        ball = (grid**2).sum(0) < rng.uniform(3, 6) ** 2
        crops.images[i] = np.clip(60 + 120 * ball + rng.normal(0, 15, ball.shape), 0, 255)
        crops.truths[i] = 255 * ball
        crops.masks[i] = 255 * ball[SIDE // 2]
    crops.inside[:] = True
    crops.inside[::5, 0, :2] = False
    for name, values in zip(ARRAY_FILES, crops, strict=True):
        np.save(path / name, values)
    np.save(path / SOURCES_FILE, (np.arange(24) % len(SOURCES)).astype(np.int16))
    CoarsePoolState(24, SIDE, 2, 2.4, 0, 1, 24, SOURCES, {}).write(path)
    return path


@pytest.fixture
def pool(folder):
    return JoinedCoarsePools.open([folder])


def run(pool, out, config=CONFIG, *, steps, report_every=1, resume=False):
    """Train by steps: time is never twice the same."""
    task = CoarseTask(pool, config)
    settings = trainer_config(config, data_identity(task), report_every)
    settings = replace(settings, steps=steps, minutes=None, validate_every_steps=5)
    reports = train(task, out, settings, task.validate, resume=resume, accelerator=OneProcess())
    return task, reports


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_training_lowers_the_loss_and_raises_the_dice(pool, tmp_path):
    task, reports = run(pool, tmp_path, steps=20, report_every=5)
    reports = list(reports)
    assert reports[-1].loss < 0.8 * reports[1].loss
    assert 0 <= reports[-1].parts["train_dice"] <= 1
    before, after = reports[0].validation, reports[-1].validation
    assert after.dice > before.dice + 0.1
    assert set(after.dice_by_label) == {"real/a"}
    network = load_coarse(tmp_path / "coarse.safetensors")
    assert network.config == CoarseConfig(SIDE, 2.4, 2, CONFIG.widths)
    for name, value in task.average.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=2e-3, atol=1e-4)


def test_the_file_says_what_it_was_trained_on(pool, tmp_path):
    _, reports = run(pool, tmp_path, steps=2)
    last = list(reports)[-1]
    header = header_of(tmp_path / "coarse.safetensors")
    assert (header["steps"], header["windows"], header["seed"]) == ("2", "8", "0")
    assert header["held_out"] == "volumes a"
    assert header["trained_on"] == "procedural/cells, real/b, real/c, real/d"
    assert (header["crops"], header["dice_crops"], header["dice_step"]) == ("16", "4", "2")
    assert float(header["dice"]) == pytest.approx(last.validation.dice, abs=1e-4)
    assert header["start"] == "random weights"
    with (tmp_path / "validation.csv").open() as stream:
        assert {row["label"] for row in csv.DictReader(stream)} == {"real/a"}


def test_a_resumed_run_goes_on_where_it_was(pool, tmp_path):
    def losses(reports):
        return [r.loss for r in reports if r.step]

    expected = losses(run(pool, tmp_path / "whole", steps=6)[1])
    _, begun = run(pool, tmp_path / "parts", steps=6)
    found = losses(next(begun) for _ in range(4))
    begun.close()
    assert found + losses(run(pool, tmp_path / "parts", steps=6, resume=True)[1]) == expected


def test_a_run_is_not_resumed_with_other_volumes_held_out(pool, tmp_path):
    list(run(pool, tmp_path, steps=1)[1])
    other = replace(CONFIG, held_out=("b",))
    with pytest.raises(TuningError, match="another run"):
        list(run(pool, tmp_path, other, steps=2, resume=True)[1])


def test_what_a_batch_holds_depends_on_the_draw_alone(pool):
    draw = StepDraw(seed=3, step=9, process=0, batch_size=4)
    first, second = (CoarseTask(pool, CONFIG) for _ in range(2))
    first.batch(replace(draw, step=1))
    one, two = first.batch(draw), second.batch(draw)
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.known.masks, two.known.masks)
    assert not torch.equal(one.images, first.batch(replace(draw, process=1)).images)


def test_dice_counts_the_planes_inside_the_volume():
    truths = torch.zeros(2, 4, 4, 4)
    truths[:, :2] = 1
    inside = torch.ones(2, 3, 4, dtype=torch.bool)
    inside[0, 0, 2:] = False
    crops = CropBatch(truths, truths, KnownSlices.middle(truths[:, 1]), inside)
    everything = torch.ones(2, 4, 4, 4)
    torch.testing.assert_close(dice(everything, crops), torch.tensor([1.0, 2 / 3]))
    torch.testing.assert_close(dice(truths - 0.5, crops), torch.ones(2))


def test_pools_and_weights_come_from_files(folder, tmp_path):
    out = tmp_path / "run"
    reports = list(train_coarse([folder], out, CONFIG))
    assert reports[-1].step >= 1
    torch.manual_seed(1)
    weights = tmp_path / "start.safetensors"
    save_coarse(CoarseNetwork(CoarseConfig(SIDE, widths=CONFIG.widths)), weights, {})
    again = tmp_path / "again"
    nothing = replace(CONFIG, minutes=0.0)
    list(train_coarse([folder], again, nothing, weights=weights))
    started = load_coarse(again / "coarse.safetensors")
    torch.testing.assert_close(started.head.weight, load_coarse(weights).head.weight)
    assert header_of(again / "coarse.safetensors")["start"] == "start.safetensors"
    list(train_coarse([folder], again, CONFIG, resume=True))
    assert header_of(again / "coarse.safetensors")["start"] == "start.safetensors"


def test_what_cannot_be_trained_is_refused(folder, tmp_path):
    with pytest.raises(TuningError, match="coarse-pool"):
        list(train_coarse([tmp_path], tmp_path / "run", CONFIG))
    with pytest.raises(DeviceError, match="'quantum'"):
        list(train_coarse([folder], tmp_path / "run", CONFIG, device="quantum"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        list(train_coarse([folder], tmp_path / "run", CONFIG, weights=tmp_path / "none"))
    other = tmp_path / "other.safetensors"
    save_coarse(CoarseNetwork(CoarseConfig(SIDE, widths=(8, 8, 8))), other, {})
    with pytest.raises(TuningError, match="widths"):
        list(train_coarse([folder], tmp_path / "run", CONFIG, weights=other))


def test_volumes_that_are_named_are_held_out():
    split = split_crops([*SOURCES, *SOURCES], CONFIG)
    assert split.validation.tolist() == [0, 6]
    assert split.training.tolist() == [1, 2, 3, 5, 7, 8, 9, 11]
    label_map = split_crops(SOURCES, replace(CONFIG, held_out=("cells",)))
    assert label_map.validation.tolist() == [5]
    with pytest.raises(TuningError, match="nowhere is not among"):
        split_crops(SOURCES, replace(CONFIG, held_out=("nowhere",)))
    with pytest.raises(TuningError, match="Hold out fewer"):
        split_crops(SOURCES, replace(CONFIG, held_out=("a", "b", "c", "d", "cells")))


def test_volumes_are_drawn_where_there_are_enough():
    sources = [*SOURCES, *SOURCES]
    split = split_crops(sources, replace(CONFIG, held_out=()))
    out = {sources[i] for i in split.validation}
    assert len(out) == 2
    assert all(name.startswith("real/") for name in out)
    volumes = {name.partition("/")[2] for name in out}
    assert not volumes & {sources[i].partition("/")[2] for i in split.training}


def test_else_every_so_many_crops_are_held_out():
    config = replace(CONFIG, held_out=(), held_out_every=4)
    for settings, sources in (
        (config, ["real/a"] * 8 + ["painted/b"] * 8),
        (replace(config, held_out_volumes=0), list(SOURCES) * 3),
    ):
        split = split_crops(sources, settings)
        assert split.validation.tolist() == list(range(0, len(sources), 4))
        assert not set(split.training) & set(split.validation)
        assert "trained on" in split.held_out


def test_few_crops_are_validated_on_evenly_chosen():
    config = replace(CONFIG, held_out=(), held_out_every=2, validation_crops=5)
    split = split_crops(["painted/a"] * 40, config)
    assert split.validation.tolist() == [0, 8, 16, 24, 32]
    assert split.training.tolist() == list(range(1, 40, 2))


def test_settings_are_changed_by_name():
    config = changed(changed(CONFIG, "dice=0.5"), "augment.noise=0.2")
    assert (config.dice, config.augment.noise) == (0.5, 0.2)
    assert changed(CONFIG, 'held_out=["b", "c"]').held_out == ("b", "c")


@pytest.mark.parametrize(
    "setting", ["nothing=1", "dice=a", "augment.nothing=1", "seed", "held_out_every=1"]
)
def test_unknown_settings_are_refused(setting):
    with pytest.raises(TuningError, match=r"no setting|at least"):
        changed(CONFIG, setting)
