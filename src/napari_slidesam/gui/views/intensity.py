"""How stored values become the range that the network sees."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QWidget

from napari_slidesam.gui.views.parts import (
    QuietLabel,
    add_row,
    choice_box,
    form_layout,
    number_box,
)
from napari_slidesam.intensity import Intensity, IntensityKind

if TYPE_CHECKING:
    from napari_slidesam.gui.state import SegmentSettings

_LAYER = "layer"
_CHOICES: tuple[tuple[str, str, str], ...] = (
    ("window", "Each window", "Each window of slices by its own percentiles 1 and 99."),
    (_LAYER, "Layer's contrast limits", "What you see is what the network sees."),
    ("percentiles", "Percentiles", "Percentiles of a few slices around the box, from and to."),
    ("limits", "Limits", "Stored values that become black and white, from and to."),
    ("ct", "CT (-200 to 400 HU)", "The abdominal window of the Slide-SAM paper."),
    ("mr", "MR (0 to 600)", "The MR range of the Slide-SAM paper."),
)
_LARGEST = 1e9
_PERCENT_STEP = 0.1


class RangePair(QWidget):
    """Two numbers, the first below the second: who passes the other pushes it along.

    Parameters
    ----------
    what : str
        What the numbers are, in accessible names and tooltips.
    lowest, highest : float
    step : float
        Of a click, and the least distance of the two.
    decimals : int
    """

    changed = Signal()

    def __init__(
        self, what: str, lowest: float, highest: float, step: float, decimals: int
    ) -> None:
        super().__init__()
        self._step = step
        self.lower_box = number_box(
            QDoubleSpinBox(), f"Lower {what}", f"The {what} that becomes 0 (black)."
        )
        self.upper_box = number_box(
            QDoubleSpinBox(), f"Upper {what}", f"The {what} that becomes 1 (white)."
        )
        for box, low, high in (
            (self.lower_box, lowest, highest - step),
            (self.upper_box, lowest + step, highest),
        ):
            box.setDecimals(decimals)
            box.setRange(low, high)
            box.setSingleStep(step)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.lower_box, 1)
        layout.addWidget(QLabel("to"))
        layout.addWidget(self.upper_box, 1)
        self.lower_box.valueChanged.connect(self._on_lower)
        self.upper_box.valueChanged.connect(self._on_upper)

    @property
    def values(self) -> tuple[float, float]:
        """The two numbers."""
        return self.lower_box.value(), self.upper_box.value()

    def set_values(self, lower: float, upper: float) -> None:
        """Show two numbers."""
        with QSignalBlocker(self.lower_box), QSignalBlocker(self.upper_box):
            self.lower_box.setValue(lower)
            self.upper_box.setValue(upper)

    def _on_lower(self, value: float) -> None:
        if value >= self.upper_box.value():
            with QSignalBlocker(self.upper_box):
                self.upper_box.setValue(value + self._step)
        self.changed.emit()

    def _on_upper(self, value: float) -> None:
        if value <= self.lower_box.value():
            with QSignalBlocker(self.lower_box):
                self.lower_box.setValue(value - self._step)
        self.changed.emit()


class IntensityView(QWidget):
    """A preset, and the two numbers of those that have some."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind_box = choice_box("Intensity", "How stored values become black and white.")
        for i, (kind, title, tip) in enumerate(_CHOICES):
            self.kind_box.addItem(title, kind)
            self.kind_box.setItemData(i, tip, Qt.ItemDataRole.ToolTipRole)
        self.percentiles = RangePair("percentile", 0.0, 100.0, _PERCENT_STEP, 1)
        self.limits = RangePair("value", -_LARGEST, _LARGEST, 1.0, 3)
        self.explanation = QuietLabel(wrap=True)
        self._form = form_layout(self)
        add_row(self._form, "Range", self.kind_box)
        add_row(self._form, "From", self.percentiles)
        add_row(self._form, "From", self.limits)
        self._form.addRow(self.explanation)
        usual = Intensity("percentiles")
        self.percentiles.set_values(usual.lower or 0.0, usual.upper or 100.0)
        self.limits.set_values(0.0, 1000.0)
        self._show_fields()
        self.kind_box.activated.connect(self._on_kind)
        self.percentiles.changed.connect(self.changed)
        self.limits.changed.connect(self.changed)

    @property
    def summary(self) -> str:
        """A few words on what is chosen."""
        kind = self.kind_box.currentData()
        if kind == "percentiles":
            return "percentiles {:g} to {:g}".format(*self.percentiles.values)
        if kind == "limits":
            return "{:g} to {:g}".format(*self.limits.values)
        return self.kind_box.currentText()

    def set_settings(self, settings: SegmentSettings) -> None:
        """Show the intensity."""
        intensity = settings.intensity
        pair = {"percentiles": self.percentiles, "limits": self.limits}.get(intensity.kind)
        if pair is not None and intensity.lower is not None and intensity.upper is not None:
            pair.set_values(intensity.lower, intensity.upper)
        kind = _LAYER if settings.use_contrast_limits else intensity.kind
        with QSignalBlocker(self.kind_box):
            self.kind_box.setCurrentIndex(self.kind_box.findData(kind))
        self._show_fields()

    def applied_to(self, settings: SegmentSettings) -> SegmentSettings:
        """Return the settings with what is shown here."""
        kind = self.kind_box.currentData()
        if kind == _LAYER:  # what was chosen before stays for the way back
            return replace(settings, use_contrast_limits=True)
        return replace(settings, use_contrast_limits=False, intensity=self._intensity(kind))

    def _intensity(self, kind: IntensityKind) -> Intensity:
        if kind == "percentiles":
            return Intensity(kind, *self.percentiles.values)
        if kind == "limits":
            return Intensity(kind, *self.limits.values)
        return Intensity(kind)

    def _show_fields(self) -> None:
        kind = self.kind_box.currentData()
        self._form.setRowVisible(self.percentiles, kind == "percentiles")
        self._form.setRowVisible(self.limits, kind == "limits")
        self.explanation.setText(str(self.kind_box.currentData(Qt.ItemDataRole.ToolTipRole)))

    def _on_kind(self, _: int) -> None:
        self._show_fields()
        self.changed.emit()
