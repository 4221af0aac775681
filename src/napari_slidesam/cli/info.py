"""``napari-slidesam info``: what this installation, or a volume, is."""

from __future__ import annotations

import json as json_module
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_slidesam.cli import options
from napari_slidesam.cli.outcome import reported_errors, set_up_logging
from napari_slidesam.cli.parsing import parse_channel

if TYPE_CHECKING:
    from napari_slidesam.io import VolumeFile

PACKAGES = (
    "napari-slidesam",
    "torch",
    "torchvision",
    "napari",
    "numpy",
    "zarr",
    "segment-anything",
)

SAMPLED_SLICES = 5
"""Slices read to tell the range of values."""

MaybeVolume = Annotated[
    Path | None, typer.Argument(help="A volume; without it, the installation.", show_default=False)
]


def info(
    volume: MaybeVolume = None,
    channel: options.Channel = None,
    level: options.Level = 0,
    time: options.Time = None,
    json: options.AsJson = False,
    verbose: options.Verbose = 0,
) -> None:
    """Tell versions, devices and networks, or what a volume holds."""
    with reported_errors(verbose):
        set_up_logging(verbose)
        if volume is None:
            facts = installation_facts()
        else:
            from napari_slidesam.io import read_volume

            mix = None if channel is None else parse_channel(channel)
            facts = volume_facts(read_volume(volume, channel=mix, level=level, time=time))
        if json:
            typer.echo(json_module.dumps(facts, indent=2))
            return
        width = max(map(len, facts))
        for name, value in facts.items():
            typer.echo(f"{name:<{width}}  {_text(value)}")


def installation_facts() -> dict[str, Any]:
    """Return versions, devices and networks; values are JSON-ready."""
    import torch

    from napari_slidesam.errors import CheckpointError
    from napari_slidesam.model.weights import EMBEDDED_PATH, read_header

    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    try:
        embedded = {
            "name": read_header(EMBEDDED_PATH).get("name", EMBEDDED_PATH.stem),
            "megabytes": round(EMBEDDED_PATH.stat().st_size / 1e6, 1),
        }
    except CheckpointError as error:
        embedded = {"missing": str(error)}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
        "cpu threads": torch.get_num_threads(),
        "cuda": cuda,
        "embedded network": embedded,
    }


def volume_facts(source: VolumeFile) -> dict[str, Any]:
    """Return what a volume file holds; values are JSON-ready.

    Only a few slices are read.
    """
    import numpy as np

    volume = source.volume
    stack = volume.along(0)
    chosen = np.unique(np.linspace(0, stack.n_slices - 1, SAMPLED_SLICES).astype(int))
    values = np.concatenate([stack.read(int(z)).ravel() for z in chosen])
    finite = values[np.isfinite(values)]
    percentiles = np.percentile(finite, (0, 1, 50, 99, 100)) if finite.size else []
    return {
        "path": str(source.path),
        "kind": source.kind,
        "shape_zyx": list(volume.shape_zyx),
        "dtype": str(volume.data.dtype),
        "spacing_zyx": list(volume.spacing_zyx),
        "unit": volume.unit,
        "axes": "zyx" if volume.channel_axis is None else f"zyx, channels {volume.channel_axis}",
        "orientation": _orientation(source),
        "values (0, 1, 50, 99, 100 %)": [round(float(v), 4) for v in percentiles],
        "not finite": int(values.size - finite.size),
        "slices read": [int(z) for z in chosen],
    }


def _orientation(source: VolumeFile) -> str | None:
    """Return where x, y and z point (R, A, S), or None where the format does not know."""
    affine = source.grid.affine_ras
    if affine is None:
        return None
    from nibabel.orientations import aff2axcodes

    return "".join(code or "?" for code in aff2axcodes(affine))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
