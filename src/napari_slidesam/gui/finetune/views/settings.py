"""What is trained and for how long; the rest of a job's settings under "Advanced"."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QWidget,
)

from napari_slidesam.gui.views.image_model import ModelChoice
from napari_slidesam.gui.views.parts import add_row, choice_box, form_layout, number_box
from napari_slidesam.jobs.spec import FinetuneJob
from napari_slidesam.tuning.pair_files import parse_slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.gui.views.dialogs import FileDialogs

_EPOCHS, _MINUTES = "epochs", "minutes"
_AXES = ("z", "y", "x")
_RATES = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3)
_NO_EPOCHS_BOUND = 10_000
"""Passes over the windows where minutes end the run."""


class JobSettingsView(QWidget):
    """Name, network, rank, duration, learning rate, axes and device of the next job."""

    changed = Signal()
    """A person changed something besides the name."""

    def __init__(self, dialogs: FileDialogs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name_edit = QLineEdit()
        self.name_edit.setAccessibleName("Name")
        self.name_edit.setToolTip("Of the job, and of the adapter that it gives.")
        self.name_edit.setPlaceholderText("named after the data")
        self.model = ModelChoice(dialogs)
        self.rank_box = number_box(
            QSpinBox(),
            "Rank",
            "How much the adapter can change: 4 for small, alike data, 8 as in the paper, 16 and "
            "more for data far from what the network knows.",
        )
        self.rank_box.setRange(1, 256)
        self._make_duration()
        self._make_rate()
        self._make_axes()
        self.device_box = choice_box(
            "Device", "Where it is trained. Automatic takes a CUDA device where there is one."
        )
        form = form_layout(self)
        add_row(form, "Name", self.name_edit)
        add_row(form, "Model", self.model)
        add_row(form, "Train for", self._duration)
        add_row(form, "Rank", self.rank_box)
        add_row(form, "Learning rate", self.rate_box)
        add_row(form, "Axes", self._axes)
        add_row(form, "Device", self.device_box)
        self.set_devices(("auto", "cpu"))
        self.set_job(FinetuneJob(""))
        self.model.chosen.connect(lambda _: self.changed.emit())
        for box in (self.device_box, self.unit_box, self.rate_box):
            box.activated.connect(lambda _: self.changed.emit())
        for number in (self.rank_box, self.duration_box):
            number.valueChanged.connect(lambda _: self.changed.emit())
        for check in self.axis_checks:
            check.clicked.connect(lambda _: self.changed.emit())

    def set_models(self, names: Sequence[str]) -> None:
        """Offer networks beside the embedded one."""
        self.model.set_names(names)

    def set_devices(self, names: Sequence[str]) -> None:
        """Offer devices."""
        box = self.device_box
        chosen = box.currentData() or "auto"
        with QSignalBlocker(box):
            box.clear()
            for name in dict.fromkeys((*names, chosen)):
                box.addItem("Automatic" if name == "auto" else name, name)
            box.setCurrentIndex(box.findData(chosen))

    def set_job(self, job: FinetuneJob) -> None:
        """Show a job's settings."""
        with QSignalBlocker(self):
            self._show(job)

    def _show(self, job: FinetuneJob) -> None:
        self.name_edit.setText(job.name)
        self.model.set_current(job.model)
        self.rank_box.setValue(job.rank)
        is_timed = job.minutes is not None
        self.unit_box.setCurrentIndex(self.unit_box.findData(_MINUTES if is_timed else _EPOCHS))
        self.duration_box.setValue(job.minutes if job.minutes is not None else job.epochs)
        _show_rate(self.rate_box, job.learning_rate)
        for axis, check in enumerate(self.axis_checks):
            check.setChecked(axis in job.axes)
        if self.device_box.findData(job.device) < 0:
            self.device_box.addItem(job.device, job.device)
        self.device_box.setCurrentIndex(self.device_box.findData(job.device))

    def applied_to(self, job: FinetuneJob) -> FinetuneJob:
        """Return a job with what is shown here."""
        is_timed = self.unit_box.currentData() == _MINUTES
        length = self.duration_box.value()
        return replace(
            job,
            name=self.name_edit.text().strip(),
            model=self.model.current,
            rank=self.rank_box.value(),
            epochs=_NO_EPOCHS_BOUND if is_timed else max(1, round(length)),
            minutes=length if is_timed else None,
            learning_rate=float(self.rate_box.currentData()),
            axes=tuple(i for i, check in enumerate(self.axis_checks) if check.isChecked()),
            device=str(self.device_box.currentData()),
        )

    def _make_duration(self) -> None:
        self.duration_box = number_box(
            QDoubleSpinBox(),
            "Train for",
            "Passes over all windows, or minutes. The best state on what is held out is kept.",
        )
        self.duration_box.setDecimals(0)
        self.duration_box.setRange(1, 9_999)
        self.unit_box = choice_box("Unit", "Epochs are passes over all windows.")
        self.unit_box.addItem("epochs", _EPOCHS)
        self.unit_box.addItem("minutes", _MINUTES)
        self._duration = _row(self.duration_box, self.unit_box)
        self._duration.setFocusProxy(self.duration_box)

    def _make_rate(self) -> None:
        self.rate_box = choice_box(
            "Learning rate", "How far each step goes. Lower it where the loss jumps."
        )
        for rate in _RATES:
            self.rate_box.addItem(f"{rate:g}", rate)

    def _make_axes(self) -> None:
        self.axis_checks = tuple(QCheckBox(name) for name in _AXES)
        for name, check in zip(_AXES, self.axis_checks, strict=True):
            check.setToolTip(f"Learn slices across {name}, as you would segment along it.")
        self._axes = _row(*self.axis_checks)
        layout = self._axes.layout()
        assert isinstance(layout, QHBoxLayout)
        layout.addStretch(1)


class AdvancedView(QWidget):
    """The settings that most jobs leave as they are."""

    changed = Signal()
    """A person changed something that does not belong to the data at hand."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.labels_edit = QLineEdit()
        self.labels_edit.setPlaceholderText("all")
        self.labels_edit.setAccessibleName("Labels")
        self.labels_edit.setToolTip("Labels to train on, such as 1, 3; empty for all.")
        self.unlabelled_edit = QLineEdit()
        self.unlabelled_edit.setPlaceholderText("those that hold no label")
        self.unlabelled_edit.setAccessibleName("Slices without labels")
        self.unlabelled_edit.setToolTip(
            "Slices along z that are not labelled whatever they hold, such as 3 7 20-29, of all "
            "layers that are trained on. On disk, a CSV file of pairs has a column for them."
        )
        self.complete_check = QCheckBox("Every slice is labelled")
        self.complete_check.setToolTip(
            "Slices that hold no label teach where objects end. Without it they are left out: "
            "nobody may have labelled them."
        )
        self.share_box = self._number("Held out", "Share for validation.", (0, 90), " %")
        self.boxes_box = self._number(
            "Boxes in validation", "Slices of an object that get a box in validation.", (1, 9)
        )
        self.patience_box = self._number(
            "Patience", "Validations without a better Dice that end the run; 0: never.", (0, 99)
        )
        self.batch_box = self._number("Windows a step", "Lower it to save memory.", (1, 256))
        self.accumulate_box = self._number(
            "Steps an update", "Gradients of several steps together: a larger batch.", (1, 256)
        )
        self.encoder_check = QCheckBox("Train the image encoder")
        self.encoder_check.setToolTip(
            "Adapt its attention. Without it the decoder alone learns; SAM then sees each slice "
            "once, which is faster."
        )
        self.decoder_check = QCheckBox("Train the mask decoder")
        self.decoder_check.setToolTip("Beside the encoder's adapter, as in the paper.")
        self.checkpointing_check = QCheckBox("Save memory, train slower")
        self.checkpointing_check.setToolTip("Compute parts of the network twice (checkpointing).")
        self.precision_box = choice_box("Precision", "Automatic takes bfloat16 where it is fast.")
        for name in ("auto", "float32", "bfloat16", "float16"):
            self.precision_box.addItem("Automatic" if name == "auto" else name, name)
        self.dropout_box = self._number("Dropout", "Of the adapter, in training.", (0, 90), " %")
        self.decay_box = number_box(QDoubleSpinBox(), "Weight decay", "Keeps changes small.")
        self.decay_box.setRange(0, 1)
        self.decay_box.setSingleStep(0.05)
        self.seed_box = self._number("Seed", "Of all that is random.", (0, 999_999))
        self._lay_out()
        self.set_job(FinetuneJob(""))
        for number in (
            self.share_box,
            self.boxes_box,
            self.patience_box,
            self.batch_box,
            self.accumulate_box,
            self.dropout_box,
            self.decay_box,
            self.seed_box,
        ):
            number.valueChanged.connect(lambda _: self.changed.emit())
        for check in (self.encoder_check, self.decoder_check, self.checkpointing_check):
            check.clicked.connect(lambda _: self.changed.emit())
        self.precision_box.activated.connect(lambda _: self.changed.emit())

    @property
    def unlabelled(self) -> tuple[int, ...]:
        """The slices without labels of all layers that are trained on.

        Raises
        ------
        TuningError
            They are not written as numbers and ranges.
        """
        return parse_slices(self.unlabelled_edit.text())

    def set_job(self, job: FinetuneJob) -> None:
        """Show a job's settings."""
        with QSignalBlocker(self):
            self._show(job)

    def _show(self, job: FinetuneJob) -> None:
        slices = job.pairs[0].unlabelled if job.pairs else ()
        self.unlabelled_edit.setText(" ".join(map(str, slices)))
        self.complete_check.setChecked(job.complete)
        self.labels_edit.setText(", ".join(map(str, job.labels or ())))
        self.share_box.setValue(round(job.validation_share * 100))
        self.boxes_box.setValue(job.validation_boxes)
        self.patience_box.setValue(job.patience)
        self.batch_box.setValue(job.batch_size)
        self.accumulate_box.setValue(job.accumulate)
        self.encoder_check.setChecked(job.train_encoder)
        self.decoder_check.setChecked(job.train_decoder)
        self.checkpointing_check.setChecked(job.gradient_checkpointing)
        self.precision_box.setCurrentIndex(max(0, self.precision_box.findData(job.precision)))
        self.dropout_box.setValue(round(job.dropout * 100))
        self.decay_box.setValue(job.weight_decay)
        self.seed_box.setValue(job.seed)

    def applied_to(self, job: FinetuneJob) -> FinetuneJob:
        """Return a job with what is shown here.

        Raises
        ------
        ValueError
            The labels are no whole numbers.
        """
        words = self.labels_edit.text().replace(",", " ").replace(";", " ").split()
        return replace(
            job,
            labels=tuple(dict.fromkeys(int(word) for word in words)) or None,
            complete=self.complete_check.isChecked(),
            validation_share=self.share_box.value() / 100,
            validation_boxes=self.boxes_box.value(),
            patience=self.patience_box.value(),
            batch_size=self.batch_box.value(),
            accumulate=self.accumulate_box.value(),
            train_encoder=self.encoder_check.isChecked(),
            train_decoder=self.decoder_check.isChecked(),
            gradient_checkpointing=self.checkpointing_check.isChecked(),
            precision=str(self.precision_box.currentData()),
            dropout=self.dropout_box.value() / 100,
            weight_decay=self.decay_box.value(),
            seed=self.seed_box.value(),
        )

    def _number(self, name: str, tip: str, bounds: tuple[int, int], suffix: str = "") -> QSpinBox:
        box = number_box(QSpinBox(), name, tip)
        box.setRange(*bounds)
        box.setSuffix(suffix)
        return box

    def _lay_out(self) -> None:
        form = form_layout(self)
        add_row(form, "Labels", self.labels_edit)
        add_row(form, "Slices without labels", self.unlabelled_edit)
        form.addRow(self.complete_check)
        for box in (
            self.share_box,
            self.boxes_box,
            self.patience_box,
            self.batch_box,
            self.accumulate_box,
            self.dropout_box,
            self.decay_box,
        ):
            add_row(form, box.accessibleName(), box)
        add_row(form, "Precision", self.precision_box)
        add_row(form, "Seed", self.seed_box)
        form.addRow(self.encoder_check)
        form.addRow(self.decoder_check)
        form.addRow(self.checkpointing_check)


def _show_rate(box: QComboBox, rate: float) -> None:
    rates = [float(box.itemData(i)) for i in range(box.count())]
    near = [i for i, r in enumerate(rates) if math.isclose(r, rate, rel_tol=1e-6)]
    if not near:
        box.addItem(f"{rate:g}", rate)
    box.setCurrentIndex(near[0] if near else box.count() - 1)


def _row(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(8)
    for widget in widgets:
        layout.addWidget(widget)
    return row
