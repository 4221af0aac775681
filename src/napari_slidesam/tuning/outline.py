"""Training of the outline network on labelled volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_slidesam.tuning.outline_task import OutlineTask
from napari_slidesam.tuning.processes import processes_here, training_device
from napari_slidesam.tuning.small_network_run import run_training, trainer_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.outline_config import OutlineTraining
    from napari_slidesam.tuning.task import StepReport


def train_outline(
    volumes: Sequence[LabelledVolume],
    out: Path,
    config: OutlineTraining,
    *,
    procedural: int = 0,
    weights: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[StepReport]:
    """Train the outline network on views, some of them new at each step.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        Real ones and label maps.
    out : Path
        Folder of the run. ``outline.safetensors`` there is the moving average.
    config : OutlineTraining
    procedural : int
        Procedural volumes to draw from, too.
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
        The volumes give no views, or see `napari_slidesam.tuning.trainer.train`.
    CheckpointError
        ``weights`` cannot be read.
    DeviceError
        There is no such device.
    """
    processes = processes_here()
    task = OutlineTask(volumes, config, procedural, training_device(device, processes))
    yield from run_training(
        task,
        out,
        trainer_config(config, task.identity),
        processes,
        weights=weights,
        resume=resume,
        should_stop=should_stop,
    )
