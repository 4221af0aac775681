"""The curves of a job as a picture, drawn by matplotlib in whatever thread asks for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_slidesam.gui.finetune.state import Curves

_DPI = 100.0
_LOSS, _DICE = "#d8a038", "#2f9d8b"
"""Told apart by people with red-green blindness, on dark and light."""

_SMOOTH_SHARE = 0.05
"""Of all points: the width of the running mean that is drawn over the loss."""

_drawing = threading.Lock()
"""matplotlib's fonts are shared by all figures of a process."""


@dataclass(frozen=True, slots=True)
class CurvesLook:
    """How large and in which colour the curves are drawn.

    Parameters
    ----------
    width_px, height_px : int
        Of the screen's own pixels.
    ratio : float
        Of those to Qt's.
    text_rgb : tuple of 3 floats, range [0, 1]
        The theme's text colour.
    font_pt : float
        The size of the theme's text.
    """

    width_px: int
    height_px: int
    ratio: float = 1.0
    text_rgb: tuple[float, float, float] = (0.9, 0.9, 0.9)
    font_pt: float = 8.0


def draw_curves(curves: Curves, look: CurvesLook) -> NDArray[np.uint8]:
    """Return loss above Dice, on a see-through ground.

    Returns
    -------
    ndarray of uint8, shape (H, W, 4)
        RGBA.
    """
    # Here, in a thread: its first import takes half a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _drawing:
        dpi = _DPI * look.ratio
        figure = Figure((look.width_px / dpi, look.height_px / dpi), dpi=dpi, layout="constrained")
        figure.get_layout_engine().set(h_pad=0.02, w_pad=0.02)  # type: ignore[union-attr,call-arg]
        canvas = FigureCanvasAgg(figure)
        figure.patch.set_alpha(0.0)
        loss, dice = figure.subplots(2, 1, sharex=True)
        _draw_loss(loss, curves)
        _draw_dice(dice, curves, look.font_pt)
        for axes in (loss, dice):
            _style(axes, look)
        canvas.draw()  # type: ignore[no-untyped-call]
        picture: NDArray[np.uint8] = np.array(
            canvas.buffer_rgba(),  # type: ignore[no-untyped-call]
            dtype=np.uint8,
        )
    return picture


def _draw_loss(axes: Axes, curves: Curves) -> None:
    steps, losses = np.asarray(curves.steps), np.asarray(curves.losses)
    axes.set_ylabel("loss")
    if len(steps) == 0:
        return
    width = max(1, round(len(steps) * _SMOOTH_SHARE))
    if width > 1:
        axes.plot(steps, losses, color=_LOSS, alpha=0.3, linewidth=0.8)
        padded = np.pad(losses, (width // 2, width - 1 - width // 2), mode="edge")
        losses = np.convolve(padded, np.full(width, 1 / width), mode="valid")
    axes.plot(steps, losses, color=_LOSS, linewidth=1.5)


def _draw_dice(axes: Axes, curves: Curves, font_pt: float) -> None:
    axes.set_ylabel("Dice")
    axes.set_xlabel("step")
    if not curves.dice:
        axes.set_ylim(0, 1)
        return
    if curves.dice_steps[0] == 0:
        axes.axhline(curves.dice[0], color=_DICE, alpha=0.5, linewidth=1, linestyle="--")
    axes.plot(
        curves.dice_steps, curves.dice, color=_DICE, linewidth=1.5, marker="o", markersize=3.5
    )
    best = int(np.argmax(curves.dice))
    axes.annotate(
        f"{curves.dice[best]:.3f}",
        (curves.dice_steps[best], curves.dice[best]),
        xytext=(0, -5),
        textcoords="offset points",
        ha="right" if best else "left",
        va="top",
        color=_DICE,
        fontsize=font_pt,
    )
    low = min(curves.dice)
    margin = max(0.02, (max(curves.dice) - low) * 0.25)
    axes.set_ylim(max(0.0, low - 2 * margin), min(1.02, max(curves.dice) + margin))


def _style(axes: Axes, look: CurvesLook) -> None:
    from matplotlib.ticker import MaxNLocator

    faint: tuple[Any, ...] = (*look.text_rgb, 0.25)
    axes.patch.set_alpha(0.0)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(colors=look.text_rgb, labelsize=look.font_pt, length=2)
    axes.grid(color=faint, linewidth=0.5)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(faint)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(look.text_rgb)
        label.set_fontsize(look.font_pt)
