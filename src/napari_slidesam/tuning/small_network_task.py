"""What the trainings of small networks on labelled volumes share: weights, files, reports."""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn

from napari_slidesam.errors import TuningError
from napari_slidesam.model.small_weights import started_from
from napari_slidesam.tuning.held_out import held_out_names
from napari_slidesam.tuning.task import ValidationReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from napari_slidesam.tuning.labelled import LabelledVolume

PROCEDURAL_SIDE = 96
"""Voxels along a procedural volume."""

STEPS_PER_EPOCH = 1000
"""Views are drawn anew all the time: there is no pass over the data."""

Network = TypeVar("Network", bound=nn.Module)


class HoldingOut(Protocol):
    """Settings of a training that holds volumes out."""

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names of the volumes; empty: they are drawn."""

    @property
    def held_out_volumes(self) -> int:
        """How many are drawn."""

    @property
    def seed(self) -> int:
        """Of everything random."""

    @property
    def draw(self) -> Any:
        """How views are drawn."""


@dataclass(frozen=True, slots=True)
class WeightsFile(Generic[Network]):
    """Where a network's moving average is written, and how.

    Parameters
    ----------
    name : str
        In the run's folder.
    load, save : callable
        As `napari_slidesam.model.click.weights.load_click` and ``save_click``.
    """

    name: str
    load: Callable[[Path], Network]
    save: Callable[[Network, Path, Mapping[str, str]], None]


class SmallNetworkTask(Generic[Network]):
    """A small network, its moving average and labelled volumes; a `TrainingTask` but for batches.

    Parameters
    ----------
    network : Module
        On the CPU; its ``config`` holds its dimensions.
    file : WeightsFile
    volumes : sequence of LabelledVolume
        Real ones and label maps.
    config : HoldingOut
    procedural : int
        Procedural volumes to draw from, too.
    device : torch.device

    Raises
    ------
    TuningError
        A volume to hold out is not there.
    """

    def __init__(
        self,
        network: Network,
        file: WeightsFile[Network],
        volumes: Sequence[LabelledVolume],
        config: HoldingOut,
        procedural: int,
        device: torch.device,
    ) -> None:
        self.device, self._file, self._draw = device, file, config.draw
        self.model: Network = network.to(device)
        self.average: Network = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.steps_per_epoch = STEPS_PER_EPOCH
        self.held_out = held_out_names(
            volumes, config.held_out, config.held_out_volumes, config.seed
        )
        self.trained = [v for v in volumes if v.name not in self.held_out]
        self.judged = [v for v in volumes if v.name in self.held_out] or self.trained
        self._names = (sorted(v.name for v in self.trained), procedural)
        self._start = "random weights"
        self._validated: ValidationReport | None = None

    @property
    def identity(self) -> str:
        """A digest of what is trained on and what is held out."""
        facts = repr((self._names, self.held_out, self._draw))
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
        given = self._file.load(weights)
        if given.config != self.model.config:
            raise TuningError(
                f"Weights to start from fit the settings {self.model.config}; those of {weights} "
                f"are of {given.config}. Give another file, or its settings."
            )
        self.load_trained_state(given.state_dict())
        self._start = weights.name

    def recall_start(self, out: Path) -> None:
        """Take over what a run that goes on says in its file about where it started from."""
        self._start = started_from(out / self._file.name, self._start)

    # The trainer's side.

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
            self._file.save(self.average, out / self._file.name, known)
        except (OSError, SafetensorError) as error:
            raise TuningError(
                f"{self._file.name} in {out} cannot be written ({error}). The last checkpoint is "
                "whole: free some space and resume."
            ) from error

    def reported(
        self, step: int, scores: torch.Tensor, sources: Sequence[str], started: float
    ) -> ValidationReport:
        """Return a validation's report, and keep it for the file's header.

        Parameters
        ----------
        step : int
            Steps that were trained.
        scores : Tensor of float, shape (N,)
            Dice of each view.
        sources : sequence of str
            Of each view, such as ``real/NAME``.
        started : float
            When the validation began, on the monotonic clock.
        """
        values, names = scores.cpu().numpy(), np.array(sources)
        by_source = {str(s): float(values[names == s].mean()) for s in np.unique(names)}
        seconds = time.monotonic() - started
        self._validated = ValidationReport(step, float(values.mean()), by_source, seconds)
        return self._validated
