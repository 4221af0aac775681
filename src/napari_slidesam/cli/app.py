"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_slidesam import __version__
from napari_slidesam.cli.demo import demo
from napari_slidesam.cli.evaluate import evaluate
from napari_slidesam.cli.finetune import finetune
from napari_slidesam.cli.info import info
from napari_slidesam.cli.models import models
from napari_slidesam.cli.pseudo_label import pseudo_label
from napari_slidesam.cli.segment import segment
from napari_slidesam.cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"napari-slidesam {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    """One box on one slice of a volume, and the mask of the whole object.

    Exit codes: 0 done, 1 failed, 2 bad command or input, 130 interrupted (what was done is
    saved).
    """


app.command()(segment)
app.command()(info)
app.command()(demo)
app.command()(evaluate)
app.command()(finetune)
app.add_typer(train, name="train")
app.command()(pseudo_label)
app.add_typer(models, name="models")
