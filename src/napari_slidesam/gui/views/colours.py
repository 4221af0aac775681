"""Colours that follow napari's theme: taken from a widget's palette, or legible on any."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from qtpy.QtGui import QColor, QPalette

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

_QUALITY_STOPS: tuple[tuple[float, tuple[int, int, int]], ...] = (
    (0.4, (205, 84, 62)),
    (0.7, (219, 163, 58)),
    (0.95, (54, 156, 138)),
)
"""From doubtful to sure: told apart by people with red-green blindness, on dark and light."""

ATTENTION = QColor(*_QUALITY_STOPS[0][1])
"""What wants a look: errors, the worst slices."""


def quality_colour(score: float) -> QColor:
    """Return the colour of a quality in [0, 1]."""
    first, last = _QUALITY_STOPS[0], _QUALITY_STOPS[-1]
    if score <= first[0]:
        return QColor(*first[1])
    for (low, dark), (high, light) in itertools.pairwise(_QUALITY_STOPS):
        if score <= high:
            share = (score - low) / (high - low)
            mixed = (round(a + share * (b - a)) for a, b in zip(dark, light, strict=True))
            red, green, blue = mixed
            return QColor(red, green, blue)
    return QColor(*last[1])


def text_colour(widget: QWidget, alpha: float = 1.0) -> QColor:
    """Return the theme's text colour, see-through by ``1 - alpha``; fainter where disabled."""
    colour = QColor(widget.palette().color(QPalette.ColorRole.WindowText))
    colour.setAlphaF(alpha if widget.isEnabled() else alpha * 0.4)
    return colour
