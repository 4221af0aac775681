"""What the trainer needs to train the coarse network on a pool of crops."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F

from napari_slidesam.errors import TuningError
from napari_slidesam.model.coarse.config import CoarseConfig
from napari_slidesam.model.coarse.network import CoarseNetwork
from napari_slidesam.model.coarse.weights import load_coarse, save_coarse
from napari_slidesam.model.small_weights import started_from
from napari_slidesam.tuning.coarse_augment import CropAugmenter, CropBatch
from napari_slidesam.tuning.coarse_split import split_crops
from napari_slidesam.tuning.task import StepLoss, ValidationReport
from napari_slidesam.tuning.trainer import step_seed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_slidesam.tuning.coarse_config import CoarseTraining
    from napari_slidesam.tuning.coarse_pool_files import JoinedCoarsePools
    from napari_slidesam.tuning.task import StepDraw

WEIGHTS_FILE = "coarse.safetensors"
"""In the run's folder: the moving average, written beside each checkpoint."""

VALIDATION_BATCH = 16

_CHOICES, _AUGMENTATION = 1, 2
"""Streams of random numbers of one batch."""


class CoarseTask:
    """The coarse network, its moving average and a pool of crops; a `TrainingTask`.

    Parameters
    ----------
    pool : JoinedCoarsePools
        Says which cubes the network sees.
    config : CoarseTraining
        The weights are drawn from its seed.
    device : str or torch.device

    Raises
    ------
    TuningError
        Nothing is left to train or validate on.
    """

    def __init__(
        self,
        pool: JoinedCoarsePools,
        config: CoarseTraining,
        device: str | torch.device = "cpu",
    ) -> None:
        self.pool, self.config = pool, config
        self.device = torch.device(device)
        self._sources = pool.source_names(np.arange(pool.available))
        self.split = split_crops(self._sources, config)
        torch.manual_seed(config.seed)
        cubes = CoarseConfig(pool.side, pool.context, pool.samples, config.widths)
        self.model = CoarseNetwork(cubes).to(self.device)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.steps_per_epoch = max(1, self.split.training.size // config.batch_size)
        self._generator = torch.Generator(self.device)
        self._augmented = CropAugmenter(config.augment, self._generator)
        self._start = "random weights"
        self._validated: ValidationReport | None = None

    def start_from(self, weights: Path) -> None:
        """Take the weights of a file instead of random ones.

        Raises
        ------
        CheckpointError
            The file cannot be read.
        TuningError
            They are of a network of other dimensions, or for other cubes.
        """
        given = load_coarse(weights)
        if given.config != self.model.config:
            raise TuningError(
                f"Weights to start from fit the pool's cubes and the settings "
                f"{self.model.config}; those of {weights} are of {given.config}. Give another "
                "file, another pool, or its `widths`."
            )
        self.load_trained_state(given.state_dict())
        self._start = weights.name

    def recall_start(self, out: Path) -> None:
        """Take over what a run that goes on says in its file about where it started from."""
        self._start = started_from(out / WEIGHTS_FILE, self._start)

    # The trainer's side.

    def batch(self, draw: StepDraw) -> CropBatch:
        """Return augmented crops."""
        rng = np.random.default_rng(step_seed(draw, _CHOICES))
        self._generator.manual_seed(step_seed(draw, _AUGMENTATION))
        chosen = self.split.training[rng.integers(self.split.training.size, size=draw.batch_size)]
        return self._augmented(CropBatch.of(self.pool.read(np.sort(chosen)), self.device))

    def loss(self, batch: CropBatch) -> StepLoss:
        """Return cross-entropy and soft Dice of a batch, where planes lie inside the volume."""
        config = self.config
        logits = self.model(batch.images, batch.known, batch.inside).float()
        counted = _counted(batch).to(logits.dtype)
        errors = F.binary_cross_entropy_with_logits(logits, batch.truths, reduction="none")
        cross_entropy = (errors * counted).mean()
        found, truth = logits.sigmoid() * counted, batch.truths * counted
        both, either = (found * truth).sum((1, 2, 3)), (found + truth).sum((1, 2, 3))
        soft_dice = ((2 * both + config.smoothing) / (either + config.smoothing)).mean()
        total = config.cross_entropy * cross_entropy + config.dice * (1 - soft_dice)
        with torch.no_grad():
            hard = dice(logits, batch).mean()
            parts = torch.stack([cross_entropy.detach(), soft_dice.detach(), hard]).tolist()
        names = ("cross_entropy", "soft_dice", "train_dice")
        return StepLoss(total, dict(zip(names, parts, strict=True)))

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Return all weights."""
        return dict(self.model.state_dict())

    def load_trained_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put weights back."""
        self.model.load_state_dict(dict(state))

    def average_state(self) -> dict[str, torch.Tensor]:
        """Return the weights of `average`, in which the trainer keeps its moving average."""
        return dict(self.average.state_dict())

    @torch.no_grad()
    def validate(self, model: nn.Module, step: int) -> ValidationReport:
        """Return the Dice of the crops that are held out, as they are in the pool.

        Parameters
        ----------
        model : CoarseNetwork
            In evaluation mode.
        step : int
            Steps it was trained for.

        Returns
        -------
        ValidationReport
            The mean over crops; by source, such as ``real/NAME``, the mean of its crops.
        """
        started, values = time.monotonic(), []
        for rows in np.split(
            self.split.validation,
            range(VALIDATION_BATCH, self.split.validation.size, VALIDATION_BATCH),
        ):
            crops = CropBatch.of(self.pool.read(rows), self.device)
            values.append(dice(model(crops.images, crops.known, crops.inside), crops))
        scores = torch.cat(values).cpu().numpy()
        sources = np.array([self._sources[i] for i in self.split.validation])
        by_source = {str(s): float(scores[sources == s].mean()) for s in np.unique(sources)}
        seconds = time.monotonic() - started
        self._validated = ValidationReport(step, float(scores.mean()), by_source, seconds)
        return self._validated

    def export(self, out: Path, facts: Mapping[str, str]) -> None:
        """Write the moving average as weights that the package loads.

        The header says what it was trained and validated on, and the Dice of the last
        validation with its step.

        Raises
        ------
        TuningError
            The file cannot be written.
        """
        trained = sorted({self._sources[i] for i in self.split.training})
        known = {
            **facts,
            "start": self._start,
            "crops": str(self.split.training.size),
            "trained_on": ", ".join(trained),
            "held_out": self.split.held_out,
        }
        if self._validated is not None:
            known["dice"] = f"{self._validated.dice:.4f}"
            known["dice_step"] = str(self._validated.step)
            known["dice_crops"] = str(self.split.validation.size)
        try:
            save_coarse(self.average, out / WEIGHTS_FILE, known)
        except (OSError, SafetensorError) as error:
            raise TuningError(
                f"{WEIGHTS_FILE} in {out} cannot be written ({error}). The last checkpoint is "
                "whole: free some space and resume."
            ) from error


def dice(logits: torch.Tensor, crops: CropBatch) -> torch.Tensor:
    """Return the Dice of each crop where planes lie inside the volume.

    Parameters
    ----------
    logits : Tensor of float, shape (B, N, N, N)
    crops : CropBatch

    Returns
    -------
    Tensor of float32, shape (B,), range [0, 1]
    """
    counted = _counted(crops)
    found, truth = (logits > 0) & counted, (crops.truths > 0.5) & counted
    both, either = (found & truth).sum((1, 2, 3)), found.sum((1, 2, 3)) + truth.sum((1, 2, 3))
    return 2 * both / either.clamp(min=1)


def _counted(crops: CropBatch) -> torch.Tensor:
    """Return which planes along the prompted axis lie inside the volume: (B, N, 1, 1)."""
    return crops.inside[:, 0, :, None, None]
