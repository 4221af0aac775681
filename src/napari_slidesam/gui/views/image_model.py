"""What is segmented and by which network: image, channel, plane, model; adapter and device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QWidget

from napari_slidesam.gui.state import DeviceState, SegmentSettings
from napari_slidesam.gui.views.parts import QuietLabel, add_row, choice_box, form_layout, plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.gui.state import ImageChoice
    from napari_slidesam.gui.views.dialogs import FileDialogs

_TIP = Qt.ItemDataRole.ToolTipRole
WEIGHTS_FILES = "Network weights (*.safetensors *.pth *.pt);;All files (*)"


class PathChoice(QWidget):
    """A combo box of names whose last entry asks for a path.

    ``chosen`` carries the name or path; "" is the first entry where that stands for none.
    """

    chosen = Signal(str)

    def __init__(self, box: QComboBox, first: tuple[str, str, str], last: str) -> None:
        super().__init__()
        self.box = box
        self._first, self._last = first, last
        self._names: tuple[str, ...] = ()
        self._current = first[1]
        layout = form_layout(self)
        layout.addRow(box)
        self.setFocusProxy(box)
        self._fill()
        box.activated.connect(self._on_activated)

    @property
    def current(self) -> str:
        """The name or path that is chosen."""
        return self._current

    def ask(self) -> str:
        """Return a path from the person, or ""."""
        return ""

    def set_names(self, names: Sequence[str]) -> None:
        """Set the entries between the first and the last."""
        self._names = tuple(name for name in names if name != self._first[1])
        self._fill()

    def set_current(self, name: str) -> None:
        """Choose a name or a path; one that is not an entry becomes one."""
        self._current = name
        self._fill()

    def _fill(self) -> None:
        names = list(self._names)
        if self._current not in (self._first[1], *names):
            names.append(self._current)
        wanted = [self._first[1], *names]
        box = self.box
        with QSignalBlocker(box):
            if [box.itemData(i) for i in range(box.count() - 1)] != wanted:
                box.clear()
                title, value, tip = self._first
                box.addItem(title, value)
                box.setItemData(0, tip, _TIP)
                for i, name in enumerate(names, 1):
                    box.addItem(Path(name).name or name, name)
                    box.setItemData(i, plain_tip(name), _TIP)
                box.addItem(self._last)
            box.setCurrentIndex(wanted.index(self._current))

    def _on_activated(self, index: int) -> None:
        is_last = index == self.box.count() - 1
        name = self.ask() if is_last else str(self.box.itemData(index))
        changed = name != self._current and not (is_last and not name)
        self.set_current(name if changed else self._current)
        if changed:
            self.chosen.emit(name)


class ModelChoice(PathChoice):
    """The embedded network, one of the registry, or a file of weights."""

    def __init__(self, dialogs: FileDialogs) -> None:
        self._dialogs = dialogs
        tip = (
            "The network that predicts the masks. The embedded one comes with the plugin and "
            "works offline; File… takes weights from your disk."
        )
        embedded = SegmentSettings().model
        first = ("Embedded (Slide-SAM lite)", embedded, "Small, offline, quick on any computer.")
        super().__init__(choice_box("Model", tip), first, "File…")

    def ask(self) -> str:
        """Return a weights file from the person, or ""."""
        return self._dialogs.open_file(self, "Choose the weights of a network", WEIGHTS_FILES)


class AdapterChoice(PathChoice):
    """No adapter, one of those at hand, or a folder."""

    def __init__(self, dialogs: FileDialogs) -> None:
        self._dialogs = dialogs
        tip = "A small addition to the network, tuned on your own images (LoRA)."
        first = ("None", "", "The network as it is.")
        super().__init__(choice_box("Adapter", tip), first, "Folder…")

    def ask(self) -> str:
        """Return an adapter's folder from the person, or ""."""
        return self._dialogs.choose_folder(self, "Choose the folder of an adapter")


class ImageModelView(QWidget):
    """Image, channel, plane and model, and a line on the device in use."""

    image_chosen = Signal(str)
    channel_chosen = Signal(object)
    changed = Signal()

    def __init__(self, dialogs: FileDialogs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.image_box = choice_box("Image", "The image layer to segment; it is never changed.")
        self.image_box.setPlaceholderText("No image is open")
        self.channel_box = choice_box("Channel", "The channel that the network sees.")
        self.model = ModelChoice(dialogs)
        self.plane = QuietLabel()
        self.plane.setAccessibleName("Plane")
        self.plane.setToolTip(
            "The plane that is displayed: boxes are drawn on it, and objects grow across it. "
            "Roll or transpose napari's axes to draw on another."
        )
        self.device = QuietLabel()
        self.device.setAccessibleName("Device in use")
        self._images: tuple[ImageChoice, ...] = ()
        self._form = form_layout(self)
        add_row(self._form, "Image", self.image_box)
        add_row(self._form, "Channel", self.channel_box)
        add_row(self._form, "Plane", self.plane)
        add_row(self._form, "Model", self.model)
        add_row(self._form, "", self.device)
        self.set_images((), None)
        self.set_plane("")
        self.set_device(DeviceState())
        self.image_box.activated.connect(self._on_image)
        self.channel_box.activated.connect(self._on_channel)
        self.model.chosen.connect(lambda _: self.changed.emit())

    def set_images(self, images: Sequence[ImageChoice], current: str | None) -> None:
        """Show which images can be segmented, and which one is."""
        self._images = tuple(images)
        names = [image.name for image in images]
        with QSignalBlocker(self.image_box):
            if [self.image_box.itemText(i) for i in range(self.image_box.count())] != names:
                self.image_box.clear()
                self.image_box.addItems(names)
            self.image_box.setCurrentIndex(names.index(current) if current in names else -1)
        self.image_box.setEnabled(bool(names))
        self._show_channels()

    def set_plane(self, plane: str) -> None:
        """Show the displayed plane in words."""
        self.plane.setText(plane)
        self._form.setRowVisible(self.plane, bool(plane))

    def set_settings(self, settings: SegmentSettings) -> None:
        """Show the model."""
        self.model.set_current(settings.model)

    def applied_to(self, settings: SegmentSettings) -> SegmentSettings:
        """Return the settings with what is shown here."""
        return replace(settings, model=self.model.current)

    def set_device(self, state: DeviceState) -> None:
        """Show the state of the device in use."""
        self.device.setText(state.description)
        self.device.setToolTip(plain_tip(f"The device in use: {state.description}"))
        self._form.setRowVisible(self.device, bool(state.description))

    def _show_channels(self) -> None:
        """Offer the channels of the current image; the chosen one stays where it still exists."""
        shown = self.image_box.currentIndex()
        channels = self._images[shown].channels if shown >= 0 else ()
        box = self.channel_box
        if tuple(box.itemText(i) for i in range(box.count())) != channels:
            with QSignalBlocker(box):
                box.clear()
                box.addItems(channels)
        self._form.setRowVisible(box, bool(channels))

    def _on_image(self, index: int) -> None:
        self._show_channels()
        self.image_chosen.emit(self._images[index].name)
        if self._images[index].channels:
            self.channel_chosen.emit(self.channel_box.currentIndex())
        else:
            self.channel_chosen.emit(None)

    def _on_channel(self, index: int) -> None:
        self.channel_chosen.emit(index)


class AdapterDeviceView(QWidget):
    """Adapter and device."""

    changed = Signal()

    def __init__(self, dialogs: FileDialogs, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.adapter = AdapterChoice(dialogs)
        tip = "Where the network runs. Automatic takes a CUDA device where there is one."
        self.device_box = choice_box("Device", tip)
        self.state = QuietLabel(wrap=True)
        self.state.setAccessibleName("State of the device")
        self.embeddings_check = QCheckBox("Keep embeddings on disk")
        self.embeddings_check.setToolTip(
            "What the network makes of each slice, 2 MB a slice, is kept in the cache folder: the "
            "same image is ready at once next time. The embedded network makes none."
        )
        form = form_layout(self)
        add_row(form, "Adapter", self.adapter)
        add_row(form, "Device", self.device_box)
        add_row(form, "", self.state)
        form.addRow(self.embeddings_check)
        self._device = SegmentSettings().device
        self._names: tuple[str, ...] = ()
        self._show_devices()
        self.adapter.chosen.connect(lambda _: self.changed.emit())
        self.device_box.activated.connect(self._on_device)
        self.embeddings_check.toggled.connect(lambda _: self.changed.emit())

    @property
    def summary(self) -> str:
        """A few words on what is chosen."""
        adapter = Path(self.adapter.current).name if self.adapter.current else "no adapter"
        return f"{adapter}, {self.device_box.currentText().lower()}"

    def set_device(self, state: DeviceState) -> None:
        """Offer the devices, and show the state of the one in use."""
        self._names = state.names
        self._show_devices()
        self.state.setText(state.description)

    def set_settings(self, settings: SegmentSettings) -> None:
        """Show adapter, device, and whether embeddings are kept."""
        self.adapter.set_current(settings.adapter or "")
        with QSignalBlocker(self.embeddings_check):
            self.embeddings_check.setChecked(settings.keep_embeddings)
        self._device = settings.device
        self._show_devices()

    def applied_to(self, settings: SegmentSettings) -> SegmentSettings:
        """Return the settings with what is shown here."""
        return replace(
            settings,
            adapter=self.adapter.current or None,
            device=self._device,
            keep_embeddings=self.embeddings_check.isChecked(),
        )

    def _show_devices(self) -> None:
        names = [*self._names]
        if self._device not in names:
            names.append(self._device)
        box = self.device_box
        with QSignalBlocker(box):
            if [box.itemData(i) for i in range(box.count())] != names:
                box.clear()
                for name in names:
                    box.addItem("Automatic" if name == "auto" else name, name)
            box.setCurrentIndex(names.index(self._device))

    def _on_device(self, index: int) -> None:
        self._device = str(self.device_box.itemData(index))
        self.changed.emit()
