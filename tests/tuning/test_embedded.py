"""A minute's training in seconds: a tiny network on a tiny pool."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_slidesam.errors import TuningError
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.weights import load_weights
from napari_slidesam.tuning.batches import AugmentConfig
from napari_slidesam.tuning.embedded import EmbeddedTrainer, autocast_dtype
from napari_slidesam.tuning.embedded_config import EmbeddedConfig, changed

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


@pytest.fixture
def trainer(tmp_path):
    return EmbeddedTrainer(MemoryPool(), tmp_path / "run", CONFIG, TINY)


def test_training_lowers_the_loss_and_writes_weights(trainer):
    losses = [trainer._step()["loss"] for _ in range(25)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    trainer.save()
    model = load_weights(trainer.out / "weights.safetensors")
    assert model.config == TINY


def test_reports_come_every_so_many_steps(tmp_path):
    config = replace(CONFIG, minutes=60.0)
    run = EmbeddedTrainer(MemoryPool(), tmp_path / "run", config, TINY).run(report_every=2)
    first, second = next(run), next(run)
    assert (first.step, second.step) == (2, 4)
    assert second.windows == 4 * CONFIG.batch_size
    assert 0 <= second.iou_chosen <= second.iou_best <= 1


def test_resumed_run_goes_on_where_it_was(trainer):
    steps = [trainer._step() for _ in range(6)]
    trainer.save()
    expected = [trainer._step()["loss"] for _ in range(4)]
    again = EmbeddedTrainer(MemoryPool(), trainer.out, CONFIG, TINY)
    again.resume()
    assert again.step == len(steps)
    again.seconds = trainer.seconds
    found = [again._step()["loss"] for _ in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_resume_without_a_checkpoint_starts_afresh(trainer):
    trainer.resume()
    assert trainer.step == 0


def test_time_is_what_ends_a_run(tmp_path):
    trainer = EmbeddedTrainer(MemoryPool(), tmp_path, replace(CONFIG, minutes=0.0), TINY)
    assert list(trainer.run()) == []
    assert (tmp_path / "weights.safetensors").exists()


def test_precision_is_checked():
    with pytest.raises(TuningError, match="auto, float32"):
        autocast_dtype("float8", torch.device("cpu"))
    assert autocast_dtype("float32", torch.device("cpu")) is None
    assert autocast_dtype("bfloat16", torch.device("cpu")) is torch.bfloat16


def test_loss_that_is_not_finite_stops_the_run(trainer):
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(float("nan"))
    with pytest.raises(TuningError, match="resume"):
        list(trainer.run(report_every=1))


def test_settings_are_changed_by_name():
    config = changed(changed(CONFIG, "real_share=0.5"), "augment.context=[1.5, 2.0]")
    assert (config.real_share, config.augment.context) == (0.5, (1.5, 2.0))
    assert config.augment.size == CONFIG.augment.size


@pytest.mark.parametrize("setting", ["nothing=1", "real_share=a", "augment.nothing=1", "seed"])
def test_unknown_settings_are_refused(setting):
    with pytest.raises(TuningError, match="no setting"):
        changed(CONFIG, setting)


def test_a_run_can_start_from_weights(trainer, tmp_path):
    trainer._step()
    trainer.save()
    other = EmbeddedTrainer(MemoryPool(), tmp_path / "other", replace(CONFIG, seed=7), TINY)
    other.start_from(trainer.out / "weights.safetensors")
    expected = load_weights(trainer.out / "weights.safetensors").state_dict()
    for name, value in other.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])
