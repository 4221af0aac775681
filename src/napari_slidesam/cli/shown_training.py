"""A training of a network of the package, shown while it runs, and how it ended."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from napari_slidesam.cli.outcome import EXIT_INTERRUPTED, cancel_on_interrupt, stderr_console
from napari_slidesam.cli.training_progress import TrainingProgress
from napari_slidesam.jobs.events import Stepped, Validated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from threading import Event

    from napari_slidesam.tuning.task import StepReport


def show_training(
    begun: Callable[[Event], Iterator[StepReport]],
    weights: Path,
    *,
    seen: str,
    as_json: bool,
    is_quiet: bool,
) -> None:
    """Show a training that is begun with an event that ends it, and say how it ended."""
    last: StepReport | None = None
    with cancel_on_interrupt() as cancel, TrainingProgress(stderr_console(), is_quiet) as bar:
        for report in begun(cancel):
            if report.validation is not None:
                bar.show(Validated(**asdict(report.validation)))
            if report.step:
                last = report
                bar.show(Stepped.of(report))
    _say_how_it_ended(last, weights, seen, as_json=as_json, is_quiet=is_quiet)
    if cancel.is_set():
        stderr_console().print(
            "Interrupted; a checkpoint is kept. Give the same command with --resume to go on.",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED)


def _say_how_it_ended(
    last: StepReport | None, weights: Path, seen: str, *, as_json: bool, is_quiet: bool
) -> None:
    """Print a run's numbers and where its weights are.

    Parameters
    ----------
    last : StepReport, optional
        None: nothing was reported.
    weights : Path
        In the run's folder.
    seen : str
        What the task calls its windows.
    """
    dice = None if last is None or last.validation is None else last.validation.dice
    if as_json:
        facts = {} if last is None else asdict(Stepped.of(last))
        facts |= {} if dice is None else {"dice": dice}
        typer.echo(json_module.dumps({"folder": str(weights.parent), **facts}, indent=2))
    elif last is not None and not is_quiet:
        typer.echo(
            f"{last.step} steps, {last.windows} {seen} in {last.seconds / 60:.1f} min; "
            f"loss {last.loss:.3f}" + ("" if dice is None else f", Dice {dice:.3f}")
        )
        typer.echo(f"weights: {weights}")
