"""What the trainer needs to train the click network on labelled volumes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.network import ClickNetwork
from napari_slidesam.model.click.weights import load_click, save_click
from napari_slidesam.tuning.click_augment import ClickAugmenter, ClickBatch
from napari_slidesam.tuning.click_views import ClickSampler
from napari_slidesam.tuning.small_network_task import (
    PROCEDURAL_SIDE,
    SmallNetworkTask,
    WeightsFile,
)
from napari_slidesam.tuning.synthetic import SyntheticVolumes
from napari_slidesam.tuning.task import StepLoss
from napari_slidesam.tuning.trainer import step_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.tuning.click_config import ClickTraining
    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.task import StepDraw, ValidationReport

WEIGHTS_FILE = "click.safetensors"
"""In the run's folder: the moving average, written beside each checkpoint."""

VALIDATION_BATCH = 32
VALIDATION_SEED = 7

_VIEWS, _AUGMENTATION = 1, 2
"""Streams of random numbers of one batch."""


class ClickTask(SmallNetworkTask[ClickNetwork]):
    """The click network, its moving average and labelled volumes; a `TrainingTask`.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Real ones and label maps.
    config : ClickTraining
        The weights are drawn from its seed.
    procedural : int
        Procedural volumes to draw from, too.
    device : str or torch.device

    Raises
    ------
    TuningError
        Nothing is left to train or validate on, or a volume to hold out is not there.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        config: ClickTraining,
        procedural: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        torch.manual_seed(config.seed)
        network = ClickNetwork(ClickConfig(widths=config.widths))
        file = WeightsFile(WEIGHTS_FILE, load_click, save_click)
        super().__init__(network, file, volumes, config, procedural, torch.device(device))
        self.config, grid = config, network.config
        series = SyntheticVolumes(config.seed, PROCEDURAL_SIDE)
        self._sampler = ClickSampler(self.trained, series, procedural, grid, config.draw)
        self._judged = self._judged_views(self.judged)
        self._generator = torch.Generator(self.device)
        self._augmented = ClickAugmenter(config.augment, grid.octaves, self._generator)

    # The trainer's side.

    def batch(self, draw: StepDraw) -> ClickBatch:
        """Return augmented views, drawn anew."""
        rng = np.random.default_rng(step_seed(draw, _VIEWS))
        self._generator.manual_seed(step_seed(draw, _AUGMENTATION))
        views = [self._sampler.draw(rng) for _ in range(draw.batch_size)]
        return self._augmented(ClickBatch.of(views, self.device))

    def loss(self, batch: ClickBatch) -> StepLoss:
        """Return cross-entropy and soft Dice of a batch, inside the planes."""
        config = self.config
        logits = self.model(batch.images, batch.inside).float()
        errors = F.binary_cross_entropy_with_logits(logits, batch.truths, reduction="none")
        cross_entropy = (errors * batch.inside).mean()
        soft_dice = self._overlap(logits.sigmoid(), batch).mean()
        total = config.cross_entropy * cross_entropy + config.dice * (1 - soft_dice)
        with torch.no_grad():
            hard = self._overlap((logits > 0).float(), batch).mean()
            parts = torch.stack([cross_entropy.detach(), soft_dice.detach(), hard]).tolist()
        names = ("cross_entropy", "soft_dice", "train_dice")
        return StepLoss(total, dict(zip(names, parts, strict=True)))

    @torch.no_grad()
    def validate(self, model: nn.Module, step: int) -> ValidationReport:
        """Return the Dice of the views that are held out.

        Parameters
        ----------
        model : ClickNetwork
            In evaluation mode.
        step : int
            Steps it was trained for.

        Returns
        -------
        ValidationReport
            The mean over views; by source, such as ``real/NAME``, the mean of its views.
        """
        started, values, sources = time.monotonic(), [], []
        for batch, names in self._judged:
            logits = model(batch.images, batch.inside).float()
            values.append(self._overlap((logits > 0).float(), batch))
            sources += names
        return self.reported(step, torch.cat(values), sources, started)

    def _judged_views(
        self, volumes: Sequence[LabelledVolume]
    ) -> list[tuple[ClickBatch, list[str]]]:
        """Return the views that are validated on: as they are, with clicks near the middle."""
        sampler, config = self._sampler, self.config
        if volumes:
            has_image = any(v.image is not None for v in volumes)
            draw = replace(
                config.draw,
                real=1.0 if has_image else 0.0,
                painted=0.0 if has_image else 1.0,
                procedural=0.0,
                inner_share=1.0,
                scaled_share=0.0,
                noise_share=0.0,
            )
            sampler = ClickSampler(volumes, grid=self.model.config, config=draw)
        rng = np.random.default_rng(VALIDATION_SEED)
        views = [sampler.draw(rng) for _ in range(config.validation_views)]
        parts = [views[k : k + VALIDATION_BATCH] for k in range(0, len(views), VALIDATION_BATCH)]
        return [(ClickBatch.of(p, self.device), [v.source for v in p]) for p in parts]

    def _overlap(self, found: torch.Tensor, batch: ClickBatch) -> torch.Tensor:
        """Return the Dice of each view, of areas in the plane: those of a ring grow outwards."""
        config = self.model.config
        rings = torch.arange(config.rings, device=found.device)[:, None] / config.rings - 1
        areas = 4.0 ** (rings * config.octaves) * batch.inside
        both = (found * batch.truths * areas).sum((1, 2))
        either = ((found + batch.truths) * areas).sum((1, 2))
        return 2 * both / either.clamp(min=1e-9)
