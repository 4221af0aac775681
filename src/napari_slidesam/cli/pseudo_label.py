"""``napari-slidesam pseudo-label``: masks for volumes without labels, to train on."""

from __future__ import annotations

import json as json_module
import time as clock
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from napari_slidesam.cli.outcome import (
    EXIT_INTERRUPTED,
    cancel_on_interrupt,
    reported_errors,
    set_up_logging,
    stderr_console,
)
from napari_slidesam.cli.outputs import COMPOUND_SUFFIXES
from napari_slidesam.cli.parsing import parse_channel
from napari_slidesam.errors import ConfigError, FileFormatError

if TYPE_CHECKING:
    import threading

    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.tuning.pseudo_files import PseudoFacts, PseudoStore
    from napari_slidesam.tuning.pseudo_labels import PseudoConfig
    from napari_slidesam.volume import Volume

Volumes = Annotated[
    list[Path],
    typer.Argument(help="NIfTI, TIFF, NRRD, NPY or OME-Zarr; one or more.", show_default=False),
]
OutFolder = Annotated[
    Path,
    typer.Option("--output", "-o", help="Gets a folder a volume, named like it.",
                 show_default=False),
]  # fmt: skip
Axes = Annotated[
    list[str] | None,
    typer.Option("--axis", help="Slices along z, y or x; repeatable. [z]"),
]
Every = Annotated[int, typer.Option(metavar="N", help="Only every Nth slice.")]
Prompts = Annotated[
    Literal["box", "point", "both"], typer.Option(help="What the network is given of a superpixel.")
]
MinIou = Annotated[
    float | None, typer.Option("--min-iou", help="Least predicted IoU of a mask. [0.6]")
]
Background = Annotated[
    float | None,
    typer.Option(
        help="Share of a slice's range below which is background; 0 for dark objects on bright "
        "ground. [0.1]"
    ),
]
Overlay = Annotated[
    Path | None, typer.Option(help="Also draw a picture (PNG) of slices with the outlines.")
]


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """One volume, and what is to be done of it."""

    volume: Volume
    folder: Path
    facts: PseudoFacts
    slices: list[tuple[int, int]]


def pseudo_label(
    volumes: Volumes,
    output: OutFolder,
    model: options.Model = "embedded",
    axis: Axes = None,
    every: Every = 1,
    prompts: Prompts = "box",
    min_iou: MinIou = None,
    background: Background = None,
    channel: options.Channel = None,
    level: options.Level = 0,
    time: options.Time = None,
    device: options.Device = "auto",
    overlay: Overlay = None,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Outline whatever a network finds in volumes without labels, to train on it.

    The folder is given to 'finetune' as data, beside labelled volumes. Ctrl-C keeps the slices
    that are done; the same command then goes on where it was.
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.adapters import base_fingerprint
        from napari_slidesam.model.registry import load_model

        _check(volumes, overlay)
        config = _config(prompts, min_iou, background)
        network: Any = load_model(model, device)  # both kinds are modules
        made_by = (network.name, base_fingerprint(network))
        tasks = [
            _task(path, output, made_by, config, axis or ["z"], every, (channel, level, time))
            for path in volumes
        ]
        with cancel_on_interrupt() as cancel:
            stores, seconds = _run(tasks, network, config, cancel, is_quiet=quiet)
        _show(tasks, stores, seconds, output, overlay, as_json=json, is_quiet=quiet)
        if cancel.is_set():
            if not quiet:
                stderr_console().print("Interrupted: the same command goes on from here.")
            raise typer.Exit(EXIT_INTERRUPTED)


def _check(volumes: list[Path], overlay: Path | None) -> None:
    """Refuse what would fail after the work is done."""
    names = [_name(path) for path in volumes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"Each volume gets a folder of its name; {', '.join(twice)} is there twice. Give "
            "these volumes in commands of their own, with another --output."
        )
    if overlay is not None and not overlay.parent.is_dir():
        raise FileFormatError(
            f"The folder {overlay.parent} for {overlay.name} does not exist. Make it first."
        )


def _name(path: Path) -> str:
    """Return the name of a volume's folder; ``image.nii.gz`` is called as its folder is."""
    name = path.resolve().name
    suffix = next((s for s in COMPOUND_SUFFIXES if name.lower().endswith(s)), Path(name).suffix)
    stem = name[: len(name) - len(suffix)] or name
    return path.resolve().parent.name if stem == "image" else stem


def _config(prompts: str, min_iou: float | None, background: float | None) -> PseudoConfig:
    from napari_slidesam.tuning.pseudo_labels import PseudoConfig
    from napari_slidesam.tuning.superpixels import PromptKind, SuperpixelConfig

    kinds: dict[str, tuple[PromptKind, ...]] = {
        "box": ("box",), "point": ("point",), "both": ("box", "point"),
    }  # fmt: skip
    given = {"min_iou": min_iou, "background": background}
    changed: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
    return PseudoConfig(superpixels=SuperpixelConfig(kinds=kinds[prompts]), **changed)


def _task(
    path: Path,
    output: Path,
    made_by: tuple[str, str],
    config: PseudoConfig,
    axes: list[str],
    every: int,
    how: tuple[str | None, int, int | None],
) -> _Task:
    from napari_slidesam.io import read_volume
    from napari_slidesam.tuning.pseudo_files import PseudoFacts
    from napari_slidesam.tuning.pseudo_labels import plan_slices
    from napari_slidesam.volume import axis_from_name

    channel, level, time = how
    mix = None if channel is None else parse_channel(channel)
    volume = read_volume(path, channel=mix, level=level, time=time).volume
    name = _name(path)
    facts = PseudoFacts(
        name=name,
        image=str(path.resolve()),
        shape_zyx=volume.shape_zyx,
        model=made_by[0],
        config=config.to_dict(),
        fingerprint=made_by[1],
        channel=mix if mix is None or isinstance(mix, int) else tuple(mix),
        level=level,
        time=time,
    )
    slices = plan_slices(volume, [axis_from_name(a) for a in axes], every)
    return _Task(volume, output / name, facts, slices)


def _run(
    tasks: list[_Task],
    network: WindowModel,
    config: PseudoConfig,
    cancel: threading.Event,
    *,
    is_quiet: bool,
) -> tuple[list[PseudoStore], float]:
    """Make what is not done yet; return the stores and how long it took."""
    from napari_slidesam.tuning.pseudo_files import writing
    from napari_slidesam.tuning.pseudo_labels import pseudo_labels

    started = clock.perf_counter()
    stores = []
    bar = _bar()
    with nullcontext() if is_quiet else bar:
        progress = bar.add_task("slices", total=sum(len(t.slices) for t in tasks), masks=0)
        n_masks = 0
        for task in tasks:
            if cancel.is_set():
                break
            with writing(task.folder, task.facts) as store:
                stores.append(store)
                known = len(store.done.intersection(task.slices))
                bar.update(progress, advance=known, description=task.facts.name)
                found = pseudo_labels(
                    network, task.volume, task.slices, config, done=store.done, cancel=cancel
                )
                for one in found:
                    store.append(one)
                    n_masks += len(one.masks)
                    bar.update(progress, advance=1, masks=n_masks)
    return stores, clock.perf_counter() - started


def _bar() -> Progress:
    console = stderr_console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("slices, {task.fields[masks]} masks,"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )


def _show(
    tasks: list[_Task],
    stores: list[PseudoStore],
    seconds: float,
    output: Path,
    overlay: Path | None,
    *,
    as_json: bool,
    is_quiet: bool,
) -> None:
    """Draw the picture and print the summary."""
    pairs = list(zip(stores, (task.volume for task in tasks), strict=False))
    if overlay is not None and any(store.entries for store in stores):
        from napari_slidesam.tuning.pseudo_picture import write_pseudo_sheet

        write_pseudo_sheet(overlay, pairs)
    rows = [_row(store, task) for store, task in zip(stores, tasks, strict=False)]
    if as_json:
        facts = {"out": str(output), "seconds": round(seconds, 2), "volumes": rows}
        typer.echo(json_module.dumps(facts, indent=2))
    elif not is_quiet:
        for row in rows:
            typer.echo(
                f"{row['name']}: {row['masks']} masks on {row['slices']} of "
                f"{row['planned_slices']} slices, {row['seconds_per_slice']:.2f} s a slice, "
                f"{row['bytes'] / 1024:.1f} KiB"
            )
        typer.echo(f"pseudo-labels: {output}")


def _row(store: PseudoStore, task: _Task) -> dict[str, Any]:
    entries = store.entries
    seconds = sum(entry.seconds for entry in entries)
    dropped: dict[str, int] = {}
    for entry in entries:
        for reason, count in entry.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return {
        "name": store.facts.name,
        "volume": store.facts.image,
        "store": str(store.folder),
        "planned_slices": len(task.slices),
        "slices": len(entries),
        "masks": store.n_masks,
        "prompts": sum(entry.prompts for entry in entries),
        "dropped": dropped,
        "seconds": round(seconds, 2),
        "seconds_per_slice": round(seconds / max(len(entries), 1), 3),
        "bytes": store.n_bytes,
    }
