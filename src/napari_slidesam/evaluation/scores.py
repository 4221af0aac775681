"""How well one object was found: one frozen row a prediction, and the CSV file of rows."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import EvaluationError
from napari_slidesam.metrics import dice, surface_dice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from napari_slidesam.engine.results import TrackStop
    from napari_slidesam.evaluation.placed import PlacedMask

ERROR_PREFIX = "error: "
"""What ``stop_reasons`` starts with where the method failed."""

MISSED_DICE = 0.1
"""Below it an object counts as missed."""


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """One object, segmented by one method from the prompts of one protocol.

    Parameters
    ----------
    volume, modality : str
    object : int
        Its label.
    protocol, method : str
    seed : int
        Of the box jitter.
    dice, surface_dice : float
        Over the whole volume; 0 where the method failed.
    dice_2d : float
        On the middle prompted slice alone.
    predicted_slices, true_slices : int
        Slices that hold at least one pixel of the prediction and of the object.
    seconds : float
        Wall time of this object; of a run with all objects at once, its share.
    predicted_quality : float
        What the method itself thought of the middle prompted slice (predicted IoU); NaN where
        it thought nothing.
    stop_reasons : str
        Such as ``"-1:empty +1:drift"``, or `ERROR_PREFIX` and the error's message.
    """

    volume: str
    object: int
    protocol: str
    method: str
    seed: int
    modality: str
    dice: float
    surface_dice: float
    dice_2d: float
    predicted_slices: int
    true_slices: int
    seconds: float
    predicted_quality: float
    stop_reasons: str

    @property
    def is_error(self) -> bool:
        """The method raised an error."""
        return self.stop_reasons.startswith(ERROR_PREFIX)

    @property
    def is_missed(self) -> bool:
        """The object was not found at all, for an error or any other reason."""
        return self.dice < MISSED_DICE

    @property
    def extent_ratio(self) -> float:
        """Predicted over true number of slices."""
        return self.predicted_slices / self.true_slices

    @property
    def key(self) -> tuple[str, int, str, str, int]:
        """What makes a row unique: volume, object, protocol, method, seed."""
        return (self.volume, self.object, self.protocol, self.method, self.seed)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a predicted mask agrees with the true one; the fields are `ObjectScore`'s."""

    dice: float
    surface_dice: float
    dice_2d: float
    predicted_slices: int
    true_slices: int


def agreement(
    predicted: PlacedMask,
    truth: PlacedMask,
    *,
    spacing_syx: tuple[float, float, float],
    middle_slice: int,
    tolerance: float | None = None,
) -> Agreement:
    """Compare two masks.

    Parameters
    ----------
    predicted, truth : PlacedMask
    spacing_syx : tuple of 3 floats
    middle_slice : int
        Where ``dice_2d`` is measured.
    tolerance : float, optional
        Of the surface Dice, in the spacing's unit; the largest spacing without it, so that
        one voxel beside counts as near along every axis.
    """
    near = max(spacing_syx) if tolerance is None else tolerance
    a, b = predicted.on_common_grid(truth)
    return Agreement(
        dice=dice(a, b),
        surface_dice=surface_dice(a, b, spacing_syx, near),
        dice_2d=dice(*predicted.plane(middle_slice).on_common_grid(truth.plane(middle_slice))),
        predicted_slices=len(predicted.slice_indices),
        true_slices=len(truth.slice_indices),
    )


def stops_text(stops: Iterable[TrackStop]) -> str:
    """Return stop reasons as text, such as ``"-1:empty +1:drift"``, sorted and each once."""
    return " ".join(sorted({f"{stop.direction:+d}:{stop.reason.value}" for stop in stops}))


class ScoreFile:
    """A CSV file of scores that grows row by row and survives being cut off.

    Parameters
    ----------
    path : Path
        Made with its folder where it is not there.

    Raises
    ------
    EvaluationError
        The file has other columns or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise EvaluationError(f"{path} cannot be used for scores: {error}.") from error
        complete = text[: text.rfind("\n") + 1]  # a killed run may leave half a row
        self.scores = list(_parsed(complete, path))
        if complete != text or not complete:
            self._write(complete or f"{','.join(_COLUMNS)}\n", "w")

    def append(self, score: ObjectScore) -> None:
        """Add one row; it is on disk when this returns."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(_cells(score))
        self._write(buffer.getvalue(), "a")
        self.scores.append(score)

    def _write(self, text: str, mode: str) -> None:
        try:
            with self.path.open(mode, encoding="utf-8", newline="") as file:
                file.write(text)
        except OSError as error:
            raise EvaluationError(
                f"{self.path} cannot be written: {error}. Free space or choose another folder; "
                "the rows written so far are kept and the run can be resumed."
            ) from error


_COLUMNS = tuple(f.name for f in fields(ObjectScore))
_INTEGERS = frozenset({"object", "seed", "predicted_slices", "true_slices"})
_FLOATS = frozenset({"dice", "surface_dice", "dice_2d", "seconds", "predicted_quality"})


def _cells(score: ObjectScore) -> list[str]:
    values = asdict(score)
    values["stop_reasons"] = " ".join(score.stop_reasons.split())  # one line a row
    return [
        ("" if math.isnan(v) else f"{v:.6g}") if isinstance(v, float) else str(v)
        for v in values.values()
    ]


def _parsed(text: str, path: Path) -> Iterator[ObjectScore]:
    rows = csv.DictReader(io.StringIO(text))
    if not text:
        return
    if tuple(rows.fieldnames or ()) != _COLUMNS:
        raise EvaluationError(
            f"{path} has other columns than scores have ({', '.join(_COLUMNS)}). Choose another "
            "output folder or remove the file."
        )
    for row in rows:
        try:
            yield ObjectScore(**{name: _value(name, cell) for name, cell in row.items()})
        except (TypeError, ValueError) as error:
            raise EvaluationError(
                f"{path}, line {rows.line_num} is not a row of scores: {error}. Remove the line "
                "or the file."
            ) from error


def _value(name: str, cell: str) -> Any:
    if name in _INTEGERS:
        return int(cell)
    if name in _FLOATS:
        return float(cell) if cell else np.nan
    return cell
