"""What the trainer needs to train the outline network on labelled volumes."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from napari_slidesam.model.outline.network import OutlineNetwork
from napari_slidesam.model.outline.weights import load_outline, save_outline
from napari_slidesam.tuning.kept_views import KeptViews
from napari_slidesam.tuning.outline_augment import OutlineAugmenter, OutlineBatch
from napari_slidesam.tuning.outline_clicks import OutlineClicker, no_clicks
from napari_slidesam.tuning.outline_views import OutlineSampler
from napari_slidesam.tuning.small_network_task import (
    PROCEDURAL_SIDE,
    SmallNetworkTask,
    WeightsFile,
)
from napari_slidesam.tuning.synthetic import SyntheticVolumes
from napari_slidesam.tuning.task import StepDraw, StepLoss
from napari_slidesam.tuning.trainer import step_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.outline_config import OutlineTraining
    from napari_slidesam.tuning.outline_views import OutlineSample
    from napari_slidesam.tuning.task import ValidationReport

WEIGHTS_FILE = "outline.safetensors"
"""In the run's folder: the moving average, written beside each checkpoint."""

VALIDATION_BATCH = 32
VALIDATION_SEED = 7
SMOOTHING = 1.0
"""Samples added to both sides of the soft Dice."""

_VIEWS, _CHOICES, _AUGMENTATION = 1, 2, 3
"""Streams of random numbers: of one view, and of one batch."""


class OutlineTask(SmallNetworkTask[OutlineNetwork]):
    """The outline network, its moving average and labelled volumes; a `TrainingTask`.

    Each view has a number, which its draw depends on alone: a step draws the next ones, and sees
    some of the last ones again. So a run that goes on sees what it would have seen, though its
    first steps are slower, until the views in its reach are drawn again.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Real ones and label maps.
    config : OutlineTraining
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
        config: OutlineTraining,
        procedural: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        torch.manual_seed(config.seed)
        network = OutlineNetwork(config.network)
        network = network.to(memory_format=torch.channels_last)
        file = WeightsFile(WEIGHTS_FILE, load_outline, save_outline)
        super().__init__(network, file, volumes, config, procedural, torch.device(device))
        self.config = config
        series = SyntheticVolumes(config.seed, PROCEDURAL_SIDE)
        self._sampler = OutlineSampler(
            self.trained, series, procedural, network.config, config.draw
        )
        self._judged = self._judged_views(self.judged)
        self._generator = torch.Generator(self.device)
        self._augmented = OutlineAugmenter(config.augment, self._generator)
        self._clicked = OutlineClicker(config.clicks, self._generator)
        self._kept: dict[tuple[int, int], KeptViews[OutlineSample]] = {}

    # The trainer's side.

    def batch(self, draw: StepDraw) -> OutlineBatch:
        """Return augmented views, some of them drawn anew."""
        self._generator.manual_seed(step_seed(draw, _AUGMENTATION))
        views = self._views_of(draw).take(self._numbers(draw))
        return self._augmented(OutlineBatch.of(views, self.device))

    def loss(self, batch: OutlineBatch) -> StepLoss:
        """Return cross-entropy and soft Dice of a batch inside the planes, and that of quality.

        Some views hold clicks, many where the network errs without them.
        """
        config, truths = self.config, batch.truths
        clicks = self._clicked(batch, self.model)
        logits, quality = self.model(batch.images, batch.inside, batch.boxes, clicks)
        logits = logits.float()
        errors = F.binary_cross_entropy_with_logits(logits, truths, reduction="none")
        cross_entropy = (errors * batch.inside).mean()
        found = logits.sigmoid() * batch.inside
        both, either = (found * truths).sum((1, 2)), (found + truths).sum((1, 2))
        soft_dice = ((2 * both + SMOOTHING) / (either + SMOOTHING)).mean()
        hard = dice(logits.detach(), batch)
        surprise = F.binary_cross_entropy_with_logits(quality.float(), hard)
        total = config.cross_entropy * cross_entropy + config.dice * (1 - soft_dice)
        total = total + config.quality * surprise
        shown = (cross_entropy.detach(), soft_dice.detach(), surprise.detach(), hard.mean())
        names = ("cross_entropy", "soft_dice", "quality", "train_dice")
        return StepLoss(total, dict(zip(names, torch.stack(shown).tolist(), strict=True)))

    @torch.no_grad()
    def validate(self, model: nn.Module, step: int) -> ValidationReport:
        """Return the Dice of the views that are held out.

        Parameters
        ----------
        model : OutlineNetwork
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
            logits, _ = model(batch.images, batch.inside, batch.boxes, no_clicks(batch))
            values.append(dice(logits.float(), batch))
            sources += names
        return self.reported(step, torch.cat(values), sources, started)

    # Views.

    def _numbers(self, draw: StepDraw) -> list[int]:
        """Return which views a batch holds: the next ones, and some of those kept."""
        config = self.config
        fresh = math.ceil(draw.batch_size * config.new_share)
        stop = (draw.step + 1) * fresh
        rng = np.random.default_rng(step_seed(draw, _CHOICES))
        again = rng.integers(max(0, stop - config.kept_views), stop, draw.batch_size - fresh)
        return [*range(stop - fresh, stop), *again.tolist()]

    def _views_of(self, draw: StepDraw) -> KeptViews[OutlineSample]:
        """Return the views of a run's process."""
        row = (draw.seed, draw.process)

        def drawn(number: int) -> OutlineSample:
            one = StepDraw(draw.seed, number, draw.process, 1)
            return self._sampler.draw(np.random.default_rng(step_seed(one, _VIEWS)))

        if row not in self._kept:
            self._kept[row] = KeptViews(drawn, self.config.kept_views)
        return self._kept[row]

    def _judged_views(
        self, volumes: Sequence[LabelledVolume]
    ) -> list[tuple[OutlineBatch, list[str]]]:
        """Return the views that are validated on: upright, around boxes drawn with care."""
        sampler, config = self._sampler, self.config
        if volumes:
            has_image = any(v.image is not None for v in volumes)
            draw = replace(
                config.draw,
                real=1.0 if has_image else 0.0,
                painted=0.0 if has_image else 1.0,
                procedural=0.0,
                turned_share=0.0,
                sheared_share=0.0,
                loose_share=0.0,
                zoomed_share=0.0,
                shifted_share=0.0,
                other_step_share=0.0,
                noise_share=0.0,
            )
            sampler = OutlineSampler(volumes, grid=self.model.config, config=draw)
        rng = np.random.default_rng(VALIDATION_SEED)
        views = [sampler.draw(rng) for _ in range(config.validation_views)]
        parts = [views[k : k + VALIDATION_BATCH] for k in range(0, len(views), VALIDATION_BATCH)]
        return [(OutlineBatch.of(p, self.device), [v.source for v in p]) for p in parts]


def dice(logits: torch.Tensor, views: OutlineBatch) -> torch.Tensor:
    """Return the Dice of each view inside the plane.

    Parameters
    ----------
    logits : Tensor of float, shape (B, side, side)
    views : OutlineBatch

    Returns
    -------
    Tensor of float32, shape (B,), range [0, 1]
    """
    found, truth = (logits > 0) & views.inside, (views.truths > 0.5) & views.inside
    both, either = (found & truth).sum((1, 2)), found.sum((1, 2)) + truth.sum((1, 2))
    return torch.where(either > 0, 2 * both / either.clamp(min=1), 1.0)
