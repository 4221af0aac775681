"""A run's curves as a picture."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.io.atomic import replacing_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

_SMOOTHED_OVER = 20
"""Reports that one point of the smooth curve is the mean of, at most."""

_MAX_NAMED = 8
"""Labels that the legend names."""

_LOSS, _DICE, _PALE = "#0072b2", "#d55e00", "#9ecae1"

Series = tuple["Sequence[float]", "Sequence[float]"]
"""Steps and the values there."""


def draw_curves(
    path: Path, loss: Series, rate: Series, dice: Series, dice_by_label: Mapping[str, Series]
) -> None:
    """Draw loss, Dice and learning rate over the steps, as PNG.

    Does nothing where matplotlib is not installed.

    Parameters
    ----------
    path : Path
        Replaced where it exists.
    loss, rate, dice : tuple of two sequences of float
        Steps, and the values there.
    dice_by_label : mapping of str to such a tuple

    Raises
    ------
    FileFormatError
        The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("matplotlib is not installed: no curves are drawn")
        return
    figure = Figure(figsize=(7, 7 if dice[0] else 5))
    figure.subplots_adjust(left=0.13, right=0.97, top=0.97, bottom=0.08, hspace=0.12)
    heights = [3, 3, 1] if dice[0] else [3, 1]
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _draw_loss(axes[0], loss)
    if dice[0]:
        _draw_dice(axes[1], dice, dice_by_label)
    axes[-1].plot(*rate, color="0.4", linewidth=1)
    axes[-1].set_ylabel("learning rate")
    axes[-1].set_xlabel("step")
    for ax in axes:
        ax.grid(color="0.92")
    with replacing_file(path, overwrite=True) as draft:
        FigureCanvasAgg(figure)
        figure.savefig(draft, format="png")


def _draw_loss(ax: Axes, loss: Series) -> None:
    steps, values = loss
    ax.plot(steps, values, color=_PALE, linewidth=0.8, label="loss")
    width = min(_SMOOTHED_OVER, len(values) // 3)
    if width > 1:
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        ax.plot(steps[width - 1 :], smooth, color=_LOSS, label=f"mean of {width} reports")
    ax.set_ylabel("loss")
    ax.legend(frameon=False)


def _draw_dice(ax: Axes, dice: Series, by_label: Mapping[str, Series]) -> None:
    for number, (name, series) in enumerate(by_label.items()):
        label = name if number < _MAX_NAMED else None
        ax.plot(*series, linewidth=0.8, alpha=0.7, label=label)
    ax.plot(*dice, color=_DICE, linewidth=2, marker="o", label="mean")
    ax.set_ylabel("validation Dice")
    ax.set_ylim(0, 1)
    ax.legend(frameon=False, fontsize="small")
