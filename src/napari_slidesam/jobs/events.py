"""What a running job tells: one event a line of JSON, read by the command line and the dock."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_slidesam.tuning.task import StepReport

JobState = Literal["queued", "running", "paused", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class DataChecked:
    """What will be trained on, before anything is.

    Parameters
    ----------
    volumes, windows, objects : int
    validation : tuple of str
        What is held out, in words.
    labels : mapping of str to int
        Windows by label.
    dropped : mapping of str to int
        Slices left out, by reason.
    warnings : tuple of str
        What is doubtful about the data, each a sentence that says what to do.
    pseudo_volumes, pseudo_masks : int
        Pseudo-labels that are mixed in; not among the counts above.
    """

    kind: ClassVar[str] = "checked"
    volumes: int
    windows: int
    objects: int
    validation: tuple[str, ...]
    labels: Mapping[str, int]
    dropped: Mapping[str, int]
    warnings: tuple[str, ...] = ()
    pseudo_volumes: int = 0
    pseudo_masks: int = 0


@dataclass(frozen=True, slots=True)
class Probed:
    """A measured guess of what the job takes: seconds in all, and bytes at its peak."""

    kind: ClassVar[str] = "probed"
    seconds: float
    peak_memory_bytes: int
    seconds_per_step: float
    total_steps: int


@dataclass(frozen=True, slots=True)
class Stepped:
    """The numbers of a `napari_slidesam.tuning.task.StepReport` without a validation."""

    kind: ClassVar[str] = "step"
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

    @classmethod
    def of(cls, report: StepReport) -> Stepped:
        """Return the event of a report."""
        values = {f.name: getattr(report, f.name) for f in fields(cls)}
        return cls(**{**values, "parts": dict(report.parts)})


@dataclass(frozen=True, slots=True)
class Validated:
    """Dice of real propagation on what is held out; step 0 is the untouched network."""

    kind: ClassVar[str] = "validated"
    step: int
    dice: float
    dice_by_label: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The adapter and what it changed.

    Parameters
    ----------
    adapter : str
        Its folder.
    before, after : mapping of str to float
        Dice by label, as in `Validated`.
    kept_step : int
        The step whose weights were kept: those of the best Dice.
    """

    kind: ClassVar[str] = "finished"
    adapter: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    kept_step: int


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The job's state, with a message for people where there is something to say."""

    kind: ClassVar[str] = "state"
    state: JobState
    message: str = ""


JobEvent = DataChecked | Probed | Stepped | Validated | Finished | StateChanged

_KINDS: dict[str, type[Any]] = {
    k.kind: k for k in (DataChecked, Probed, Stepped, Validated, Finished, StateChanged)
}


def to_line(event: JobEvent) -> str:
    """Return an event as one line of JSON, without a line break."""
    return json.dumps({"kind": event.kind, **asdict(event)})


def from_line(line: str) -> JobEvent:
    """Return the event of a line.

    Raises
    ------
    TuningError
        The line is no event.
    """
    try:
        values = json.loads(line)
        kind = _KINDS[values.pop("kind")]
        tuples = {f.name for f in fields(kind) if str(f.type).startswith("tuple")}
        values = {n: tuple(v) if n in tuples else v for n, v in values.items()}
        event: JobEvent = kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TuningError(f"{line[:80]!r} is no event of a job ({error}).") from error
    return event
