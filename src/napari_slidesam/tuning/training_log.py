"""A run's log: CSV for people and programs, event files for TensorBoard, curves as a picture."""

from __future__ import annotations

import contextlib
import csv
import logging
import math
import time
from typing import TYPE_CHECKING

from napari_slidesam.errors import FileFormatError, TuningError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.tuning.curves import draw_curves
from napari_slidesam.tuning.event_file import PREFIX, EventFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from napari_slidesam.tuning.curves import Series
    from napari_slidesam.tuning.task import StepReport

logger = logging.getLogger(__name__)

LOG_FILE = "log.csv"
VALIDATION_FILE = "validation.csv"
CURVES_FILE = "curves.png"

FIXED_COLUMNS = (
    "step",
    "total_steps",
    "epoch",
    "windows",
    "loss",
    "dice",
    "learning_rate",
    "seconds",
    "seconds_left",
    "peak_memory_bytes",
)
"""Of ``log.csv``; the parts of the loss follow."""

VALIDATION_COLUMNS = ("step", "label", "dice")

SECONDS_BETWEEN_PICTURES = 60.0

Row = dict[str, str]


class TrainingLog:
    """Appends reports to the files of a run's folder.

    Parameters
    ----------
    out : Path
    after_step : int, optional
        Step of the checkpoint that the run goes on from: later rows are cut off, since these
        steps are made again. None: the files begin anew.

    Raises
    ------
    TuningError
        A file cannot be read or written.
    """

    def __init__(self, out: Path, after_step: int | None = None) -> None:
        self.out = out
        self._drawn = time.monotonic()
        with _disk_errors_explained(out):
            if after_step is None:
                for old in out.glob(f"{PREFIX}.*"):
                    old.unlink(missing_ok=True)
            self._rows = _rows_until(out / LOG_FILE, after_step)
            self._validations = _rows_until(out / VALIDATION_FILE, after_step)
            self._columns = list(FIXED_COLUMNS)
            self._add_columns(self._rows)
            _write(out / LOG_FILE, self._columns, self._rows)
            _write(out / VALIDATION_FILE, VALIDATION_COLUMNS, self._validations)
            self._events = EventFile(out, after_step)

    def add(self, report: StepReport) -> None:
        """Append a report.

        Raises
        ------
        TuningError
            The disk is full, say.
        """
        row, step = _row(report), str(report.step)
        self._rows.append(row)
        with _disk_errors_explained(self.out):
            if self._add_columns([row]):
                _write(self.out / LOG_FILE, self._columns, self._rows)
            else:
                _append(self.out / LOG_FILE, self._columns, [row])
            if report.validation is not None:
                labels = report.validation.dice_by_label.items()
                rows = [{"step": step, "label": n, "dice": _text(d)} for n, d in labels]
                self._validations += rows
                _append(self.out / VALIDATION_FILE, VALIDATION_COLUMNS, rows)
            self._events.add(report.step, _scalars(report))

    def draw(self) -> None:
        """Draw the curves, unless they were drawn a moment ago."""
        if time.monotonic() - self._drawn > SECONDS_BETWEEN_PICTURES:
            self._draw()

    def close(self) -> None:
        """Draw the curves and close the files."""
        self._draw()
        with contextlib.suppress(OSError):
            self._events.close()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if not self._rows:
            return
        labels = dict.fromkeys(row["label"] for row in self._validations)
        by_label = {
            name: _series([r for r in self._validations if r["label"] == name], "dice")
            for name in labels
        }
        loss, rate, dice = (_series(self._rows, n) for n in ("loss", "learning_rate", "dice"))
        try:
            draw_curves(self.out / CURVES_FILE, loss, rate, dice, by_label)
        except (FileFormatError, OSError) as error:
            # A picture is not worth ending a run for.
            logger.warning("the curves were not drawn: %s", error)

    def _add_columns(self, rows: Iterable[Row]) -> bool:
        """Take up the rows' columns; returns whether there were new ones."""
        known = len(self._columns)
        for row in rows:
            self._columns += [name for name in row if name not in self._columns]
        return len(self._columns) > known


def _row(report: StepReport) -> Row:
    validation = report.validation
    values: dict[str, float | None] = {
        name: getattr(report, name) for name in FIXED_COLUMNS if name != "dice"
    }
    values["dice"] = None if validation is None else validation.dice
    values |= report.parts
    return {name: _text(value) for name, value in values.items()}


def _text(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"


def _scalars(report: StepReport) -> dict[str, float]:
    """Return what TensorBoard shows, by tag."""
    scalars = {"loss": report.loss} | {f"loss/{n}": v for n, v in report.parts.items()}
    scalars |= {"learning_rate": report.learning_rate, "windows": float(report.windows)}
    if report.validation is not None:
        scalars["dice"] = report.validation.dice
        scalars |= {f"dice/{n}": d for n, d in report.validation.dice_by_label.items()}
    return {name: float(v) for name, v in scalars.items() if not math.isnan(v)}


def _series(rows: Iterable[Row], column: str) -> Series:
    points = [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
    return [step for step, _ in points], [value for _, value in points]


def _rows_until(path: Path, step: int | None) -> list[Row]:
    """Return the rows of a file up to a step; a row that a kill cut in half ends it."""
    if step is None or not path.is_file():
        return []
    rows = []
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if not str(row["step"]).isdigit() or None in row.values():
                break
            if int(row["step"]) <= step:
                rows.append(row)
    return rows


def _write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with (
        replacing_file(path, overwrite=True) as draft,
        draft.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _append(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    with path.open("a", encoding="utf-8", newline="") as stream:
        csv.DictWriter(stream, columns, restval="").writerows(rows)


@contextlib.contextmanager
def _disk_errors_explained(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, FileFormatError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TuningError(
            f"The log in {out} cannot be written: {reason}. The last checkpoint is whole: free "
            "some space and resume."
        ) from error
