"""``napari-slidesam finetune``: labelled volumes in, an adapter out."""

from __future__ import annotations

import json as json_module
import logging
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_slidesam.cli import options
from napari_slidesam.cli.outcome import (
    EXIT_INTERRUPTED,
    cancel_on_interrupt,
    reported_errors,
    set_up_logging,
    stderr_console,
)
from napari_slidesam.cli.parsing import parse_axes, parse_intensity, parse_numbers, parse_pair
from napari_slidesam.cli.training_progress import TrainingProgress
from napari_slidesam.errors import TuningError
from napari_slidesam.jobs.events import DataChecked, Finished, StateChanged
from napari_slidesam.jobs.spec import JOB_FILE, FinetuneJob, PairSpec

if TYPE_CHECKING:
    from napari_slidesam.jobs.events import JobEvent

logger = logging.getLogger(__name__)

_DEFAULT = FinetuneJob("")

Data = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Folders (imagesTr and labelsTr as nnU-Net has them, one volume a folder, or images "
        "beside labels), CSV files of pairs, and folders that 'pseudo-label' made.",
        show_default=False,
    ),
]
Pairs = Annotated[
    list[str] | None,
    typer.Option("--pair", metavar="IMAGE,LABELS", help="One volume and its labels. Repeatable."),
]
Complete = Annotated[
    bool,
    typer.Option("--complete", help="Slices without any label are labelled: nothing is there."),
]
Unlabelled = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SLICES",
        help="Slices along z that are not labelled, such as '3 7 20-29'; once for each --pair, "
        "in their order.",
    ),
]
OutFolder = Annotated[
    Path, typer.Option("--out", "-o", help="Gets the job, its checkpoints and the adapter.")
]
Name = Annotated[str | None, typer.Option(help="Of the adapter; that of the folder without.")]
Rank = Annotated[int, typer.Option(min=1, help="Of the adapter.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the data, at most.")]
Minutes = Annotated[
    float | None, typer.Option(min=0.01, help="End after so many minutes of training.")
]
LearningRate = Annotated[float, typer.Option(help="The largest one; it warms up and decays.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Windows a step.")]
Accumulate = Annotated[int, typer.Option(min=1, help="Steps an update of the weights.")]
Axes = Annotated[
    str, typer.Option(help="Axes that are slid along, such as z or zyx; the first in validation.")
]
Labels = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Labels to train on; all without.")
]
Share = Annotated[
    float, typer.Option("--validation-share", help="Of the volumes, or of one's slices.")
]
Boxes = Annotated[
    int, typer.Option("--validation-boxes", help="Boxes an object in validation: 1, 3 or 5.")
]
Patience = Annotated[
    int, typer.Option(min=0, help="End after so many validations without a gain; 0: never.")
]
Alpha = Annotated[
    float | None, typer.Option(help="Scales the change by alpha / rank; not scaled without.")
]
Dropout = Annotated[float, typer.Option(help="Of the adapter, in training.")]
WeightDecay = Annotated[float, typer.Option(help="Of AdamW, on matrices.")]
Encoder = Annotated[
    bool,
    typer.Option(
        "--encoder/--no-encoder", help="Train the image encoder's attention; without, the decoder."
    ),
]
Decoder = Annotated[
    bool, typer.Option("--decoder/--no-decoder", help="Train the mask decoder too.")
]
Intensity = Annotated[
    str | None, typer.Option(help="As for 'segment'; that of its default without.")
]
Precision = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Checkpointing = Annotated[
    bool, typer.Option("--gradient-checkpointing", help="Less memory, more time.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the job in the folder, as it was set up.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only look at the data and say what would be trained on.")
]


def finetune(
    out: OutFolder,
    data: Data = None,
    pair: Pairs = None,
    complete: Complete = False,
    unlabelled: Unlabelled = None,
    name: Name = None,
    model: options.Model = _DEFAULT.model,
    rank: Rank = _DEFAULT.rank,
    alpha: Alpha = _DEFAULT.alpha,
    dropout: Dropout = _DEFAULT.dropout,
    epochs: Epochs = _DEFAULT.epochs,
    minutes: Minutes = _DEFAULT.minutes,
    learning_rate: LearningRate = _DEFAULT.learning_rate,
    weight_decay: WeightDecay = _DEFAULT.weight_decay,
    batch_size: BatchSize = _DEFAULT.batch_size,
    accumulate: Accumulate = _DEFAULT.accumulate,
    axes: Axes = "zyx",
    labels: Labels = None,
    validation_share: Share = _DEFAULT.validation_share,
    validation_boxes: Boxes = _DEFAULT.validation_boxes,
    patience: Patience = _DEFAULT.patience,
    encoder: Encoder = _DEFAULT.train_encoder,
    decoder: Decoder = _DEFAULT.train_decoder,
    intensity: Intensity = None,
    device: options.Device = _DEFAULT.device,
    precision: Precision = _DEFAULT.precision,
    gradient_checkpointing: Checkpointing = _DEFAULT.gradient_checkpointing,
    seed: Seed = _DEFAULT.seed,
    resume: Resume = False,
    dry_run: DryRun = False,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Teach a network your data: a LoRA adapter from labelled volumes.

    Part of the data is held out; on it the network before and after is compared by Dice, from
    boxes, and the best state is kept. Ctrl-C keeps a checkpoint; --resume goes on from it.
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        job = FinetuneJob(
            name=name or out.resolve().name,
            pairs=_pairs(pair or [], unlabelled or []),
            data=tuple(str(path.absolute()) for path in data or ()),
            complete=complete,
            model=model,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            epochs=epochs,
            minutes=minutes,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            accumulate=accumulate,
            axes=parse_axes(axes),
            labels=None if labels is None else parse_numbers(labels),
            validation_share=validation_share,
            validation_boxes=validation_boxes,
            patience=patience,
            train_encoder=encoder,
            train_decoder=decoder,
            intensity=None if intensity is None else parse_intensity(intensity).to_dict(),
            device=device,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
            seed=seed,
        )
        if dry_run:
            _check(FinetuneJob.load(out) if resume else job, out, as_json=json, is_quiet=quiet)
            return
        if not resume:
            _set_up(job, out)
        _run(out, as_json=json, is_quiet=quiet)


def data_lines(found: DataChecked) -> Iterator[str]:
    """Yield what will be trained on, for people."""
    labels = ", ".join(f"{label}: {n}" for label, n in found.labels.items())
    yield f"{found.volumes} volumes, {found.objects} objects, {found.windows} windows"
    yield f"windows by label: {labels}"
    yield f"held out: {'; '.join(found.validation) or 'nothing'}"
    if found.pseudo_masks:
        yield f"mixed in: {found.pseudo_masks} pseudo-labels of {found.pseudo_volumes} volumes"
    for reason, n in found.dropped.items():
        yield f"left out: {n} slices, {reason}"


def _pairs(texts: list[str], unlabelled: list[str]) -> tuple[PairSpec, ...]:
    from napari_slidesam.tuning.pair_files import parse_slices

    if unlabelled and len(unlabelled) != len(texts):
        raise TuningError(
            f"--unlabelled is given once for each --pair; got {len(unlabelled)} for {len(texts)}. "
            "Write '' for a pair whose slices are all labelled."
        )
    found: list[PairSpec] = []
    for text, slices in zip_longest(texts, unlabelled, fillvalue=""):
        image, labels = (path.absolute() for path in parse_pair(text))
        taken = {one.name for one in found}
        stem = image.name.partition(".")[0]
        name = stem if stem not in taken else f"{stem} {len(found) + 1}"
        found.append(PairSpec(name, str(image), str(labels), unlabelled=parse_slices(slices)))
    return tuple(found)


def _check(job: FinetuneJob, folder: Path, *, as_json: bool, is_quiet: bool) -> None:
    from napari_slidesam.jobs.checks import check_job

    found = check_job(job, folder)
    _warn(found)
    if as_json:
        typer.echo(json_module.dumps(_facts(found), indent=2))
    elif not is_quiet:
        for line in data_lines(found):
            typer.echo(line)


def _set_up(job: FinetuneJob, folder: Path) -> None:
    if (folder / JOB_FILE).exists():
        raise TuningError(
            f"{folder} holds a job already. Go on with it by --resume, or choose another folder."
        )
    if not job.data and not job.pairs:
        raise TuningError(
            "There is nothing to train on: give folders or CSV files, or --pair IMAGE,LABELS."
        )
    try:
        job.save(folder)
    except OSError as error:
        raise TuningError(f"The folder {folder} cannot be made: {error}.") from error


def _run(folder: Path, *, as_json: bool, is_quiet: bool) -> None:
    from napari_slidesam.jobs.run import run_job
    from napari_slidesam.jobs.status import read_ask, write_ask

    FinetuneJob.load(folder)  # says so where there is none
    write_ask(folder, "run")
    told = _Told()
    with cancel_on_interrupt() as cancel, TrainingProgress(stderr_console(), is_quiet) as bar:
        events = run_job(
            folder, ask=lambda: "pause" if cancel.is_set() else read_ask(folder), raises=True
        )
        for event in events:
            told.take(event)
            bar.show(event)
    _say_how_it_ended(told, folder, as_json=as_json, is_quiet=is_quiet)


class _Told:
    """The last event of each kind."""

    def __init__(self) -> None:
        self.by_kind: dict[str, JobEvent] = {}

    def take(self, event: JobEvent) -> None:
        self.by_kind[event.kind] = event
        if isinstance(event, DataChecked):
            _warn(event)

    @property
    def finished(self) -> Finished | None:
        found = self.by_kind.get(Finished.kind)
        return found if isinstance(found, Finished) else None

    @property
    def is_paused(self) -> bool:
        last = self.by_kind.get(StateChanged.kind)
        return isinstance(last, StateChanged) and last.state == "paused"


def _warn(found: DataChecked) -> None:
    for text in found.warnings:
        logger.warning("%s", text)


def _say_how_it_ended(told: _Told, folder: Path, *, as_json: bool, is_quiet: bool) -> None:
    finished = told.finished
    if as_json:
        facts = {kind: _facts(event) for kind, event in told.by_kind.items()}
        typer.echo(json_module.dumps({"folder": str(folder), **facts}, indent=2))
    elif finished is not None and not is_quiet:
        for line in result_lines(finished):
            typer.echo(line)
    if told.is_paused:
        stderr_console().print(
            f"Paused; a checkpoint is kept. Go on with: napari-slidesam finetune --resume -o "
            f"{folder}",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED)


def result_lines(finished: Finished) -> Iterator[str]:
    """Yield the table of Dice before and after, for people."""
    width = max([len("mean"), *(len(name) for name in finished.after)])
    if finished.after:
        yield f"{'Dice':<{width}}  before  after"
    for name, after in finished.after.items():
        yield f"{name:<{width}}  {finished.before.get(name, float('nan')):6.3f} {after:6.3f}"
    if finished.after:
        before = [finished.before[n] for n in finished.after if n in finished.before]
        means = (sum(v) / max(1, len(v)) for v in (before, list(finished.after.values())))
        first, last = means
        yield f"{'mean':<{width}}  {first:6.3f} {last:6.3f}"
    if finished.kept_step == 0:
        yield "No step was better than the untouched network: the adapter changes nothing."
    yield f"adapter: {finished.adapter}"


def _facts(event: JobEvent) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(event)
