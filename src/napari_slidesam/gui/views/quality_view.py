"""The quality strip with its title and a button for each of the worst slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from napari_slidesam.gui.views.parts import ChipButton, Heading, QuietLabel
from napari_slidesam.gui.views.quality_strip import QualityStrip

if TYPE_CHECKING:
    from napari_slidesam.gui.state import QualityState

_MOST_BUTTONS = 4


class QualityView(QWidget):
    """Says which slices of the selected object to look at."""

    slice_requested = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.strip = QualityStrip()
        self.strip.slice_requested.connect(self.slice_requested)
        self.span = QuietLabel()
        self.span.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._worst: tuple[int, ...] | None = None
        self._worst_label = QuietLabel("Worst")
        self._worst_label.setAlignment(Qt.AlignmentFlag.AlignRight)
        policy = QSizePolicy.Policy
        self._worst_label.setSizePolicy(policy.Fixed, policy.Fixed)
        self._worst_label.setToolTip("The slices where one more box helps most.")
        self.buttons = tuple(self._worst_button(i) for i in range(_MOST_BUTTONS))
        title = Heading("Quality by slice")
        top = QHBoxLayout()
        top.setSpacing(4)
        top.addWidget(title)
        top.addWidget(self.span, 1)
        top.addWidget(self._worst_label)
        for button in self.buttons:
            top.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self.strip)
        self.set_state(None)

    def set_state(self, state: QualityState | None) -> None:
        """Show the selected object's slices; None where no object is selected."""
        self.strip.set_state(state)
        self.strip.setEnabled(state is not None)
        if state is None:
            self.span.setText("no object selected")
        elif not state.scores:
            self.span.setText("no slices yet")
        else:
            n_done = len(state.scores)
            self.span.setText(f"{n_done} slice{'s' if n_done != 1 else ''}")
        worst = state.worst[:_MOST_BUTTONS] if state is not None else ()
        if worst == self._worst:
            return
        self._worst = worst
        self._worst_label.setVisible(bool(worst))
        for i, button in enumerate(self.buttons):
            button.setVisible(i < len(worst))
            if i < len(worst):
                button.setText(str(worst[i]))
                button.setAccessibleName(f"Go to slice {worst[i]}")

    def _worst_button(self, place: int) -> ChipButton:
        button = ChipButton("Go to this slice: one more box helps most here.")
        button.clicked.connect(lambda: self._go_to(place))
        return button

    def _go_to(self, place: int) -> None:
        if self._worst is not None and place < len(self._worst):
            self.slice_requested.emit(self._worst[place])
