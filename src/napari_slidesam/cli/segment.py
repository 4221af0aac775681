"""``napari-slidesam segment``: prompts and a volume in, labels out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from napari_slidesam.cli import options
from napari_slidesam.cli.grow import grow
from napari_slidesam.cli.outcome import EXIT_INTERRUPTED, reported_errors, set_up_logging
from napari_slidesam.cli.outputs import Outputs
from napari_slidesam.cli.parsing import (
    BOX_FORM,
    POINT_FORM,
    collect_prompts,
    parse_channel,
    parse_config,
    parse_intensity,
    parse_range,
)
from napari_slidesam.cli.report import RunReport

if TYPE_CHECKING:
    from napari_slidesam.engine.config import PropagationConfig
    from napari_slidesam.engine.predictor import Predictor
    from napari_slidesam.io import VolumeFile
    from napari_slidesam.prompts import ObjectPrompts

logger = logging.getLogger(__name__)

Boxes = Annotated[
    list[str] | None,
    typer.Option(
        metavar=BOX_FORM,
        help="A box on slice Z, half-open. Repeat it: each box is a new object, unless ID@ in "
        "front or --same-object says otherwise.",
    ),
]
Points = Annotated[
    list[str] | None,
    typer.Option(metavar=POINT_FORM, help="A click on (+) or beside (-) the object. Repeatable."),
]
SameObject = Annotated[bool, typer.Option("--same-object", help="All boxes are of one object.")]
Axis = Annotated[
    Literal["z", "y", "x"] | None,
    typer.Option(help="The axis that Z counts along; z, or that of the prompts file."),
]
PromptsFile = Annotated[Path | None, typer.Option(help="Prompts as JSON; --box and --point add.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Labels; beside the volume as NAME_labels without it."),
]
Intensity = Annotated[
    str | None,
    typer.Option(
        help="window (without it), ct, mr, percentiles[:LOW:HIGH], or limits:LOW:HIGH as stored."
    ),
]
ZRange = Annotated[
    str | None, typer.Option("--z-range", metavar="A:B", help="Stay on slices A up to, without, B.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Overlay = Annotated[
    Path | None, typer.Option(help="Also draw a picture (PNG) of slices with the outlines.")
]
SessionFolder = Annotated[
    Path | None, typer.Option("--session", help="Also save the session in this folder.")
]

Compat = Annotated[
    str | None,
    typer.Option(help="'published': do as the published predictor does, quirks included."),
]
EmbeddingsFolder = Annotated[
    Path | None,
    typer.Option(
        "--embeddings",
        help="Keep the embeddings of windows in this folder, for later runs; of use with "
        "networks that have them, such as the paper's.",
    ),
]


def segment(
    volume: options.VolumePath,
    box: Boxes = None,
    point: Points = None,
    same_object: SameObject = False,
    axis: Axis = None,
    prompts: PromptsFile = None,
    output: Output = None,
    intensity: Intensity = None,
    z_range: ZRange = None,
    channel: options.Channel = None,
    level: options.Level = 0,
    time: options.Time = None,
    model: options.Model = "embedded",
    adapter: options.Adapter = None,
    device: options.Device = "auto",
    overwrite: Overwrite = False,
    overlay: Overlay = None,
    session: SessionFolder = None,
    compat: Compat = None,
    config: options.Propagation = None,
    embeddings: EmbeddingsFolder = None,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Segment objects of a volume, each from as little as one box.

    Ctrl-C stops between two slices and writes what is done.
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        outputs = Outputs.beside(volume, output, overlay, session, may_overwrite=overwrite)
        outputs.check()
        from napari_slidesam.io import read_volume

        mix = None if channel is None else parse_channel(channel)
        source = read_volume(volume, channel=mix, level=level, time=time)
        wanted = _prompts(box, point, axis, prompts, same_object)
        propagation = _config(source, wanted, intensity, z_range, compat, config)
        predictor = _predictor(source, wanted, model, adapter, device, embeddings)
        grown = grow(
            predictor, source.volume, wanted, propagation, source=str(source.path), is_quiet=quiet
        )
        outputs.write(source, grown.session)
        report = RunReport(source, grown, outputs)
        report.show(as_json=json, is_quiet=quiet)
        if grown.failure is not None:
            raise grown.failure
        if grown.was_interrupted:
            raise typer.Exit(EXIT_INTERRUPTED)


def _prompts(
    boxes: list[str] | None,
    points: list[str] | None,
    axis: str | None,
    path: Path | None,
    same_object: bool,
) -> tuple[ObjectPrompts, ...]:
    from napari_slidesam.io import read_prompts
    from napari_slidesam.volume import axis_from_name

    return collect_prompts(
        boxes or (),
        points or (),
        axis=None if axis is None else axis_from_name(axis),
        same_object=same_object,
        from_file=() if path is None else read_prompts(path),
    )


def _config(
    source: VolumeFile,
    prompts: tuple[ObjectPrompts, ...],
    intensity: str | None,
    z_range: str | None,
    compat: str | None,
    others: str | None,
) -> PropagationConfig:
    """Return the options of propagation: ``others``, as JSON, and those that have their own."""
    config = parse_config(others)
    if intensity is not None:
        config = replace(config, intensity=parse_intensity(intensity))
    if z_range is not None:
        n_slices = source.volume.shape_zyx[prompts[0].axis]
        config = replace(config, z_range=parse_range(z_range, n_slices))
    return config if compat is None else replace(config, compat=compat)


def _predictor(
    source: VolumeFile,
    prompts: tuple[ObjectPrompts, ...],
    model: str,
    adapter: Path | None,
    device: str,
    embeddings: Path | None,
) -> Predictor:
    from napari_slidesam.engine.embedding_store import EmbeddingStore
    from napari_slidesam.engine.predictor import Predictor
    from napari_slidesam.model.registry import load_model

    for one in prompts:  # before the network is loaded
        stack = source.volume.along(one.axis)
        one.check_against(stack.n_slices, stack.plane_shape_yx)
    store = None if embeddings is None else EmbeddingStore(embeddings)
    predictor = Predictor(load_model(model, device, adapter=adapter), store=store)
    if store is not None and predictor.embeddings is None:
        logger.warning("%s has no embeddings: --embeddings has no effect", predictor.model.name)
    return predictor
