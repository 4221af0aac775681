"""The seam between the trainer and what it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn


@dataclass(frozen=True, slots=True, eq=False)
class StepLoss:
    """What one batch gave.

    Parameters
    ----------
    total : Tensor, shape ()
        To minimise.
    parts : mapping of str to float
        Means for the log, such as ``segmentation`` or ``iou_chosen``.
    """

    total: torch.Tensor
    parts: Mapping[str, float] = field(default_factory=dict)


class TrainingTask(Protocol):
    """A network, its data and its loss; the trainer knows no more of them.

    Everything random in a batch comes from the two generators that the trainer seeds anew for
    each step, so that a run can go on anywhere and see the same batches.
    """

    @property
    def model(self) -> nn.Module:
        """The network, on its device."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one pass over the data."""

    def batch(self, draw: StepDraw) -> Any:
        """Return one batch on the model's device.

        Parameters
        ----------
        draw : StepDraw
        """

    def loss(self, batch: Any) -> StepLoss:
        """Return the loss of a batch, with gradients.

        The trainer calls it with the model in training mode, under its autocast.
        """

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that training changes: all weights, or an adapter's."""

    def load_trained_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put tensors as `trained_state` returns them back."""


@dataclass(frozen=True, slots=True)
class StepDraw:
    """Where the randomness of one batch comes from.

    Parameters
    ----------
    seed : int
        Of the run.
    step : int
        Micro-batches since the beginning of the run, from 0.
    process : int
        Rank among the processes, from 0; each sees batches of its own.
    batch_size : int
    progress : float, range [0, 1]
        The share of the run that is over.
    """

    seed: int
    step: int
    process: int
    batch_size: int
    progress: float = 0.0


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """Dice of real propagation on volumes that are not trained on.

    Parameters
    ----------
    step : int
        Optimiser steps before it; 0 is the untouched network.
    dice : float, range [0, 1]
        Mean over labels.
    dice_by_label : mapping of str to float
        By the pair's name and label, as ``pair/label``.
    seconds : float
    """

    step: int
    dice: float
    dice_by_label: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class StepReport:
    """The means since the last report, and where the run is.

    Parameters
    ----------
    step, total_steps : int
        Optimiser steps done and planned; where minutes limit the run, the plan is an estimate.
    epoch : float
    windows : int
        Windows seen, over all processes.
    loss : float
    parts : mapping of str to float
        Means of `StepLoss.parts`.
    learning_rate : float
    seconds : float
        Of training so far, over all resumed runs.
    seconds_left : float
        Estimated.
    peak_memory_bytes : int
        Of the process on the CPU, of the allocator on CUDA.
    validation : ValidationReport, optional
        Where one has just been made.
    """

    step: int
    total_steps: int
    epoch: float
    windows: int
    loss: float
    parts: Mapping[str, float]
    learning_rate: float
    seconds: float
    seconds_left: float
    peak_memory_bytes: int
    validation: ValidationReport | None = None


Validate = Callable[["nn.Module", int], ValidationReport]
"""Validates a network after so many steps; tuning knows no engine, so it is handed in."""


@runtime_checkable
class AveragedTask(Protocol):
    """A task that looks at the moving average of its network while it trains."""

    def average_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the task's own frozen copy of the network.

        Named and shaped as `TrainingTask.trained_state`; the trainer keeps its moving average
        in them, in place.
        """


@runtime_checkable
class RatedTask(Protocol):
    """A task whose parameters learn at different rates."""

    def rate_share(self, name: str) -> float:
        """Return the rate of a parameter of the network, by its name, over that of the run."""


@runtime_checkable
class ExportingTask(Protocol):
    """A task that writes its network in a form of its own beside each checkpoint."""

    def export(self, out: Path, facts: Mapping[str, str]) -> None:
        """Write the network.

        Parameters
        ----------
        out : Path
            The run's folder.
        facts : mapping of str to str
            How much training it has seen, for a file's header.
        """
