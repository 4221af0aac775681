"""How far an object grows, and what becomes of overlaps and of corrections by hand."""

from __future__ import annotations

from dataclasses import replace

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSpinBox, QWidget

from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.gui.state import SegmentSettings
from napari_slidesam.gui.views.parts import (
    add_row,
    choice_box,
    form_layout,
    number_box,
)

_MOST_SLICES = 999_999
_RANGE_TITLE = "Stay within slices"
_OVERLAP_TITLES = {
    OverlapRule.KEEP: ("Earlier object keeps", "A new object never takes voxels away."),
    OverlapRule.OVERWRITE: ("Later object takes", "A new object is drawn over the others."),
}


class RangeView(QWidget):
    """Slices that may be entered, the farthest distance, and what happens at overlaps."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._n_slices: int | None = None
        self._make_range()
        self._make_extent()
        self.overlap_box = choice_box("Overlap", "Who owns voxels that several objects hold.")
        for i, (rule, (title, tip)) in enumerate(_OVERLAP_TITLES.items()):
            self.overlap_box.addItem(title, rule)
            self.overlap_box.setItemData(i, tip, Qt.ItemDataRole.ToolTipRole)
        self.edits_check = QCheckBox("Hand corrections guide the next run")
        self.edits_check.setToolTip(
            "Slices that you painted by hand are given to the network as they are, and the "
            "object grows on from them. Without it they are kept, but nothing starts from them."
        )
        form = form_layout(self)
        form.addRow(self.range_check)
        form.addRow(self._range_row)
        form.addRow(self._extent_row)
        add_row(form, "Overlaps", self.overlap_box)
        form.addRow(self.edits_check)
        self.set_settings(SegmentSettings())
        self._connect()

    @property
    def summary(self) -> str:
        """A few words on what is chosen."""
        parts = []
        if self.range_check.isChecked():
            parts.append(f"slices {self.first_box.value()} to {self.last_box.value()}")
        if self.extent_check.isChecked():
            parts.append(f"at most {self.extent_box.value()} each way")
        return ", ".join(parts) or "all slices"

    def set_slice_count(self, n_slices: int | None) -> None:
        """Bound the range by the number of slices across the displayed plane."""
        self._n_slices = n_slices
        last = _MOST_SLICES if n_slices is None else max(0, n_slices - 1)
        with QSignalBlocker(self.first_box), QSignalBlocker(self.last_box):
            # A range that reaches beyond stays as it was set: other planes have other counts.
            self.first_box.setMaximum(max(last, self.first_box.value()))
            self.last_box.setMaximum(max(last, self.last_box.value()))
        title = _RANGE_TITLE if n_slices is None else f"{_RANGE_TITLE} (of 0 to {last})"
        self.range_check.setText(title)

    def set_settings(self, settings: SegmentSettings) -> None:
        """Show range, extent, overlap rule and the use of corrections."""
        widgets = (
            self.range_check,
            self.first_box,
            self.last_box,
            self.extent_check,
            self.extent_box,
            self.overlap_box,
            self.edits_check,
        )
        blockers = [QSignalBlocker(widget) for widget in widgets]
        self.range_check.setChecked(settings.z_range is not None)
        if settings.z_range is not None:
            first, stop = settings.z_range
            for box, value in ((self.first_box, first), (self.last_box, stop - 1)):
                box.setMaximum(max(box.maximum(), value))
                box.setValue(value)
        self.extent_check.setChecked(settings.max_extent_slices is not None)
        if settings.max_extent_slices is not None:
            self.extent_box.setValue(settings.max_extent_slices)
        self.overlap_box.setCurrentIndex(self.overlap_box.findData(settings.overlap_rule))
        self.edits_check.setChecked(settings.edits_as_prompts)
        for blocker in blockers:
            blocker.unblock()
        self._enable_fields()

    def applied_to(self, settings: SegmentSettings) -> SegmentSettings:
        """Return the settings with what is shown here."""
        z_range = (self.first_box.value(), self.last_box.value() + 1)
        return replace(
            settings,
            z_range=z_range if self.range_check.isChecked() else None,
            max_extent_slices=self.extent_box.value() if self.extent_check.isChecked() else None,
            overlap_rule=OverlapRule(self.overlap_box.currentData()),
            edits_as_prompts=self.edits_check.isChecked(),
        )

    def _make_range(self) -> None:
        self.range_check = QCheckBox(_RANGE_TITLE)
        self.range_check.setToolTip(
            "Objects grow only within these slices, counted across the displayed plane as by "
            "napari's slider, from 0. The first and the last one belong to the range."
        )
        self.first_box = number_box(
            QSpinBox(), "First slice", "The first slice that may be entered."
        )
        self.last_box = number_box(QSpinBox(), "Last slice", "The last slice that may be entered.")
        self.last_box.setMaximum(_MOST_SLICES)
        self.first_box.setMaximum(_MOST_SLICES)
        self.last_box.setValue(99)
        self._range_row = QWidget()
        layout = QHBoxLayout(self._range_row)
        layout.setContentsMargins(21, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.first_box, 1)
        layout.addWidget(QLabel("to"))
        layout.addWidget(self.last_box, 1)

    def _make_extent(self) -> None:
        tip = "How many slices an object grows at most in each direction from where it was drawn."
        self.extent_check = QCheckBox("At most each way")
        self.extent_check.setToolTip(tip)
        self.extent_box = number_box(QSpinBox(), "Slices at most in each direction", tip)
        self.extent_box.setRange(0, _MOST_SLICES)
        self.extent_box.setValue(20)
        self.extent_box.setSuffix(" slices")
        self._extent_row = QWidget()
        layout = QHBoxLayout(self._extent_row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.extent_check)
        layout.addWidget(self.extent_box, 1)

    def _connect(self) -> None:
        self.range_check.toggled.connect(self._on_range_toggled)
        self.first_box.valueChanged.connect(self._on_first)
        self.last_box.valueChanged.connect(self._on_last)
        self.extent_check.toggled.connect(self._on_changed)
        self.extent_box.valueChanged.connect(self._on_changed)
        self.overlap_box.activated.connect(self._on_changed)
        self.edits_check.toggled.connect(self._on_changed)

    def _enable_fields(self) -> None:
        self._range_row.setEnabled(self.range_check.isChecked())
        self.extent_box.setEnabled(self.extent_check.isChecked())

    def _on_range_toggled(self, is_on: bool) -> None:
        if is_on and self._n_slices is not None:
            last = max(0, self._n_slices - 1)
            with QSignalBlocker(self.first_box), QSignalBlocker(self.last_box):
                self.last_box.setValue(min(self.last_box.value(), last))
                self.first_box.setValue(min(self.first_box.value(), self.last_box.value()))
        self._on_changed()

    def _on_first(self, value: int) -> None:
        if value > self.last_box.value():
            with QSignalBlocker(self.last_box):
                self.last_box.setValue(value)
        self._on_changed()

    def _on_last(self, value: int) -> None:
        if value < self.first_box.value():
            with QSignalBlocker(self.first_box):
                self.first_box.setValue(value)
        self._on_changed()

    def _on_changed(self) -> None:
        self._enable_fields()
        self.changed.emit()
