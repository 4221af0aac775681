"""Training of the embedded network from scratch on a pool of stacks.

Run it as ``python -m napari_slidesam.tuning.embedded --pool POOL --out RUN --minutes 60``; the
same command with ``--resume`` goes on from the last checkpoint. It needs nothing beyond torch,
numpy, scipy, scikit-image, nibabel and safetensors.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_slidesam.tuning.embedded_config import EmbeddedConfig
from napari_slidesam.tuning.embedded_task import EmbeddedTask
from napari_slidesam.tuning.pool_files import JoinedPools, Pool
from napari_slidesam.tuning.processes import processes_here, training_device
from napari_slidesam.tuning.settings import changed
from napari_slidesam.tuning.trainer import TrainerConfig, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_slidesam.tuning.task import StepReport

logger = logging.getLogger(__name__)

MAX_STEP_SECONDS = 10.0
"""More than any step takes; what is beyond it does not count as time trained."""

REPORT_EVERY = 50


def train_embedded(
    pools: Sequence[Path],
    out: Path,
    config: EmbeddedConfig,
    *,
    weights: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[StepReport]:
    """Train the embedded network on pools of stacks.

    Parameters
    ----------
    pools : sequence of Path
        Their folders; read as one pool.
    out : Path
        Folder of the run. ``weights.safetensors`` there is the moving average.
    config : EmbeddedConfig
    weights : Path, optional
        To start from, instead of random ones.
    resume : bool
        Go on from the folder's checkpoint where there is one.
    device : str
        Such as ``cpu``, ``cuda``, ``cuda:1``. Where several processes were launched, each takes
        its own.
    should_stop : callable, optional
        Asked between steps; when true, a checkpoint is written and the run ends early.

    Yields
    ------
    StepReport
        Every 50 steps, and at the end.

    Raises
    ------
    TuningError
        A pool cannot be read, or see `napari_slidesam.tuning.trainer.train`.
    CheckpointError
        ``weights`` cannot be read.
    DeviceError
        There is no such device.
    """
    processes = processes_here()
    pool = JoinedPools([Pool.open(folder) for folder in pools])
    task = EmbeddedTask(pool, config, device=training_device(device, processes))
    if weights is not None:
        task.start_from(weights)
    yield from train(
        task,
        out,
        trainer_config(config),
        resume=resume,
        should_stop=should_stop,
        accelerator=processes,
    )


def trainer_config(config: EmbeddedConfig, report_every: int = REPORT_EVERY) -> TrainerConfig:
    """Return the trainer's part of the settings."""
    return TrainerConfig(
        minutes=config.minutes,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        clip_norm=config.clip_norm,
        ema_decay=config.ema_decay,
        ema_every=config.ema_every,
        precision=config.precision,
        report_every=report_every,
        checkpoint_minutes=config.checkpoint_minutes,
        max_step_seconds=MAX_STEP_SECONDS,
        seed=config.seed,
    )


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
    reports = train_embedded(
        args.pool, args.out, config, weights=args.weights, resume=args.resume, device=args.device
    )
    for report in reports:
        logger.info("%s", _line(report))


def _line(report: StepReport) -> str:
    numbers = {"minutes": report.seconds / 60, "loss": report.loss, **report.parts}
    return f"step={report.step} windows={report.windows} " + " ".join(
        f"{name}={value:.4g}" for name, value in numbers.items()
    )


if __name__ == "__main__":
    main()
