"""Training of the embedded network from scratch on a pool of stacks.

Run it as ``python -m napari_slidesam.tuning.embedded --pool POOL --out RUN --minutes 60``; the
same command with ``--resume`` goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import csv
import logging
import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_slidesam.errors import TuningError
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.weights import load_weights, save_weights
from napari_slidesam.tuning.batches import BatchMaker, Sequence4, bounding_boxes
from napari_slidesam.tuning.embedded_config import EmbeddedConfig, changed
from napari_slidesam.tuning.losses import LossReport, hybrid_loss
from napari_slidesam.tuning.pool_files import JoinedPools, Pool
from napari_slidesam.tuning.prompt_simulation import PromptSimulator
from napari_slidesam.tuning.selection import StackChoice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_slidesam.model.lite.config import LiteConfig
    from napari_slidesam.model.lite.prompt_encoder import PromptTensors

logger = logging.getLogger(__name__)

MAX_STEP_SECONDS = 10.0
"""More than any step takes; what is beyond it does not count as time trained."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """Means over the steps since the last report; minutes are of training time."""

    step: int
    windows: int
    minutes: float
    loss: float
    segmentation: float
    iou_error: float
    presence: float
    iou_best: float
    iou_chosen: float
    learning_rate: float


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the reduced type to train in, or None for float32.

    ``auto`` takes bfloat16 where the hardware multiplies it natively.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise TuningError(f"precision is auto, float32 or bfloat16; got {precision!r}.")
    if precision == "float32":
        return None
    if precision == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None


class EmbeddedTrainer:
    """Network, optimiser and moving average of one run, stored in and resumed from a folder."""

    def __init__(
        self,
        pool: Pool | JoinedPools,
        out: Path,
        config: EmbeddedConfig,
        network: LiteConfig | None = None,
        device: str = "cpu",
    ) -> None:
        self.pool, self.out, self.config = pool, out, config
        self.device = torch.device(device)
        self.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.model = SlideSamLite(network).to(self.device)
        self.model.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.rng = np.random.default_rng(config.seed)
        self.batches = BatchMaker(config.augment, self.generator)
        self.simulator = PromptSimulator(config.prompts, self.generator)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )
        self.dtype = autocast_dtype(config.precision, self.device)
        self.step, self.windows, self.seconds = 0, 0, 0.0
        self._choice = StackChoice(
            pool,
            easy_part=config.easy_part,
            end_share=config.end_share,
            real_share=config.real_share,
            made_up_part=config.made_up_part,
        )

    def run(self, report_every: int = 50) -> Iterator[StepReport]:
        """Train until the minutes are over; yields a report every so many steps."""
        config, last_save = self.config, self.seconds
        history: list[dict[str, float]] = []
        while self.seconds < config.minutes * 60:
            started = time.monotonic()
            history.append(self._step())
            # A machine that slept, or a process that was stopped, did not train meanwhile.
            self.seconds += min(time.monotonic() - started, MAX_STEP_SECONDS)
            if self.step % report_every == 0:
                yield self._report(history)
                history.clear()
            if self.seconds - last_save > config.checkpoint_minutes * 60:
                last_save = self.seconds
                self.save()
        self.save()

    def _step(self) -> dict[str, float]:
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        easy = self._done < self.config.easy_share
        indices = self._choice.draw(self.config.batch_size, self.rng, easy=easy)
        raw = torch.from_numpy(self.pool.read(indices)).to(self.device)
        is_small = self._done < self.config.small_share
        sequence = self.batches(raw, self.config.small_size if is_small else None)
        rollout = self.step >= self.config.rollout_after_steps
        rollout &= self.rng.random() < self.config.rollout_share
        windows, targets, prompts = self._either_direction(
            *(self._rolled_out(sequence) if rollout else self._drawn(sequence))
        )
        self.model.train()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            mask_logits, iou_logits, presence_logits = self.model(windows, prompts)
        everywhere = torch.ones_like(targets[:, :, 0, 0])
        report = hybrid_loss(
            mask_logits, iou_logits, presence_logits, targets, everywhere, self.config.losses
        )
        self.optimizer.zero_grad(set_to_none=True)
        report.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        self.windows += self.config.batch_size
        if self.step % self.config.ema_every == 0:
            self._update_average()
        return self._summary(report, iou_logits)

    def _drawn(self, sequence: Sequence4) -> tuple[torch.Tensor, torch.Tensor, PromptTensors]:
        """Window 2 with prompts a user draws, or with a box from the slice before."""
        masks = sequence.masks
        b = masks.shape[0]
        any_centre = masks[:, 2].flatten(1).any(1)
        any_before = masks[:, 1].flatten(1).any(1)
        handed = torch.rand(b, generator=self.generator, device=self.device)
        handed = (handed < self.config.handed_share) & any_before | ~any_centre
        before = torch.where(any_before.view(b, 1, 1), masks[:, 1], masks[:, 0])
        source = torch.where(handed.view(b, 1, 1), before, masks[:, 2])
        images, prompts = sequence.images[:, 1:], self.simulator.drawn(masks[:, 2], source)
        if self.rng.random() < self.config.second_look_share:
            prompts = self.simulator.with_own_masks(prompts, self._chosen_masks(images, prompts))
        return images, masks[:, 1:], prompts

    def _rolled_out(self, sequence: Sequence4) -> tuple[torch.Tensor, torch.Tensor, PromptTensors]:
        """Window 2 with prompts from the network's own prediction of window 1."""
        images, masks = sequence.images, sequence.masks
        b = images.shape[0]
        centre = torch.where(masks[:, 1].flatten(1).any(1).view(b, 1, 1), masks[:, 1], masks[:, 2])
        first = self.simulator.drawn(masks[:, 1], centre)
        known = self.simulator.drifted(self._chosen_masks(images[:, :3], first)[:, 1:])
        boxes, found = bounding_boxes(known[:, 1] > 0)
        fallback, _ = bounding_boxes(centre)
        boxes = torch.where(found.view(b, 1), boxes, fallback)
        return images[:, 1:], masks[:, 1:], self.simulator.handed_on(boxes, known)

    @torch.no_grad()
    def _chosen_masks(self, windows: torch.Tensor, prompts: PromptTensors) -> torch.Tensor:
        """Return the logits (B, 3, H, W) of the candidates that the moving average trusts."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            logits, quality, _ = self.average(windows, prompts)
        rows = torch.arange(len(windows), device=self.device)
        chosen = logits.float()[rows, quality.argmax(1)]
        return F.interpolate(chosen, size=windows.shape[-2:], mode="bilinear", align_corners=False)

    def _either_direction(
        self, windows: torch.Tensor, targets: torch.Tensor, prompts: PromptTensors
    ) -> tuple[torch.Tensor, torch.Tensor, PromptTensors]:
        """Turn half of the windows around: sliding goes both ways."""
        turned = torch.rand(len(windows), generator=self.generator, device=self.device) < 0.5
        both = [
            torch.where(turned.view(-1, 1, 1, 1), t.flip(1), t)
            for t in (windows, targets, prompts.masks)
        ]
        return both[0], both[1], replace(prompts, masks=both[2])

    @property
    def _done(self) -> float:
        """The share of the run's time that is over."""
        return min(1.0, self.seconds / max(1e-9, self.config.minutes * 60))

    def _learning_rate(self) -> float:
        c = self.config
        warm = min(1.0, (self.step + 1) / c.warmup_steps)
        return c.learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * self._done)) + 1e-6

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        decay **= self.config.ema_every
        pairs = zip(
            self.average.state_dict().values(), self.model.state_dict().values(), strict=True
        )
        for kept, new in pairs:
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)

    @staticmethod
    def _summary(report: LossReport, iou_logits: torch.Tensor) -> dict[str, float]:
        chosen = report.true_iou.gather(1, iou_logits.argmax(1, keepdim=True))
        return {
            "loss": float(report.total.detach()),
            "segmentation": float(report.segmentation),
            "iou_error": float(report.predicted_iou),
            "presence": float(report.presence),
            "iou_best": float(report.true_iou.amax(1).mean()),
            "iou_chosen": float(chosen.mean()),
        }

    def _report(self, history: list[dict[str, float]]) -> StepReport:
        means = {name: float(np.mean([h[name] for h in history])) for name in history[0]}
        if not math.isfinite(means["loss"]):
            raise TuningError(
                f"The loss became {means['loss']} at step {self.step}. The last checkpoint in "
                f"{self.out.name} is good: resume from it with a smaller learning rate."
            )
        return StepReport(
            step=self.step,
            windows=self.windows,
            minutes=self.seconds / 60,
            learning_rate=self._learning_rate(),
            **means,
        )

    def save(self) -> None:
        """Write checkpoint and weights, each replaced in one move."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "progress": (self.step, self.windows, self.seconds),
        }
        partial = self.out / "checkpoint.pt.partial"
        torch.save(state, partial)
        os.replace(partial, self.out / "checkpoint.pt")
        save_weights(
            self.average,
            self.out / "weights.safetensors",
            {
                "windows": str(self.windows),
                "minutes": f"{self.seconds / 60:.1f}",
                "seed": str(self.config.seed),
            },
        )
        logger.info("saved at step %d, %d windows", self.step, self.windows)

    def start_from(self, weights: Path) -> None:
        """Take the weights of a file instead of random ones."""
        state = load_weights(weights).state_dict()
        self.model.load_state_dict(state)
        self.average.load_state_dict(state)

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            logger.info("no checkpoint in %s: starting afresh", self.out.name)
            return
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.rng.bit_generator.state = state["rng"]
        self.step, self.windows, self.seconds = state["progress"]


def main() -> None:
    """Train from the command line; see the module's docstring."""
    defaults = EmbeddedConfig()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--pool", type=Path, required=True, action="append", help="repeat to join several"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=defaults.minutes)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--weights", type=Path, help="start from these weights")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting"
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    config = EmbeddedConfig(
        minutes=args.minutes,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=args.seed,
    )
    for setting in args.set:
        config = changed(config, setting)
    pool = JoinedPools([Pool.open(folder) for folder in args.pool])
    trainer = EmbeddedTrainer(pool, args.out, config, device=args.device)
    if args.weights is not None:
        trainer.start_from(args.weights)
    if args.resume:
        trainer.resume()
    with (args.out / "log.csv").open("a", newline="") as stream:
        writer: csv.DictWriter[str] | None = None
        for report in trainer.run():
            row = asdict(report)
            if writer is None:
                writer = csv.DictWriter(stream, fieldnames=list(row))
                if stream.tell() == 0:
                    writer.writeheader()
            writer.writerow(row)
            stream.flush()
            logger.info("%s", " ".join(f"{k}={v:.4g}" for k, v in row.items()))


if __name__ == "__main__":
    main()
