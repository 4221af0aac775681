"""``napari-slidesam models``: which networks there are, fetching them, naming one's own."""

from __future__ import annotations

import json as json_module
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from napari_slidesam.cli import options
from napari_slidesam.cli.outcome import (
    EXIT_FAILURE,
    reported_errors,
    set_up_logging,
    stderr_console,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.model.entries import ModelEntry
    from napari_slidesam.model.transfer import DownloadProgress
    from napari_slidesam.model.verification import Verification

models = typer.Typer(
    no_args_is_help=True,
    help="Networks: list, download, verify, and names for your own files.",
)

Name = Annotated[str, typer.Argument(help="As 'models list' shows it.", show_default=False)]
Names = Annotated[list[str] | None, typer.Argument(help="Only these; all that are here without.")]
NewName = Annotated[str, typer.Argument(help="Letters, digits, '.', '_', '-'.", show_default=False)]
WeightsFile = Annotated[
    Path, typer.Argument(help="A weights file; it stays where it is.", show_default=False)
]
Fetched = Annotated[
    Path | None, typer.Option("--file", help="Take this file, fetched by hand, instead.")
]
Licence = Annotated[str | None, typer.Option(help="Of the weights.")]
Notes = Annotated[str, typer.Option(help="Anything worth remembering.")]


@models.command("list")
def list_models(json: options.AsJson = False, verbose: options.Verbose = 0) -> None:
    """List the known networks and your own; -v also tells where they come from."""
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.library import ModelLibrary

        library = ModelLibrary()
        entries = library.entries()
        if json:
            facts = {"folder": str(library.folder), "models": [_facts(e) for e in entries]}
            typer.echo(json_module.dumps(facts, indent=2))
            return
        for line in _table([("name", "state", "size", "title", "licence"), *map(_row, entries)]):
            typer.echo(line)
        if verbose:
            for entry in entries:
                typer.echo(f"{entry.name}: {entry.source or entry.path}. {entry.notes}".rstrip())
        typer.echo(f"models folder: {library.folder}")


@models.command()
def download(
    name: Name,
    file: Fetched = None,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Download a network into the models folder; goes on where an earlier try ended."""
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.downloads import take_model_file
        from napari_slidesam.model.library import ModelLibrary

        library = ModelLibrary()
        if file is None:
            _download(name, is_quiet=quiet)
        else:
            take_model_file(name, file, library)
        entry = library.entry(name)
        if json:
            typer.echo(json_module.dumps(_facts(entry), indent=2))
        elif not quiet:
            typer.echo(f"{entry.name} is here: {entry.path}")


@models.command()
def verify(
    names: Names = None,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Read files whole and compare their SHA-256; exit code 1 where one is damaged or gone."""
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.library import ModelLibrary
        from napari_slidesam.model.verification import verify_models

        found = []
        for one in verify_models(ModelLibrary(), *(names or ())):
            found.append(one)
            if not (json or quiet):
                typer.echo(_verification_line(one))
        if json:
            facts = {"models": [_verification_facts(v) for v in found]}
            typer.echo(json_module.dumps(facts, indent=2))
        if any(v.state in ("damaged", "missing") for v in found):
            raise typer.Exit(EXIT_FAILURE)


@models.command()
def add(
    name: NewName,
    path: WeightsFile,
    licence: Licence = None,
    notes: Notes = "",
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Give a weights file of your own a name that --model takes; the file is not copied."""
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.library import ModelLibrary

        entry = ModelLibrary().add(name, path, licence=licence, notes=notes)
        if json:
            typer.echo(json_module.dumps(_facts(entry), indent=2))
        elif not quiet:
            typer.echo(f"{entry.name} is {entry.path}")


@models.command()
def remove(
    name: Name,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Delete a downloaded network, or forget a name of your own (the file stays)."""
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.library import ModelLibrary

        entry = ModelLibrary().remove(name)
        if json:
            facts = {
                "name": entry.name,
                "path": str(entry.path),
                "file_deleted": not entry.is_user,
            }
            typer.echo(json_module.dumps(facts, indent=2))
        elif not quiet:
            kept = f"forgotten; {entry.path} stays" if entry.is_user else f"deleted: {entry.path}"
            typer.echo(f"{entry.name} {kept}")


def _download(name: str, *, is_quiet: bool) -> None:
    from napari_slidesam.model.downloads import download_model

    console = stderr_console()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )
    with nullcontext() if is_quiet else bar:
        task = bar.add_task(name, total=None)
        for progress in download_model(name):
            bar.update(
                task,
                description=_description(name, progress),
                completed=progress.received_bytes,
                total=progress.total_bytes,
            )


def _description(name: str, progress: DownloadProgress) -> str:
    reason = f" ({progress.message})" if progress.message else ""
    return f"{name}: {progress.stage}{reason}"


def _facts(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "state": str(entry.state),
        "path": str(entry.path),
        "kind": None if entry.kind is None else str(entry.kind),
        "licence": entry.licence,
        "source": entry.source or None,
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
        "own": entry.is_user,
        "downloadable": entry.is_downloadable,
        "notes": entry.notes,
    }


def _row(entry: ModelEntry) -> tuple[str, ...]:
    size = "-" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:,.0f} MB"
    state = str(entry.state)
    if not entry.is_ready and not entry.is_user:
        state = "to download" if entry.is_downloadable else "by hand"
    return entry.name, state, size, entry.title, entry.licence or "-"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _verification_line(found: Verification) -> str:
    line = f"{found.name}: {found.state}"
    if found.state == "damaged":
        return (
            f"{line}. {found.path} has the SHA-256 {found.found_sha256}, expected "
            f"{found.expected_sha256}"
        )
    if found.state == "missing":
        return f"{line}. There is no file at {found.path}"
    return line if found.found_sha256 is None else f"{line}, {found.found_sha256}"


def _verification_facts(found: Verification) -> dict[str, Any]:
    return {
        "name": found.name,
        "path": str(found.path),
        "state": str(found.state),
        "sha256": found.found_sha256,
        "expected_sha256": found.expected_sha256,
    }
