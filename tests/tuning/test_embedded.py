"""A minute's training in seconds: a tiny network on a tiny pool."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_slidesam.errors import DeviceError, TuningError
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.weights import load_weights, read_header
from napari_slidesam.tuning.batches import AugmentConfig
from napari_slidesam.tuning.checkpoint_file import load_checkpoint
from napari_slidesam.tuning.embedded import train_embedded, trainer_config
from napari_slidesam.tuning.embedded_config import EmbeddedConfig
from napari_slidesam.tuning.embedded_task import EmbeddedTask
from napari_slidesam.tuning.pool_files import PoolState
from napari_slidesam.tuning.processes import OneProcess
from napari_slidesam.tuning.settings import changed
from napari_slidesam.tuning.task import StepDraw
from napari_slidesam.tuning.trainer import train

TINY = LiteConfig(
    stem_channels=(8, 8, 16), embed_dim=16, depth=1, num_heads=2, grid_size=4, viewport_size=32
)
CONFIG = EmbeddedConfig(
    minutes=0.05,
    batch_size=8,
    learning_rate=5e-3,
    warmup_steps=5,
    rollout_after_steps=4,
    rollout_share=0.5,
    precision="float32",
    small_size=32,
    augment=AugmentConfig(size=32),
)


class MemoryPool:
    """Stacks of a bright disk, without a file."""

    available = 24

    def __init__(self):
        rng = np.random.default_rng(0)
        yy, xx = np.mgrid[:48, :48]
        self.raw = np.zeros((24, 6, 48, 48), dtype=np.uint8)
        for i in range(24):
            radius = rng.uniform(6, 9)
            for k in range(5):
                mask = (yy - 24 - k) ** 2 + (xx - 24) ** 2 < radius**2
                self.raw[i, k] = np.clip(60 + 120 * mask + rng.normal(0, 5, mask.shape), 0, 255)
                self.raw[i, 5] |= mask.astype(np.uint8) << k

    def read(self, indices):
        return self.raw[indices]

    def source_names(self, indices):
        return ["real/disk" if i % 2 else "procedural/disk" for i in indices]


def run(out, config=CONFIG, *, report_every=5, steps=None, resume=False, task=None):
    """Train a tiny network, by steps where they are given: time is never twice the same."""
    task = task or EmbeddedTask(MemoryPool(), config, TINY)
    settings = trainer_config(config, report_every)
    if steps is not None:
        settings = replace(settings, steps=steps, minutes=None)
    return task, train(task, out, settings, resume=resume, accelerator=OneProcess())


def test_training_lowers_the_loss_and_writes_weights(tmp_path):
    task, reports = run(tmp_path, steps=25)
    reports = list(reports)
    assert reports[-1].loss < reports[0].loss
    last = reports[-1].parts
    assert 0 <= last["iou_chosen"] <= last["iou_best"] <= 1
    model = load_weights(tmp_path / "weights.safetensors")
    assert model.config == TINY
    header = read_header(tmp_path / "weights.safetensors")
    assert (header["windows"], header["seed"]) == ("200", "0")
    for name, value in task.average.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=2e-3, atol=1e-4)


def test_resumed_run_goes_on_where_it_was(tmp_path):
    config = replace(CONFIG, second_look_share=0.5)
    expected = [r.loss for r in run(tmp_path / "whole", config, report_every=1, steps=10)[1]]
    _, begun = run(tmp_path / "parts", config, report_every=1, steps=10)
    found = [next(begun).loss for _ in range(6)]
    begun.close()
    rest = run(tmp_path / "parts", config, report_every=1, steps=10, resume=True)[1]
    assert found + [r.loss for r in rest] == expected


def test_rollouts_are_made_by_the_moving_average(tmp_path):
    task, reports = run(tmp_path, replace(CONFIG, ema_decay=0.5), steps=5)
    start = task.average.query_tokens.clone()
    list(reports)
    kept = load_checkpoint(tmp_path / "checkpoint.pt")
    assert torch.equal(kept.average["query_tokens"], task.average.query_tokens)
    assert not torch.equal(start, task.average.query_tokens)
    assert not torch.equal(kept.trained["query_tokens"], task.average.query_tokens)
    assert not any(p.requires_grad for p in task.average.parameters())


def test_what_a_batch_holds_depends_on_the_draw_alone():
    draw = StepDraw(seed=3, step=9, process=0, batch_size=4, progress=0.9)
    first, second = (EmbeddedTask(MemoryPool(), CONFIG, TINY) for _ in range(2))
    first.batch(replace(draw, step=1))
    one, two = first.batch(draw), second.batch(draw)
    assert torch.equal(one.windows, two.windows)
    assert torch.equal(one.prompts.points_xy, two.prompts.points_xy)
    other = first.batch(replace(draw, process=1))
    assert not torch.equal(one.windows, other.windows)


def test_views_are_small_at_first():
    task = EmbeddedTask(MemoryPool(), replace(CONFIG, small_size=16, small_share=0.5), TINY)
    draw = StepDraw(seed=0, step=0, process=0, batch_size=2, progress=0.4)
    assert task.batch(draw).windows.shape == (2, 3, 16, 16)
    assert task.batch(replace(draw, progress=0.6)).windows.shape == (2, 3, 32, 32)


def test_time_is_what_ends_a_run(tmp_path):
    assert list(run(tmp_path, replace(CONFIG, minutes=0.0))[1]) == []
    assert (tmp_path / "weights.safetensors").exists()
    reports = list(run(tmp_path, replace(CONFIG, minutes=0.01), resume=True)[1])
    assert reports[-1].seconds >= 0.6


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    task, reports = run(tmp_path, steps=6, report_every=1)
    next(reports)
    with torch.no_grad():
        next(task.model.parameters()).fill_(float("nan"))
    with pytest.raises(TuningError, match="resume"):
        list(reports)
    assert all(torch.isfinite(t).all() for t in task.trained_state().values())


def test_a_run_can_start_from_weights(tmp_path):
    list(run(tmp_path, steps=1)[1])
    other = EmbeddedTask(MemoryPool(), replace(CONFIG, seed=7), TINY)
    other.start_from(tmp_path / "weights.safetensors")
    expected = load_weights(tmp_path / "weights.safetensors").state_dict()
    for name, value in other.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])


@pytest.fixture
def pool_folder(tmp_path):
    """Return a pool in files, of the disks of `MemoryPool`."""
    folder = tmp_path / "pool"
    folder.mkdir()
    raw = MemoryPool().raw
    state = PoolState(len(raw), 5, 48, 0, 1, (len(raw),), ("real/disk",), {})
    np.save(folder / "stacks.npy", raw)
    np.save(folder / "sources.npy", np.zeros(len(raw), dtype=np.uint16))
    state.write(folder)
    return folder


BARE = """
import sys
for name in ("accelerate", "peft", "matplotlib", "napari", "qtpy", "typer", "rich", "zarr", "dask",
             "tensorboard", "transformers", "torchvision", "psutil"):
    sys.modules[name] = None
from napari_slidesam.tuning.embedded import main
main()
sys.argv += ["--resume", "--minutes", "0.0002"]
main()
"""


def test_training_needs_no_more_than_torch_and_the_scientific_packages(pool_folder, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-c", BARE, "--out", str(out), "--pool", str(pool_folder)]
    command += ["--pool", str(pool_folder), "--minutes", "0.0001", "--batch-size", "1"]
    command += ["--set", "small_size=32", "--set", "augment.size=32", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert load_weights(out / "weights.safetensors").name == "slidesam-lite"


def test_pools_and_weights_come_from_files(pool_folder, tmp_path):
    config = replace(CONFIG, minutes=1e-4)
    out = tmp_path / "run"
    (report,) = train_embedded([pool_folder], out, config)
    assert report.windows == CONFIG.batch_size * report.step
    again = replace(config, minutes=1e-4)
    list(train_embedded([pool_folder], tmp_path / "b", again, weights=out / "weights.safetensors"))
    with pytest.raises(TuningError, match="pool"):
        list(train_embedded([tmp_path], out, config))
    with pytest.raises(DeviceError, match="'quantum'"):
        list(train_embedded([pool_folder], out, config, device="quantum"))


def test_settings_are_changed_by_name():
    config = changed(changed(CONFIG, "real_share=0.5"), "augment.context=[1.5, 2.0]")
    assert (config.real_share, config.augment.context) == (0.5, (1.5, 2.0))
    assert config.augment.size == CONFIG.augment.size


@pytest.mark.parametrize("setting", ["nothing=1", "real_share=a", "augment.nothing=1", "seed"])
def test_unknown_settings_are_refused(setting):
    with pytest.raises(TuningError, match="no setting"):
        changed(CONFIG, setting)
