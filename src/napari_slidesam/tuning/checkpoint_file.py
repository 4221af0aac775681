"""A run's checkpoint and its best weights, as files that are replaced in one move."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.io.atomic import replacing_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

CHECKPOINT_FILE = "checkpoint.pt"
BEST_FILE = "best.safetensors"
FORMAT = "napari-slidesam/checkpoint"
VERSION = 1

_UNREADABLE = (OSError, EOFError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    step : int
        Optimiser steps made.
    windows : int
        Windows seen, over all processes.
    seconds : float
        Of training and validation, over all resumed runs.
    validated_step : int
        Step of the last validation; -1: there was none.
    validated_seconds : float
        When it ended.
    best_step : int
        Step of the best validation; -1: there was none.
    best_dice : float
    unimproved : int
        Validations since the best one.
    """

    step: int = 0
    windows: int = 0
    seconds: float = 0.0
    validated_step: int = -1
    validated_seconds: float = 0.0
    best_step: int = -1
    best_dice: float = 0.0
    unimproved: int = 0

    def after_validation(self, dice: float, least_gain: float = 0.0) -> Progress:
        """Return the progress with the best step, Dice and count after one more validation.

        Parameters
        ----------
        dice : float
        least_gain : float
            Share of what the untouched network lacks to 1 that a step gains, or else is not kept.
        """
        is_untouched = self.best_step == 0
        needed = clear_gain(self.best_dice, least_gain) if is_untouched else self.best_dice
        if self.best_step < 0 or dice > needed:
            return replace(self, best_step=self.step, best_dice=dice, unimproved=0)
        return replace(self, unimproved=self.unimproved + 1)


def clear_gain(dice: float, least_gain: float) -> float:
    """Return the Dice above which a gain over the untouched network's counts."""
    return dice + least_gain * (1 - dice)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """All that a run needs to go on as if it had never stopped.

    Parameters
    ----------
    progress : Progress
    trained : mapping of str to Tensor
        As of `TrainingTask.trained_state`.
    optimizer, scaler : dict
        State dictionaries.
    average : mapping of str to Tensor, optional
        The moving average.
    identity : mapping of str to str
        What a run that goes on from it must share, by name.
    config : mapping
        The trainer's settings, for people.
    """

    progress: Progress
    trained: Mapping[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: Mapping[str, torch.Tensor] | None
    identity: Mapping[str, str]
    config: Mapping[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a kill at any moment leaves the old one or the new one.

    Raises
    ------
    TuningError
        It cannot be written: the disk is full, say. The old one is as it was.
    """
    state = {f.name: getattr(checkpoint, f.name) for f in fields(Checkpoint)}
    state |= {"format": FORMAT, "version": VERSION, "progress": asdict(checkpoint.progress)}
    state |= {name: dict(state[name]) for name in ("trained", "identity", "config")}
    state["average"] = None if checkpoint.average is None else dict(checkpoint.average)
    try:
        with replacing_file(path, overwrite=True) as draft, draft.open("wb") as stream:
            _save(state, stream)
    except FileFormatError as error:
        raise _not_written(error) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, onto the CPU.

    Raises
    ------
    TuningError
        It is damaged, or of another program.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT or state["version"] != VERSION:
            raise KeyError("format")
        values = {f.name: state[f.name] for f in fields(Checkpoint)}
        values["progress"] = Progress(**state["progress"])
        return Checkpoint(**values)
    except KeyError as error:
        raise TuningError(
            f"{path.name} in {path.parent} is no checkpoint of this trainer ({error} is missing "
            "or foreign). Train in another folder, or without resuming."
        ) from error
    except (
        OSError,
        EOFError,
        RuntimeError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        raise TuningError(
            f"{path.name} in {path.parent} cannot be read ({error}). Train without resuming to "
            "begin anew."
        ) from error


def save_best(
    path: Path, state: Mapping[str, torch.Tensor], progress: Progress, facts: Mapping[str, str]
) -> None:
    """Write the weights of the best validation as safetensors.

    Parameters
    ----------
    path : Path
    state : mapping of str to Tensor
    progress : Progress
        Whose ``best_step`` and ``best_dice`` the header gets.
    facts : mapping of str to str
        More for the header.

    Raises
    ------
    TuningError
        It cannot be written.
    """
    tensors = {n: t.detach().cpu().contiguous().clone() for n, t in state.items()}
    header = {**facts, "step": str(progress.best_step), "dice": repr(progress.best_dice)}
    try:
        with replacing_file(path, overwrite=True) as draft:
            draft.write_bytes(save(tensors, metadata=header))
    except FileFormatError as error:
        raise _not_written(error) from error


@dataclass(frozen=True, slots=True, eq=False)
class BestWeights:
    """The weights of a run's best validation.

    Parameters
    ----------
    state : mapping of str to Tensor
        As of `TrainingTask.trained_state`, on the CPU.
    step : int
        Optimiser steps before it; 0 is the untouched network.
    dice : float
    """

    state: Mapping[str, torch.Tensor]
    step: int
    dice: float


def load_best(folder: Path) -> BestWeights | None:
    """Return the best weights of a run's folder, or None where nothing was validated.

    Raises
    ------
    TuningError
        The file is damaged.
    """
    path = folder / BEST_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}
        return BestWeights(state, int(header["step"]), float(header["dice"]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise TuningError(
            f"{BEST_FILE} in {folder} is damaged ({error}). Train without resuming to begin anew."
        ) from error


def sweep(folder: Path) -> None:
    """Remove the halves of files that a killed run left."""
    for name in (CHECKPOINT_FILE, BEST_FILE):
        for draft in folder.glob(f".*-{name}"):
            draft.unlink(missing_ok=True)


def _save(state: dict[str, Any], stream: BinaryIO) -> None:
    try:
        torch.save(state, stream)
    except RuntimeError as error:
        # torch's writer puts an error of its own in front of the disk's.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _not_written(error: FileFormatError) -> TuningError:
    return TuningError(
        f"The run could not be saved: {error} The last checkpoint is whole: resume when there is "
        "room."
    )
