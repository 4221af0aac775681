"""Scores as pictures, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_slidesam.io import replacing_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from napari_slidesam.evaluation.report import Summary
    from napari_slidesam.evaluation.scores import ObjectScore

BARS_NAME = "dice_by_protocol.png"
_DPI = 120
_GROUP_WIDTH = 0.8
_DOT_AREA = 9.0


def write_plots(scores: Sequence[ObjectScore], summary: Summary, out_dir: Path) -> tuple[Path, ...]:
    """Write the mean Dice by protocol, and each protocol's objects by volume, as PNG.

    Returns
    -------
    tuple of Path
        ``dice_by_protocol.png`` and ``dice_by_volume_PROTOCOL.png``.
    """
    written = [out_dir / BARS_NAME]
    _save(_bars(summary), written[0])
    for protocol in summary.protocol_names:
        written.append(out_dir / f"dice_by_volume_{protocol}.png")
        _save(_objects(scores, summary, protocol), written[-1])
    return tuple(written)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with replacing_file(path, overwrite=True) as partial:
        figure.savefig(partial, dpi=_DPI)


def _axes(n_groups: int, n_methods: int) -> tuple[Figure, Axes]:
    width = 2.5 + 0.22 * n_groups * (n_methods + 1)
    figure = Figure(figsize=(min(max(width, 5.0), 20.0), 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylim(0, 1)
    axes.set_ylabel("Dice")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _bars(summary: Summary) -> Figure:
    names, protocols = summary.method_names, summary.protocol_names
    figure, axes = _axes(len(protocols), len(names))
    for i, name in enumerate(names):
        found = [summary.of(protocol, name) for protocol in protocols]
        heights = [np.nan if m is None else m.dice for m in found]
        places = np.arange(len(protocols)) + _offset(i, len(names))
        axes.bar(places, heights, _GROUP_WIDTH / len(names), label=name)
    axes.set_xticks(range(len(protocols)), protocols)
    axes.set_title("mean over volumes")
    axes.legend(fontsize="small")
    return figure


def _objects(scores: Sequence[ObjectScore], summary: Summary, protocol: str) -> Figure:
    names = [n for n in summary.method_names if summary.of(protocol, n) is not None]
    volumes = sorted({v.volume for v in summary.volumes if v.protocol == protocol})
    figure, axes = _axes(len(volumes), len(names))
    place = {volume: i for i, volume in enumerate(volumes)}
    half = 0.35 * _GROUP_WIDTH / len(names)
    for i, name in enumerate(names):
        rows = [s for s in scores if s.protocol == protocol and s.method == name]
        # Spread by rank, so that the dots of a volume do not hide each other.
        spread = half * np.sin(np.arange(len(rows)) * 2.4)
        centres = np.array([place[s.volume] for s in rows]) + _offset(i, len(names))
        dots = axes.scatter(
            centres + spread, [s.dice for s in rows], s=_DOT_AREA, alpha=0.6, lw=0, label=name
        )
        parts = [v for v in summary.volumes if (v.protocol, v.method) == (protocol, name)]
        means = [place[v.volume] + _offset(i, len(names)) for v in parts]
        axes.hlines(
            [v.dice for v in parts],
            np.subtract(means, half),
            np.add(means, half),
            colors=dots.get_facecolor(),
        )
    axes.set_xticks(range(len(volumes)), volumes, rotation=30, ha="right")
    axes.set_title(f"{protocol}: objects (dots) and their mean (lines)")
    axes.legend(fontsize="small", ncols=2)
    return figure


def _offset(position: int, n_methods: int) -> float:
    """Return where in its group a method stands; groups are 1 apart."""
    return _GROUP_WIDTH * ((position + 0.5) / n_methods - 0.5)
