"""The segment panel: its parts put together, their signals handed on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from napari_slidesam.gui.state import HistoryState, ProgressState, SegmentSettings
from napari_slidesam.gui.views.dialogs import FileDialogs
from napari_slidesam.gui.views.export_bar import ExportBar
from napari_slidesam.gui.views.history_bar import HistoryBar
from napari_slidesam.gui.views.image_model import AdapterDeviceView, ImageModelView
from napari_slidesam.gui.views.intensity import IntensityView
from napari_slidesam.gui.views.messages import MessageLine, RecoveryBar
from napari_slidesam.gui.views.object_list import ObjectListView
from napari_slidesam.gui.views.options import RangeView
from napari_slidesam.gui.views.parts import QuietLabel, Section, chain_focus
from napari_slidesam.gui.views.progress_bar import ProgressView
from napari_slidesam.gui.views.quality_view import QualityView
from napari_slidesam.gui.views.shortcuts import ShortcutsView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.gui.state import (
        DeviceState,
        ImageChoice,
        ObjectEntry,
        QualityState,
        RecoveryOffer,
    )

_MARGIN = 10
_WIDTH, _LEAST_WIDTH = 370, 300


class SegmentPanel(QWidget):
    """All of the dock: what is used each minute on top, the rest in closed sections.

    Every ``set_*`` shows a state and emits nothing; every signal is something that a person
    did. Nothing here knows layers, sessions or networks.

    Parameters
    ----------
    parent : QWidget, optional
    dialogs : FileDialogs, optional
        Asks for files and folders.
    """

    image_chosen = Signal(str)
    channel_chosen = Signal(object)
    """The channel's index, or None where the image has no channels."""
    settings_changed = Signal(object)
    """The new `SegmentSettings`."""
    run_requested = Signal()
    cancel_requested = Signal()
    object_selected = Signal(int)
    object_renamed = Signal(int, str)
    object_visibility_changed = Signal(int, bool)
    object_accepted = Signal(int, bool)
    object_edit_requested = Signal(int)
    object_deleted = Signal(int)
    slice_requested = Signal(int)
    undo_requested = Signal()
    redo_requested = Signal()
    export_requested = Signal(str, str)
    """A key of `EXPORT_KINDS`, and the path."""
    session_save_requested = Signal(str)
    session_load_requested = Signal(str)
    recovery_answered = Signal(bool)

    def __init__(self, parent: QWidget | None = None, dialogs: FileDialogs | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("slide_sam_panel")
        asks = dialogs if dialogs is not None else FileDialogs()
        self._settings = SegmentSettings()
        self._has_image = False
        self.recovery = RecoveryBar()
        self.message = MessageLine()
        self.image_model = ImageModelView(asks)
        self.hint = QuietLabel(wrap=True)
        self.auto_run_check = QCheckBox("Run when drawn")
        self.auto_run_check.setToolTip(
            "Segment as soon as a box is drawn. Without it, boxes wait for Run."
        )
        self.only_slice_check = QCheckBox("This slice only")
        self.only_slice_check.setToolTip("Segment the slice that is drawn on, and no other.")
        self.progress = ProgressView()
        self.objects = ObjectListView()
        self.quality = QualityView()
        self.history = HistoryBar()
        self.intensity = IntensityView()
        self.range = RangeView()
        self.adapter_device = AdapterDeviceView(asks)
        self.export = ExportBar(asks)
        self.shortcuts = ShortcutsView()
        self._make_sections()
        self._lay_out()
        self._connect_signals()
        self.set_settings(self._settings)
        self.set_objects((), None)
        self.set_history(HistoryState())
        self.set_progress(ProgressState())

    def sizeHint(self) -> QSize:
        """Return the size of a comfortable dock."""
        return QSize(_WIDTH, 720)

    def minimumSizeHint(self) -> QSize:
        """Return a size that fits a small window: what is below scrolls."""
        return QSize(_LEAST_WIDTH, 160)

    # -- what is shown --------------------------------------------------------------------

    def set_images(self, images: Sequence[ImageChoice], current: str | None) -> None:
        """Show which image layers can be segmented, and which one is."""
        self.image_model.set_images(images, current)
        self.export.set_image_name(current or "")
        self._has_image = current is not None
        self._show_hint()

    def set_settings(self, settings: SegmentSettings) -> None:
        """Show settings."""
        self._settings = settings
        for view in (self.image_model, self.intensity, self.range, self.adapter_device):
            view.set_settings(settings)
        with QSignalBlocker(self.auto_run_check), QSignalBlocker(self.only_slice_check):
            self.auto_run_check.setChecked(settings.auto_run)
            self.only_slice_check.setChecked(settings.only_this_slice)
        self._show_summaries()

    def set_models(self, names: Sequence[str]) -> None:
        """Offer networks by name, beside the embedded one and files."""
        self.image_model.model.set_names(names)

    def set_adapters(self, names: Sequence[str]) -> None:
        """Offer adapters, beside none and folders."""
        self.adapter_device.adapter.set_names(names)

    def set_device(self, state: DeviceState) -> None:
        """Offer devices, and show the state of the one in use."""
        self.image_model.set_device(state)
        self.adapter_device.set_device(state)
        self._show_summaries()

    def set_plane(self, plane: str) -> None:
        """Show the displayed plane in words."""
        self.image_model.set_plane(plane)

    def set_slice_count(self, n_slices: int | None) -> None:
        """Bound the range of slices by those that the displayed plane is one of."""
        self.range.set_slice_count(n_slices)

    def set_objects(self, objects: Sequence[ObjectEntry], selected: int | None) -> None:
        """Show the objects; quick enough to be called for each slice of a run."""
        self.objects.set_objects(objects, selected)
        self.export.set_has_objects(bool(objects))

    def set_progress(self, state: ProgressState) -> None:
        """Show how far the runs are."""
        self.progress.set_state(state)

    def set_quality(self, state: QualityState | None) -> None:
        """Show the selected object's slices; None where none is selected."""
        self.quality.set_state(state)

    def set_history(self, state: HistoryState) -> None:
        """Show what can be undone and redone."""
        self.history.set_state(state)

    def set_shortcuts(self, shortcuts: Sequence[tuple[str, str]]) -> None:
        """Show the keys that the plugin listens to."""
        self.shortcuts.set_shortcuts(shortcuts)

    def show_message(self, text: str, is_error: bool) -> None:
        """Show a message below all; an empty one takes the last away."""
        self.message.show_message(text, is_error)

    def offer_recovery(self, offer: RecoveryOffer) -> None:
        """Ask whether to resume the session that an earlier napari left behind."""
        self.recovery.offer(offer)

    # -- parts ----------------------------------------------------------------------------

    def _make_sections(self) -> None:
        self.intensity_section = Section(
            "Intensity", self.intensity, "How stored values become what the network sees."
        )
        self.range_section = Section(
            "Range and overlap", self.range, "How far objects grow, and who owns shared voxels."
        )
        self.device_section = Section(
            "Adapter and device", self.adapter_device, "What the network runs with, and where."
        )
        self.export_section = Section(
            "Export and session", self.export, "Write labels or a table; keep or resume the work."
        )
        self.shortcuts_section = Section(
            "Shortcuts", self.shortcuts, "Keys that work while the image has the focus."
        )
        self.sections = (
            self.intensity_section,
            self.range_section,
            self.device_section,
            self.export_section,
            self.shortcuts_section,
        )

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(_MARGIN, 8, _MARGIN, 8)
        column.setSpacing(10)
        checks = QHBoxLayout()
        checks.setSpacing(14)
        checks.addWidget(self.auto_run_check)
        checks.addWidget(self.only_slice_check)
        checks.addStretch(1)
        run = QVBoxLayout()
        run.setSpacing(6)
        run.addWidget(self.hint)
        run.addLayout(checks)
        run.addWidget(self.progress)
        column.addWidget(self.image_model)
        column.addLayout(run)
        column.addWidget(self.objects)
        column.addWidget(self.quality)
        column.addWidget(self.history)
        closed = QVBoxLayout()
        closed.setSpacing(0)
        for section in self.sections:
            closed.addWidget(section)
        column.addLayout(closed)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(content)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(_LEAST_WIDTH)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        news = QVBoxLayout()  # does not scroll away, and moves nothing when it comes
        news.setContentsMargins(_MARGIN, 0, _MARGIN, 0)
        news.setSpacing(6)
        news.addWidget(self.message)
        news.addWidget(self.recovery)
        outer.addWidget(scroll, 1)
        outer.addLayout(news)
        chain_focus([content, self.message, self.recovery])

    def _connect_signals(self) -> None:
        self.image_model.image_chosen.connect(self.image_chosen)
        self.image_model.channel_chosen.connect(self.channel_chosen)
        for view in (self.image_model, self.intensity, self.range, self.adapter_device):
            view.changed.connect(self._on_changed)
        self.auto_run_check.toggled.connect(self._on_changed)
        self.only_slice_check.toggled.connect(self._on_changed)
        self.progress.run_requested.connect(self.run_requested)
        self.progress.cancel_requested.connect(self.cancel_requested)
        objects = self.objects
        objects.object_selected.connect(self.object_selected)
        objects.object_renamed.connect(self.object_renamed)
        objects.object_visibility_changed.connect(self.object_visibility_changed)
        objects.object_accepted.connect(self.object_accepted)
        objects.object_edit_requested.connect(self.object_edit_requested)
        objects.object_deleted.connect(self.object_deleted)
        self.quality.slice_requested.connect(self.slice_requested)
        self.history.undo_requested.connect(self.undo_requested)
        self.history.redo_requested.connect(self.redo_requested)
        self.export.export_requested.connect(self.export_requested)
        self.export.session_save_requested.connect(self.session_save_requested)
        self.export.session_load_requested.connect(self.session_load_requested)
        self.recovery.answered.connect(self.recovery_answered)

    def _on_changed(self) -> None:
        """Put the settings together from the parts, and hand them on where they differ."""
        settings = replace(
            self._settings,
            auto_run=self.auto_run_check.isChecked(),
            only_this_slice=self.only_slice_check.isChecked(),
        )
        for view in (self.image_model, self.intensity, self.range, self.adapter_device):
            settings = view.applied_to(settings)
        self._show_summaries()
        if settings != self._settings:
            self._settings = settings
            self._show_hint()
            self.settings_changed.emit(settings)

    def _show_summaries(self) -> None:
        self.intensity_section.set_summary(self.intensity.summary)
        self.range_section.set_summary(self.range.summary)
        self.device_section.set_summary(self.adapter_device.summary)
        self._show_hint()

    def _show_hint(self) -> None:
        """Say what to do next."""
        if not self._has_image:
            hint = "Open an image to begin: a volume, a stack or a single slice."
        elif self.auto_run_check.isChecked():
            hint = "Draw a box around an object: it grows on release."
        else:
            hint = "Draw boxes around objects, then press Run."
        if hint != self.hint.text():
            self.hint.setText(hint)
