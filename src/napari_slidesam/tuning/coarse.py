"""Training of the coarse network from scratch on a pool of crops."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from napari_slidesam.tuning.coarse_pool_files import JoinedCoarsePools
from napari_slidesam.tuning.coarse_task import CoarseTask
from napari_slidesam.tuning.processes import processes_here, training_device
from napari_slidesam.tuning.small_network_run import run_training, trainer_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_slidesam.tuning.coarse_config import CoarseTraining
    from napari_slidesam.tuning.task import StepReport


def train_coarse(
    pools: Sequence[Path],
    out: Path,
    config: CoarseTraining,
    *,
    weights: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[StepReport]:
    """Train the coarse network on pools of crops.

    Parameters
    ----------
    pools : sequence of Path
        Their folders; read as one pool.
    out : Path
        Folder of the run. ``coarse.safetensors`` there is the moving average.
    config : CoarseTraining
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
        Every 50 steps, at each validation, and at the end.

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
    pool = JoinedCoarsePools.open(pools)
    task = CoarseTask(pool, config, device=training_device(device, processes))
    yield from run_training(
        task,
        out,
        trainer_config(config, data_identity(task)),
        processes,
        weights=weights,
        resume=resume,
        should_stop=should_stop,
    )


def data_identity(task: CoarseTask) -> str:
    """Return a digest of what is trained on and what is held out.

    A run that goes on with other crops would validate on what it was trained on.
    """
    digest = hashlib.sha256()
    for indices in (task.split.training, task.split.validation):
        digest.update(indices.tobytes())
        digest.update("\n".join(task.pool.source_names(indices)).encode())
    return digest.hexdigest()[:12]
