"""What a job has told so far, gathered from its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_slidesam.jobs.events import (
    DataChecked,
    Finished,
    JobEvent,
    Probed,
    StateChanged,
    Stepped,
    Validated,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True)
class JobHistory:
    """The events of one job, sorted; a run that goes on from a checkpoint replaces what it redoes.

    Parameters
    ----------
    checked, probed, last, finished, said : events, optional
        The newest of each kind.
    problem : str
        Why the look at the data failed.
    losses : dict of int to float
        By step.
    validations : dict of int to Validated
        By step; step 0 is the untouched network.
    """

    checked: DataChecked | None = None
    probed: Probed | None = None
    last: Stepped | None = None
    finished: Finished | None = None
    said: StateChanged | None = None
    problem: str = ""
    losses: dict[int, float] = field(default_factory=dict)
    validations: dict[int, Validated] = field(default_factory=dict)

    def add(self, events: Iterable[JobEvent]) -> bool:
        """Take events in; return whether there was any."""
        found = False
        for event in events:
            found = True
            self._add(event)
        return found

    def add_look(self, events: Iterable[JobEvent]) -> bool:
        """Take in the events of a look at the data; return whether there was any."""
        found = False
        for event in events:
            found = True
            if isinstance(event, StateChanged):
                self.problem = event.message
            else:
                self.problem = ""
                self._add(event)
        return found

    def _add(self, event: JobEvent) -> None:
        match event:
            case DataChecked():
                self.checked = event
            case Probed():
                self.probed = event
            case Stepped():
                self._forget_after(event.step - 1)
                self.last = event
                self.losses[event.step] = event.loss
            case Validated():
                self.validations[event.step] = event
            case Finished():
                self.finished = event
            case StateChanged():
                self.said = event

    def _forget_after(self, step: int) -> None:
        """Drop what a run told beyond the checkpoint that it went back to."""
        if self.last is not None and self.last.step > step:
            self.losses = {s: loss for s, loss in self.losses.items() if s <= step}
            self.validations = {s: v for s, v in self.validations.items() if s <= step}
