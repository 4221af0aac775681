"""``napari-slidesam demo``: a real volume, one box per object, Dice against known labels."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_slidesam.cli import options
from napari_slidesam.cli.grow import Grown, grow
from napari_slidesam.cli.outcome import EXIT_INTERRUPTED, reported_errors, set_up_logging
from napari_slidesam.cli.outputs import Outputs
from napari_slidesam.errors import FileFormatError

if TYPE_CHECKING:
    from napari_slidesam.engine.predictor import Predictor
    from napari_slidesam.evaluation.cases import Case, TrueObject
    from napari_slidesam.io import VolumeFile
    from napari_slidesam.prompts import ObjectPrompts

PROTOCOL = "1-box"
LABELS_NAME = "nuclei_labels.ome.tif"
PICTURE_NAME = "nuclei.png"
SESSION_NAME = "nuclei_session"

Gui = Annotated[bool, typer.Option("--gui", help="Open napari and watch the objects grow.")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Gets labels, picture and session.")]
NObjects = Annotated[int, typer.Option("--objects", min=1, help="Nuclei to segment, at most.")]


@dataclass(frozen=True, slots=True, eq=False)
class DemoCase:
    """The demo's volume, its objects and one box for each."""

    source: VolumeFile
    case: Case
    objects: tuple[TrueObject, ...]
    prompts: tuple[ObjectPrompts, ...]


def demo(
    gui: Gui = False,
    out: OutFolder = Path("demo-output"),
    objects: NObjects = 8,
    model: options.Model = "embedded",
    adapter: options.Adapter = None,
    device: options.Device = "auto",
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Segment nuclei of a real confocal volume from one box each.

    Prints the Dice against the labels that come with the volume, writes labels, a picture and
    the session. Needs the extra "samples"; --gui also a Qt binding (extra "all").
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.engine.predictor import Predictor
        from napari_slidesam.model.registry import load_model

        shown = nuclei_case(objects)
        predictor = Predictor(load_model(model, device, adapter=adapter))
        if gui:
            from napari_slidesam.gui.demo import run_demo

            run_demo(predictor, shown.case.volume, shown.case.labels_zyx, shown.prompts)
            return
        outputs = _outputs(out)
        grown = _grow(shown, predictor, is_quiet=quiet)
        outputs.write(shown.source, grown.session)
        _report(shown, grown, outputs, as_json=json, is_quiet=quiet)
        if grown.failure is not None:
            raise grown.failure
        if grown.was_interrupted:
            raise typer.Exit(EXIT_INTERRUPTED)


def nuclei_case(n_objects: int) -> DemoCase:
    """Return the sample volume of nuclei with one box for each of a few of them.

    Raises
    ------
    SlideSamError
        The package that carries the volume is not installed.
    """
    from napari_slidesam import sample_data
    from napari_slidesam.evaluation.cases import Case
    from napari_slidesam.evaluation.protocols import make_prompts
    from napari_slidesam.io.volume_file import Grid, VolumeFile

    sample = sample_data.nuclei()
    assert sample.labels is not None, "the nuclei come with labels"
    case = Case(sample.name, sample.image, sample.labels)
    objects = tuple(case.objects(n_objects))
    prompts = tuple(
        make_prompts(
            PROTOCOL,
            one.mask,
            volume_name=case.name,
            object_id=one.object_id,
            axis=case.axis,
            plane_shape_yx=case.plane_shape_yx,
            jitter=0.0,
        )
        for one in objects
    )
    source = VolumeFile(Path(f"{sample.name}.tif"), "tiff", sample.image, Grid())
    return DemoCase(source, case, objects, prompts)


def dice_by_object(shown: DemoCase, grown: Grown) -> dict[int, float]:
    """Return each object's Dice against its label."""
    from napari_slidesam.metrics import dice

    labels = shown.case.labels_zyx
    return {
        one.object_id: dice(grown.session.mask(one.object_id), labels == one.object_id)
        for one in shown.objects
    }


def _outputs(folder: Path) -> Outputs:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError(f"The folder {folder} cannot be made: {error}.") from error
    picture, session = folder / PICTURE_NAME, folder / SESSION_NAME
    return Outputs(folder / LABELS_NAME, picture, session, may_overwrite=True)


def _grow(shown: DemoCase, predictor: Predictor, *, is_quiet: bool) -> Grown:
    from napari_slidesam.engine.config import PropagationConfig

    volume, source = shown.case.volume, shown.case.name
    config = PropagationConfig()
    return grow(predictor, volume, shown.prompts, config, source=source, is_quiet=is_quiet)


def _report(
    shown: DemoCase, grown: Grown, outputs: Outputs, *, as_json: bool, is_quiet: bool
) -> None:
    scores = dice_by_object(shown, grown)
    mean = sum(scores.values()) / len(scores)
    if as_json:
        facts: dict[str, Any] = {
            "dice": {str(i): round(d, 4) for i, d in scores.items()},
            "mean_dice": round(mean, 4),
            "seconds": round(grown.seconds, 4),
            "labels": str(outputs.labels),
            "picture": str(outputs.overlay),
            "session": str(outputs.session),
        }
        typer.echo(json_module.dumps(facts, indent=2))
    elif not is_quiet:
        for line in _lines(shown, grown, scores):
            typer.echo(line)
        typer.echo(f"mean Dice {mean:.3f} from one box each, {grown.seconds:.1f} s")
        typer.echo(f"labels {outputs.labels}, picture {outputs.overlay}")


def _lines(shown: DemoCase, grown: Grown, scores: dict[int, float]) -> Sequence[str]:
    lines = [
        f"{shown.case.name}: {shown.case.volume.shape_zyx} voxels (z, y, x)",
        f"{'object':>6} {'box on':>6} {'slices':>6} {'true':>6}  Dice",
    ]
    for one, prompts in zip(shown.objects, shown.prompts, strict=True):
        (box,) = prompts.boxes
        found, true = len(grown.session.slices(one.object_id)), len(one.mask.slice_indices)
        dice = scores[one.object_id]
        lines.append(f"{one.object_id:>6} {box.slice_index:>6} {found:>6} {true:>6}  {dice:.3f}")
    return lines
