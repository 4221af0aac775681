"""``napari-slidesam train``: the networks of the package, and the pools they learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_slidesam.cli import options
from napari_slidesam.cli.outcome import reported_errors, set_up_logging
from napari_slidesam.cli.shown_training import show_training
from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from napari_slidesam.tuning.labelled import LabelledVolume
    from napari_slidesam.tuning.settings import Config, Settings

train = typer.Typer(no_args_is_help=True, help="Train the embedded networks from scratch.")

PoolFolders = Annotated[
    list[Path],
    typer.Option("--pool", help="Folder of a pool; several are joined.", show_default=False),
]
RunFolder = Annotated[
    Path, typer.Option("--out", "-o", help="Gets weights, checkpoint and log.", show_default=False)
]
Minutes = Annotated[float, typer.Option(min=0.01, help="Of training, over all resumed runs.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")]
Weights = Annotated[Path | None, typer.Option(help="Start from these weights, not random ones.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable."),
]
PoolFolder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the pool.", show_default=False)
]
LabelledFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder with one labelled volume a folder.")
]
Synthetic = Annotated[int, typer.Option(min=0, help="Made-up volumes to cut stacks from.")]
Stacks = Annotated[int, typer.Option("--stacks", "-n", min=1, help="Of the full pool.")]
Crops = Annotated[int, typer.Option("--crops", "-n", min=1, help="Of the full pool.")]
ClickVolumes = Annotated[int, typer.Option(min=0, help="Made-up volumes to click on.")]
OutlineVolumes = Annotated[int, typer.Option(min=0, help="Made-up volumes to outline.")]
CropVolumes = Annotated[int, typer.Option(min=0, help="Made-up volumes to cut crops from.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything random.")]


@train.command()
def embedded(
    pool: PoolFolders,
    out: RunFolder,
    minutes: Minutes = 60.0,
    resume: Resume = False,
    weights: Weights = None,
    setting: Setting = None,
    device: options.Device = "auto",
    seed: Seed = 0,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train the embedded network on pools of stacks.

    Ctrl-C keeps a checkpoint; --resume goes on from it.
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.registry import resolve_device
        from napari_slidesam.tuning.embedded import train_embedded
        from napari_slidesam.tuning.embedded_config import EmbeddedConfig
        from napari_slidesam.tuning.embedded_task import WEIGHTS_FILE

        config = _changed(EmbeddedConfig(), minutes, seed, setting)
        name = str(resolve_device(device))
        show_training(
            lambda cancel: train_embedded(
                pool,
                out,
                config,
                weights=weights,
                resume=resume,
                device=name,
                should_stop=cancel.is_set,
            ),
            out / WEIGHTS_FILE,
            seen="windows",
            as_json=json,
            is_quiet=quiet,
        )


@train.command()
def coarse(
    pool: PoolFolders,
    out: RunFolder,
    minutes: Minutes = 60.0,
    resume: Resume = False,
    weights: Weights = None,
    setting: Setting = None,
    device: options.Device = "auto",
    seed: Seed = 0,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train the coarse network on pools of crops.

    Ctrl-C keeps a checkpoint; --resume goes on from it.
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.registry import resolve_device
        from napari_slidesam.tuning.coarse import train_coarse
        from napari_slidesam.tuning.coarse_config import CoarseTraining
        from napari_slidesam.tuning.coarse_task import WEIGHTS_FILE

        config = _changed(CoarseTraining(), minutes, seed, setting)
        name = str(resolve_device(device))
        show_training(
            lambda cancel: train_coarse(
                pool,
                out,
                config,
                weights=weights,
                resume=resume,
                device=name,
                should_stop=cancel.is_set,
            ),
            out / WEIGHTS_FILE,
            seen="crops",
            as_json=json,
            is_quiet=quiet,
        )


@train.command()
def click(
    out: RunFolder,
    data: LabelledFolder = None,
    synthetic: ClickVolumes = 40,
    minutes: Minutes = 60.0,
    resume: Resume = False,
    weights: Weights = None,
    setting: Setting = None,
    device: options.Device = "auto",
    seed: Seed = 0,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train the click network on labelled and made-up volumes; it needs no pool.

    Ctrl-C keeps a checkpoint; --resume goes on from it.
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.registry import resolve_device
        from napari_slidesam.tuning.click import train_click
        from napari_slidesam.tuning.click_config import ClickTraining
        from napari_slidesam.tuning.click_task import WEIGHTS_FILE

        config = _changed(ClickTraining(), minutes, seed, setting)
        name = str(resolve_device(device))
        volumes = _labelled(data, synthetic)
        show_training(
            lambda cancel: train_click(
                volumes,
                out,
                config,
                procedural=synthetic,
                weights=weights,
                resume=resume,
                device=name,
                should_stop=cancel.is_set,
            ),
            out / WEIGHTS_FILE,
            seen="views",
            as_json=json,
            is_quiet=quiet,
        )


@train.command()
def outline(
    out: RunFolder,
    data: LabelledFolder = None,
    synthetic: OutlineVolumes = 60,
    minutes: Minutes = 60.0,
    resume: Resume = False,
    weights: Weights = None,
    setting: Setting = None,
    device: options.Device = "auto",
    seed: Seed = 0,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train the outline network on labelled and made-up volumes; it needs no pool.

    Ctrl-C keeps a checkpoint; --resume goes on from it.
    """
    with reported_errors(verbose):
        set_up_logging(verbose)
        from napari_slidesam.model.registry import resolve_device
        from napari_slidesam.tuning.outline import train_outline
        from napari_slidesam.tuning.outline_config import OutlineTraining
        from napari_slidesam.tuning.outline_task import WEIGHTS_FILE

        config = _changed(OutlineTraining(), minutes, seed, setting)
        name = str(resolve_device(device))
        volumes = _labelled(data, synthetic)
        show_training(
            lambda cancel: train_outline(
                volumes,
                out,
                config,
                procedural=synthetic,
                weights=weights,
                resume=resume,
                device=name,
                should_stop=cancel.is_set,
            ),
            out / WEIGHTS_FILE,
            seen="views",
            as_json=json,
            is_quiet=quiet,
        )


@train.command()
def pool(
    out: PoolFolder,
    data: LabelledFolder = None,
    synthetic: Synthetic = 120,
    stacks: Stacks = 24000,
    workers: Workers = 1,
    seed: Seed = 0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Fill a pool of stacks from labelled and made-up volumes.

    A pool that was interrupted goes on where it was when the same command is given again.
    """
    with reported_errors(verbose):
        set_up_logging(verbose if quiet else max(verbose, 1))
        from napari_slidesam.tuning.pool import write_pool

        volumes = _labelled(data, synthetic)
        made = write_pool(out, volumes, stacks, seed, workers, synthetic)
        if not quiet:
            typer.echo(f"{made.available} stacks in {out}")


@train.command()
def coarse_pool(
    out: PoolFolder,
    data: LabelledFolder = None,
    synthetic: CropVolumes = 60,
    crops: Crops = 8000,
    workers: Workers = 1,
    setting: Setting = None,
    seed: Seed = 0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Fill a pool of crops for the coarse network from labelled and made-up volumes.

    A pool that was interrupted goes on where it was when the same command is given again.
    """
    with reported_errors(verbose):
        set_up_logging(verbose if quiet else max(verbose, 1))
        from napari_slidesam.tuning.coarse_crops import DrawConfig
        from napari_slidesam.tuning.coarse_pool import write_coarse_pool

        config = _with_settings(DrawConfig(), setting)
        volumes = _labelled(data, synthetic)
        made = write_coarse_pool(
            out, volumes, crops, seed, workers, procedural=synthetic, config=config
        )
        if not quiet:
            typer.echo(f"{made.available} crops in {out}")


def _labelled(data: Path | None, synthetic: int) -> list[LabelledVolume]:
    """Read the labelled volumes of a folder, where one is given."""
    from napari_slidesam.tuning.labelled import read_labelled_folder

    if data is None and synthetic == 0:
        raise TuningError("Training needs volumes: give --data, or --synthetic above 0.")
    return [] if data is None else read_labelled_folder(data)


def _changed(config: Config, minutes: float, seed: int, settings: list[str] | None) -> Config:
    """Return a config with what the command line gives."""
    return _with_settings(replace(config, minutes=minutes, seed=seed), settings)


def _with_settings(config: Settings, settings: list[str] | None) -> Settings:
    """Return a config with the settings that the command line gives by name."""
    from napari_slidesam.tuning.settings import changed

    for one in settings or []:
        config = changed(config, one)
    return config
