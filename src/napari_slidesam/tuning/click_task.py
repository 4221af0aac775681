"""What the trainer needs to train the click network on labelled volumes."""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F

from napari_slidesam.errors import TuningError
from napari_slidesam.model.click.config import ClickConfig
from napari_slidesam.model.click.network import ClickNetwork
from napari_slidesam.model.click.weights import load_click, save_click
from napari_slidesam.model.small_weights import started_from
from napari_slidesam.tuning.click_augment import ClickAugmenter, ClickBatch
from napari_slidesam.tuning.click_views import ClickSampler
from napari_slidesam.tuning.coarse_split import drawn_volumes
from napari_slidesam.tuning.synthetic import SyntheticVolumes
from napari_slidesam.tuning.task import StepLoss, ValidationReport
from napari_slidesam.tuning.trainer import step_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_slidesam.tuning.click_config import ClickTraining
    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.task import StepDraw

WEIGHTS_FILE = "click.safetensors"
"""In the run's folder: the moving average, written beside each checkpoint."""

PROCEDURAL_SIDE = 96
"""Voxels along a procedural volume."""

STEPS_PER_EPOCH = 1000
"""Views are drawn anew all the time: there is no pass over the data."""

VALIDATION_BATCH = 32
VALIDATION_SEED = 7

_VIEWS, _AUGMENTATION = 1, 2
"""Streams of random numbers of one batch."""


class ClickTask:
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
        self.config, self.device = config, torch.device(device)
        torch.manual_seed(config.seed)
        grid = ClickConfig(widths=config.widths)
        self.model = ClickNetwork(grid).to(self.device)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.steps_per_epoch = STEPS_PER_EPOCH
        self.held_out = _held_out(volumes, config)
        trained = [v for v in volumes if v.name not in self.held_out]
        series = SyntheticVolumes(config.seed, PROCEDURAL_SIDE)
        self._sampler = ClickSampler(trained, series, procedural, grid, config.draw)
        judged = [v for v in volumes if v.name in self.held_out] or trained
        self._names = (sorted(v.name for v in trained), procedural)
        self._judged = self._judged_views(judged)
        self._generator = torch.Generator(self.device)
        self._augmented = ClickAugmenter(config.augment, grid.octaves, self._generator)
        self._start = "random weights"
        self._validated: ValidationReport | None = None

    @property
    def identity(self) -> str:
        """A digest of what is trained on and what is held out."""
        facts = repr((self._names, self.held_out, self.config.draw))
        return hashlib.sha256(facts.encode()).hexdigest()[:12]

    def start_from(self, weights: Path) -> None:
        """Take the weights of a file instead of random ones.

        Raises
        ------
        CheckpointError
            The file cannot be read.
        TuningError
            They are of a network of other dimensions.
        """
        given = load_click(weights)
        if given.config != self.model.config:
            raise TuningError(
                f"Weights to start from fit the settings {self.model.config}; those of {weights} "
                f"are of {given.config}. Give another file, or its `widths`."
            )
        self.load_trained_state(given.state_dict())
        self._start = weights.name

    def recall_start(self, out: Path) -> None:
        """Take over what a run that goes on says in its file about where it started from."""
        self._start = started_from(out / WEIGHTS_FILE, self._start)

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
        scores, where = torch.cat(values).cpu().numpy(), np.array(sources)
        by_source = {str(s): float(scores[where == s].mean()) for s in np.unique(where)}
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
        names, procedural = self._names
        known = {
            **facts,
            "start": self._start,
            "trained_on": ", ".join(names),
            "procedural": str(procedural),
            "held_out": ", ".join(self.held_out) or "other views of what is trained on",
        }
        if self._validated is not None:
            known["dice"] = f"{self._validated.dice:.4f}"
            known["dice_step"] = str(self._validated.step)
        try:
            save_click(self.average, out / WEIGHTS_FILE, known)
        except (OSError, SafetensorError) as error:
            raise TuningError(
                f"{WEIGHTS_FILE} in {out} cannot be written ({error}). The last checkpoint is "
                "whole: free some space and resume."
            ) from error

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


def _held_out(volumes: Sequence[LabelledVolume], config: ClickTraining) -> tuple[str, ...]:
    """Return the names of the volumes that are validated on."""
    names = {v.name for v in volumes}
    unknown = sorted(set(config.held_out) - names)
    if unknown:
        raise TuningError(
            f"held_out names volumes of the data; {', '.join(unknown)} is not among "
            f"{', '.join(sorted(names))}."
        )
    real = sorted(v.name for v in volumes if v.image is not None)
    return config.held_out or drawn_volumes(real, config.held_out_volumes, config.seed)
