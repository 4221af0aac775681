"""How much of a run is left at most, and the bar that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from napari_slidesam.engine.results import SliceResult
from napari_slidesam.prompts import ObjectPrompts


class RemainingSlices:
    """Counts slices done and slices still possible, over all objects.

    An object's end is not known before it is reached: the total is what is left if it goes on
    to the end of the range, so it only shrinks.

    Parameters
    ----------
    prompts : sequence of ObjectPrompts
    z_range : tuple of 2 ints
        Half-open range of slices that may be entered.
    """

    def __init__(self, prompts: Sequence[ObjectPrompts], z_range: tuple[int, int]) -> None:
        self._spans = {p.object_id: z_range for p in prompts}
        self._anchors = {p.object_id: p.anchor_slices for p in prompts}
        self._seen: set[tuple[int, int]] = set()

    def add(self, result: SliceResult) -> None:
        """Count a result, and drop what lies behind the ends it reports."""
        index = result.slice_index
        self._seen.add((result.object_id, index))
        anchors = self._anchors[result.object_id]
        for stop in result.stops:  # one between two prompts says nothing of what lies beyond
            start, end = self._spans[result.object_id]
            if stop.direction > 0 and index >= anchors[-1]:
                end = min(end, index + 1)
            if stop.direction < 0 and index <= anchors[0]:
                start = max(start, index)
            self._spans[result.object_id] = (start, end)

    @property
    def done(self) -> int:
        """Slices with a result, summed over objects."""
        return len(self._seen)

    @property
    def total(self) -> int:
        """Slices with a result and slices still possible."""
        return max(self.done, sum(end - start for start, end in self._spans.values()))


class SliceProgress:
    """A progress bar: slice, objects, slices per second and time left at most.

    Parameters
    ----------
    console : rich.console.Console
    remaining : RemainingSlices
    n_objects : int
    is_quiet : bool
        Draw nothing.
    """

    def __init__(
        self, console: Console, remaining: RemainingSlices, n_objects: int, is_quiet: bool
    ) -> None:
        self._remaining = remaining
        self._objects = f"{n_objects} object{'s' * (n_objects > 1)}"
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("slices, {task.fields[speed]}/s,"),
            TimeElapsedColumn(),
            TextColumn("at most"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=is_quiet,
            transient=not console.is_terminal,
        )
        self._is_quiet = is_quiet
        self._task = self._bar.add_task(self._objects, total=remaining.total, speed="-")

    def __enter__(self) -> SliceProgress:
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

    def show(self, result: SliceResult) -> None:
        """Count a result and draw the bar anew."""
        self._remaining.add(result)
        speed = self._bar.tasks[0].speed
        self._bar.update(
            self._task,
            description=f"{self._objects}, slice {result.slice_index}",
            completed=self._remaining.done,
            total=self._remaining.total,
            speed="-" if speed is None else f"{speed:.0f}",
        )
