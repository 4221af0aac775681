"""The bar of a training: steps, loss, Dice, time left."""

from __future__ import annotations

import math
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from napari_slidesam.jobs.events import (
    DataChecked,
    Finished,
    JobEvent,
    Probed,
    StateChanged,
    Stepped,
    Validated,
)


class TrainingProgress:
    """A progress bar that is told a job's events.

    Parameters
    ----------
    console : rich.console.Console
    is_quiet : bool
        Draw nothing.
    """

    def __init__(self, console: Console, is_quiet: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps{task.fields[numbers]},"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=is_quiet,
            transient=not console.is_terminal,
        )
        self._is_quiet = is_quiet
        self._task = self._bar.add_task("looking at the data", total=None, numbers="", left="")
        self._loss, self._dice = "", ""

    def __enter__(self) -> TrainingProgress:
        if not self._is_quiet:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_quiet:
            self._bar.stop()

    def show(self, event: JobEvent) -> None:
        """Draw the bar anew."""
        match event:
            case DataChecked():
                self._say("measuring the network")
            case Probed():
                gib = event.peak_memory_bytes / 2**30
                left = f"about {duration(event.seconds)}, {gib:.1f} GiB"
                self._bar.update(self._task, total=event.total_steps, left=left)
                self._say("validating")
            case Validated():
                self._dice = f", Dice {event.dice:.3f}"
                self._say("training")
            case Stepped():
                self._loss = f", loss {event.loss:.3f}"
                self._bar.update(
                    self._task,
                    completed=event.step,
                    total=max(event.step, event.total_steps),
                    left=f"{duration(event.seconds_left)} left",
                )
                self._say("training")
            case Finished() | StateChanged():
                self._say(event.state if isinstance(event, StateChanged) else "done")

    def _say(self, what: str) -> None:
        numbers = f"{self._loss}{self._dice}"
        self._bar.update(self._task, description=what, numbers=numbers)


def duration(seconds: float) -> str:
    """Return a length of time as people say it, such as ``3 min``."""
    if not math.isfinite(seconds):
        return "time unknown"
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    if whole < 90 * 60:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
