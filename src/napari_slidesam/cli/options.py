"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

VolumePath = Annotated[
    Path, typer.Argument(help="NIfTI, TIFF, NRRD, NPY or OME-Zarr.", show_default=False)
]
Model = Annotated[str, typer.Option(help="A name from 'models list' or a weights file.")]
Adapter = Annotated[
    Path | None, typer.Option(help="Folder of a LoRA adapter to put on it; see 'finetune'.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a summary for machines on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, help="Say more; -vv also shows where errors come from."
    ),
]
Level = Annotated[int, typer.Option(help="Resolution level of a multiscale image, 0 the finest.")]
Time = Annotated[int | None, typer.Option(help="Time point of an image with several.")]
Channel = Annotated[
    str | None, typer.Option(help="Channel number, or weights W,W,... to mix them.")
]
Propagation = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="JSON",
        help="Options of propagation, such as '{\"outline_look\": false}'.",
    ),
]
