"""What the trainer needs to train the embedded network from scratch on a pool of stacks."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from torch.nn import functional as F

from napari_slidesam.errors import TuningError
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.weights import load_weights, save_weights
from napari_slidesam.tuning.batches import BatchMaker, Sequence4, bounding_boxes
from napari_slidesam.tuning.losses import LossReport, hybrid_loss
from napari_slidesam.tuning.precision import autocast_dtype
from napari_slidesam.tuning.prompt_simulation import PromptSimulator
from napari_slidesam.tuning.selection import StackChoice
from napari_slidesam.tuning.task import StepLoss
from napari_slidesam.tuning.trainer import step_seed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_slidesam.model.lite.config import LiteConfig
    from napari_slidesam.model.lite.prompt_encoder import PromptTensors
    from napari_slidesam.tuning.embedded_config import EmbeddedConfig
    from napari_slidesam.tuning.pool_files import JoinedPools, Pool
    from napari_slidesam.tuning.task import StepDraw

WEIGHTS_FILE = "weights.safetensors"
"""In the run's folder: the moving average, written beside each checkpoint."""

_CHOICES, _AUGMENTATION = 1, 2
"""Streams of random numbers of one batch."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedBatch:
    """Windows with prompts.

    Parameters
    ----------
    windows, targets : Tensor of float32, shape (B, 3, H, W), range about [0, 1]
    prompts : PromptTensors
    """

    windows: torch.Tensor
    targets: torch.Tensor
    prompts: PromptTensors


class EmbeddedTask:
    """The embedded network, its moving average and a pool of stacks; a `TrainingTask`.

    Roll-outs and second looks are made by the moving average, which the trainer keeps in
    `average`.

    Parameters
    ----------
    pool : Pool or JoinedPools
    config : EmbeddedConfig
    network : LiteConfig, optional
        Dimensions of the network; its weights are drawn from the config's seed.
    device : str or torch.device
    """

    def __init__(
        self,
        pool: Pool | JoinedPools,
        config: EmbeddedConfig,
        network: LiteConfig | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.pool, self.config = pool, config
        self.device = torch.device(device)
        torch.manual_seed(config.seed)
        self.model = SlideSamLite(network).to(self.device)
        self.model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.steps_per_epoch = max(1, pool.available // config.batch_size)
        self._dtype = autocast_dtype(config.precision, self.device)
        self._generator = torch.Generator(self.device)
        self._batches = BatchMaker(config.augment, self._generator)
        self._simulator = PromptSimulator(config.prompts, self._generator)
        self._choice = StackChoice(
            pool,
            easy_part=config.easy_part,
            end_share=config.end_share,
            real_share=config.real_share,
            made_up_part=config.made_up_part,
        )

    def start_from(self, weights: Path) -> None:
        """Take the weights of a file instead of random ones."""
        self.load_trained_state(load_weights(weights).state_dict())

    # The trainer's side.

    def batch(self, draw: StepDraw) -> EmbeddedBatch:
        """Return augmented windows with simulated prompts."""
        config = self.config
        rng = np.random.default_rng(step_seed(draw, _CHOICES))
        self._generator.manual_seed(step_seed(draw, _AUGMENTATION))
        is_easy = draw.progress < config.easy_share
        indices = self._choice.draw(draw.batch_size, rng, easy=is_easy)
        raw = torch.from_numpy(self.pool.read(indices)).to(self.device)
        is_small = draw.progress < config.small_share
        sequence = self._batches(raw, config.small_size if is_small else None)
        is_rollout = draw.step >= config.rollout_after_steps
        is_rollout &= rng.random() < config.rollout_share
        if is_rollout:
            return self._either_direction(self._rolled_out(sequence))
        return self._either_direction(self._drawn(sequence, rng))

    def loss(self, batch: EmbeddedBatch) -> StepLoss:
        """Return the hybrid loss of a batch."""
        mask_logits, iou_logits, presence_logits = self.model(batch.windows, batch.prompts)
        everywhere = torch.ones_like(batch.targets[:, :, 0, 0])
        report = hybrid_loss(
            mask_logits, iou_logits, presence_logits, batch.targets, everywhere, self.config.losses
        )
        return StepLoss(report.total, _summary(report, iou_logits))

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Return all weights."""
        return dict(self.model.state_dict())

    def load_trained_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put weights back."""
        self.model.load_state_dict(dict(state))

    def average_state(self) -> dict[str, torch.Tensor]:
        """Return the weights of `average`, in which the trainer keeps its moving average."""
        return dict(self.average.state_dict())

    def export(self, out: Path, facts: Mapping[str, str]) -> None:
        """Write the moving average as weights that the package loads.

        Raises
        ------
        TuningError
            The file cannot be written.
        """
        try:
            save_weights(self.average, out / WEIGHTS_FILE, facts)
        except (OSError, SafetensorError) as error:
            raise TuningError(
                f"{WEIGHTS_FILE} in {out} cannot be written ({error}). The last checkpoint is "
                "whole: free some space and resume."
            ) from error

    # Windows and prompts.

    def _drawn(self, sequence: Sequence4, rng: np.random.Generator) -> EmbeddedBatch:
        """Window 2 with prompts a user draws, or with a box from the slice before."""
        masks = sequence.masks
        b = masks.shape[0]
        any_centre = masks[:, 2].flatten(1).any(1)
        any_before = masks[:, 1].flatten(1).any(1)
        handed = torch.rand(b, generator=self._generator, device=self.device)
        handed = (handed < self.config.handed_share) & any_before | ~any_centre
        before = torch.where(any_before.view(b, 1, 1), masks[:, 1], masks[:, 0])
        source = torch.where(handed.view(b, 1, 1), before, masks[:, 2])
        images, prompts = sequence.images[:, 1:], self._simulator.drawn(masks[:, 2], source)
        if rng.random() < self.config.second_look_share:
            prompts = self._simulator.with_own_masks(prompts, self._chosen_masks(images, prompts))
        return EmbeddedBatch(images, masks[:, 1:], prompts)

    def _rolled_out(self, sequence: Sequence4) -> EmbeddedBatch:
        """Window 2 with prompts from the network's own prediction of window 1."""
        images, masks = sequence.images, sequence.masks
        b = images.shape[0]
        centre = torch.where(masks[:, 1].flatten(1).any(1).view(b, 1, 1), masks[:, 1], masks[:, 2])
        first = self._simulator.drawn(masks[:, 1], centre)
        known = self._simulator.drifted(self._chosen_masks(images[:, :3], first)[:, 1:])
        boxes, found = bounding_boxes(known[:, 1] > 0)
        fallback, _ = bounding_boxes(centre)
        boxes = torch.where(found.view(b, 1), boxes, fallback)
        prompts = self._simulator.handed_on(boxes, known)
        return EmbeddedBatch(images[:, 1:], masks[:, 1:], prompts)

    @torch.no_grad()
    def _chosen_masks(self, windows: torch.Tensor, prompts: PromptTensors) -> torch.Tensor:
        """Return the logits (B, 3, H, W) of the candidates that the moving average trusts."""
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None):
            logits, quality, _ = self.average(windows, prompts)
        rows = torch.arange(len(windows), device=self.device)
        chosen = logits.float()[rows, quality.argmax(1)]
        return F.interpolate(chosen, size=windows.shape[-2:], mode="bilinear", align_corners=False)

    def _either_direction(self, batch: EmbeddedBatch) -> EmbeddedBatch:
        """Turn half of the windows around: sliding goes both ways."""
        count = len(batch.windows)
        turned = torch.rand(count, generator=self._generator, device=self.device) < 0.5
        windows, targets, masks = (
            torch.where(turned.view(-1, 1, 1, 1), t.flip(1), t)
            for t in (batch.windows, batch.targets, batch.prompts.masks)
        )
        return EmbeddedBatch(windows, targets, replace(batch.prompts, masks=masks))


def _summary(report: LossReport, iou_logits: torch.Tensor) -> dict[str, float]:
    chosen = report.true_iou.gather(1, iou_logits.argmax(1, keepdim=True))
    values = {
        "segmentation": report.segmentation,
        "iou_error": report.predicted_iou,
        "presence": report.presence,
        "iou_best": report.true_iou.amax(1).mean(),
        "iou_chosen": chosen.mean(),
    }
    # In one transfer: each waits for the GPU.
    numbers = torch.stack([v.float() for v in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))
