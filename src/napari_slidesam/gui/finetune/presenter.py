"""A job's numbers as words, rows and curves: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.gui.finetune.state import (
    Action,
    CheckState,
    Curves,
    DiceRow,
    JobRow,
    LiveState,
    PreviewState,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.gui.finetune.history import JobHistory
    from napari_slidesam.jobs.entries import JobEntry
    from napari_slidesam.jobs.events import DataChecked, Probed

MAX_POINTS = 600
"""Points of a curve: more than a dock has pixels."""

MOST_LABELS = 8
"""Labels that the data check lists."""

_STATES = {
    "ready": "ready",
    "queued": "waiting",
    "running": "training",
    "paused": "paused",
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
    "interrupted": "interrupted",
}
_ASKED = {"pause": "pausing …", "stop": "stopping …"}

_TRUTH_RGB = (64, 200, 255)
_FOUND_RGB = (255, 196, 64)
_DISPLAY_PERCENTILES = (1.0, 99.0)


def duration(seconds: float) -> str:
    """Return a duration in words: "40 s", "12 min", "3 h 05 min"."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: float) -> str:
    """Return a number of bytes in words."""
    gib = n_bytes / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{n_bytes / 2**20:.0f} MiB"


def counted(n: int, thing: str) -> str:
    """Return "1 window" or "3 windows"."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def actions(entry: JobEntry, index: int, n_jobs: int) -> frozenset[Action]:
    """Return what can be asked for a job at a place of the queue."""
    is_going = entry.is_running or entry.state == "queued"
    rules = {
        Action.START: entry.can_start,
        Action.PAUSE: is_going and entry.asked == "run",
        Action.STOP: is_going,
        Action.CHECK: not entry.is_alive and not entry.is_checking,
        Action.UP: index > 0,
        Action.DOWN: index < n_jobs - 1,
        Action.DUPLICATE: True,
        Action.REMOVE: not entry.is_alive,
    }
    return frozenset(action for action, is_possible in rules.items() if is_possible)


def state_text(entry: JobEntry) -> str:
    """Return a job's state in a word or two."""
    if entry.is_running and entry.asked != "run":
        return _ASKED[entry.asked]
    if entry.is_checking and not entry.is_alive:
        return "checking …"
    return _STATES[entry.state]


def job_rows(
    entries: Sequence[JobEntry], histories: Mapping[str, JobHistory]
) -> tuple[JobRow, ...]:
    """Return the lines of the queue."""
    return tuple(
        _job_row(entry, i, len(entries), histories.get(entry.job_id))
        for i, entry in enumerate(entries)
    )


def _job_row(entry: JobEntry, index: int, n_jobs: int, history: JobHistory | None) -> JobRow:
    detail, share = "", None
    last = None if history is None else history.last
    if entry.is_running and last is not None:
        share = _share(last.step, last.total_steps)
        detail = f"{duration(last.seconds_left)} left"
    elif history is not None and history.finished is not None:
        detail = _gain(history.finished.before, history.finished.after)
    return JobRow(
        entry.job_id,
        entry.job.name,
        state_text(entry),
        detail,
        share,
        actions(entry, index, n_jobs),
    )


def _gain(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    if not before or not after:
        return ""
    a, b = (sum(values.values()) / len(values) for values in (before, after))
    return f"Dice {a:.3f} to {b:.3f}"


def _share(step: int, total: int) -> float:
    return min(1.0, step / total) if total > 0 else 0.0


def live_state(entry: JobEntry, history: JobHistory) -> LiveState:
    """Return everything about the job that is looked at, but its preview."""
    last, finished = history.last, history.finished
    is_over = entry.state in ("done", "stopped")
    message = entry.message
    if not message and history.said is not None and history.said.state == entry.state:
        message = history.said.message
    facts: tuple[tuple[str, str], ...] = ()
    if last is not None:
        epochs = "" if entry.job.minutes is not None else f" of {entry.job.epochs}"
        took = ("Took", duration(last.seconds))
        facts = (
            ("Epoch", f"{last.epoch:.1f}{epochs}"),
            ("Step", f"{last.step:,} of {last.total_steps:,}"),
            ("Time left", duration(last.seconds_left)) if entry.is_running else took,
            ("Memory", size(last.peak_memory_bytes)),
        )
    return LiveState(
        name=entry.job.name,
        state=state_text(entry),
        message=message,
        is_error=entry.state == "failed",
        share=None if last is None or is_over else _share(last.step, last.total_steps),
        facts=facts,
        check=check_state(entry, history),
        curves=curves(history),
        dice=dice_rows(history),
        can_use=finished is not None and is_over and not entry.is_alive,
    )


def check_state(entry: JobEntry, history: JobHistory) -> CheckState:
    """Return what is known about a job's data."""
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    if history.checked is not None:
        facts = _check_facts(history.checked, history.probed)
        warnings = history.checked.warnings
    problem = "" if entry.is_checking else history.problem
    return CheckState(entry.is_checking, facts, warnings, problem)


def _check_facts(checked: DataChecked, probed: Probed | None) -> tuple[tuple[str, str], ...]:
    amounts = (
        counted(checked.volumes, "volume"),
        counted(checked.objects, "object"),
        counted(checked.windows, "window"),
    )
    facts = [("Data", ", ".join(amounts))]
    if checked.labels:
        shown = [f"{label} ({n:,})" for label, n in checked.labels.items()]
        rest = f" and {len(shown) - MOST_LABELS} more" if len(shown) > MOST_LABELS else ""
        facts.append(("Windows by label", ", ".join(shown[:MOST_LABELS]) + rest))
    if checked.dropped:
        shown = [f"{reason}: {n:,}" for reason, n in checked.dropped.items()]
        facts.append(("Left out", "; ".join(shown)))
    if checked.pseudo_masks:
        of = counted(checked.pseudo_volumes, "volume")
        facts.append(("Mixed in", f"{counted(checked.pseudo_masks, 'pseudo-label')} of {of}"))
    if checked.validation:
        facts.append(("Held out", ", ".join(checked.validation)))
    if probed is not None:
        took = f"{duration(probed.seconds)} for {counted(probed.total_steps, 'step')}"
        facts.append(("Training takes", f"about {took}"))
        facts.append(("Memory", f"about {size(probed.peak_memory_bytes)}"))
    return tuple(facts)


def curves(history: JobHistory) -> Curves:
    """Return the curves, thinned out where there are more points than pixels."""
    steps = sorted(history.losses)
    every = -(-len(steps) // MAX_POINTS) or 1
    kept = steps[::-1][::every][::-1]
    validated = sorted(history.validations)
    return Curves(
        tuple(kept),
        tuple(history.losses[s] for s in kept),
        tuple(validated),
        tuple(history.validations[s].dice for s in validated),
    )


def dice_rows(history: JobHistory) -> tuple[DiceRow, ...]:
    """Return Dice by label: of the untouched network, and of the best one so far."""
    finished, validations = history.finished, history.validations
    if finished is not None:
        before, after = dict(finished.before), dict(finished.after)
    else:
        first = validations.get(0)
        tuned = [v for step, v in validations.items() if step > 0]
        before = {} if first is None else dict(first.dice_by_label)
        after = {} if not tuned else dict(max(tuned, key=lambda v: v.dice).dice_by_label)
    labels = list(dict.fromkeys((*before, *after)))
    rows = [DiceRow(label, before.get(label), after.get(label)) for label in labels]
    if len(rows) > 1:
        rows.append(DiceRow("mean", _mean(before), _mean(after)))
    return tuple(rows)


def _mean(values: Mapping[str, float]) -> float | None:
    return sum(values.values()) / len(values) if values else None


def preview_pictures(
    image: NDArray[np.float32],
    truth: NDArray[np.bool_],
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    title: str,
) -> PreviewState:
    """Return a slice with the masks before and after on it; the labels as an outline."""
    low, high = np.percentile(image, _DISPLAY_PERCENTILES)
    span = max(float(high - low), 1e-6)
    grey = (np.clip((image - low) / span, 0, 1) * 255).astype(np.uint8)
    pictures = [_overlaid(grey, mask, truth) for mask in (before, after)]
    return PreviewState(pictures[0], pictures[1], title)


def _overlaid(
    grey: NDArray[np.uint8], mask: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2)
    picture[mask] = picture[mask] // 2 + np.array(_FOUND_RGB, dtype=np.uint8) // 2
    picture[_outline(truth)] = _TRUTH_RGB
    return picture


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that have a neighbour outside it."""
    padded = np.pad(mask, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    outline: NDArray[np.bool_] = mask & ~core
    return outline
