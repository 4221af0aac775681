"""``napari-slidesam evaluate``: prompts by protocol on labelled volumes, scores in a table."""

from __future__ import annotations

import dataclasses
import json as json_module
import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from napari_slidesam.cli import options
from napari_slidesam.cli.outcome import reported_errors, set_up_logging, stderr_console
from napari_slidesam.cli.parsing import parse_config

if TYPE_CHECKING:
    from napari_slidesam.evaluation.report import Summary
    from napari_slidesam.evaluation.run import FolderEvaluation

NO_MODEL = "none"

Folder = Annotated[
    Path,
    typer.Argument(
        help="One labelled volume a folder (image.nii.gz, labels.nii.gz, meta.json), or "
        "imagesTr and labelsTr as nnU-Net has them.",
        show_default=False,
    ),
]
Protocols = Annotated[
    list[str] | None,
    typer.Option("--protocol", help="1-box, 3-box, 5-box, n-box or 1-point; repeatable. [1-box]"),
]
Methods = Annotated[
    list[str] | None, typer.Option("--method", help="A baseline, or 'all'; repeatable.")
]
EvaluatedModel = Annotated[
    str,
    typer.Option("--model", help="A name from 'models list', a weights file, or 'none'."),
]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Gets CSV, Markdown and plots.")]
Seed = Annotated[int, typer.Option(help="Of the box jitter.")]
Jitter = Annotated[float, typer.Option(help="Noise of the boxes, as a share of their sides.")]
LimitObjects = Annotated[int | None, typer.Option(help="At most so many objects a volume.")]
Workers = Annotated[int, typer.Option(help="Processes.")]


def evaluate(
    folder: Folder,
    protocol: Protocols = None,
    method: Methods = None,
    model: EvaluatedModel = "embedded",
    adapter: options.Adapter = None,
    device: options.Device = "auto",
    out: OutFolder = Path("evaluation"),
    seed: Seed = 0,
    jitter: Jitter = 0.05,
    limit_objects: LimitObjects = None,
    workers: Workers = 1,
    config: options.Propagation = None,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Measure a network and baselines on a folder of labelled volumes.

    An interrupted run goes on where it was when it is started again.
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.evaluation.baselines import BASELINES
        from napari_slidesam.evaluation.methods import ModelSpec
        from napari_slidesam.evaluation.run import FolderEvaluation

        propagation = parse_config(config)
        names = method or []
        run = FolderEvaluation(
            folder,
            protocol or ["1-box"],
            list(BASELINES) if "all" in names else names,
            None if model == NO_MODEL else ModelSpec(model, device, propagation, adapter=adapter),
            out_dir=out,
            seed=seed,
            jitter=jitter,
            limit_objects=limit_objects,
            workers=workers,
        )
        _run(run, is_quiet=quiet)
        _show(run.finish(), out, as_json=json, is_quiet=quiet)


def _run(run: FolderEvaluation, *, is_quiet: bool) -> None:
    console = stderr_console()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )
    with nullcontext() if is_quiet else bar:
        task = bar.add_task("evaluating", total=run.n_scores, completed=len(run.finished))
        for score in run.scores():
            what = f"{score.volume}, {score.protocol}, {score.method}"
            bar.update(task, advance=1, description=what)


def _show(summary: Summary, out: Path, *, as_json: bool, is_quiet: bool) -> None:
    from napari_slidesam.evaluation.report import to_markdown

    if as_json:
        rows = [_plain(dataclasses.asdict(m)) for m in summary.methods]
        typer.echo(json_module.dumps({"out": str(out), "methods": rows}, indent=2))
    elif not is_quiet:
        typer.echo(to_markdown(summary))
        typer.echo(f"scores, report and plots: {out}")


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: no numpy numbers, and null for what is not a number."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    item = value.item() if hasattr(value, "item") else value
    return None if isinstance(item, float) and math.isnan(item) else item
