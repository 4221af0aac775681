"""The object list's data: rows that are changed in place, never rebuilt."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, Signal

from napari_slidesam.gui.views.parts import plain_tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.gui.state import ObjectEntry

_NO_PARENT = QModelIndex()


class Column(enum.IntEnum):
    """What each column shows."""

    VISIBLE = 0
    NAME = 1
    QUALITY = 2
    ACCEPTED = 3
    EDIT = 4
    DELETE = 5


def volume_text(volume: float, unit: str) -> str:
    """Return a volume with its unit, whose third power it is given in; "" for pixels.

    Voxels say the same where the unit is a pixel.
    """
    name = {"micrometer": "µm", "um": "µm", "millimeter": "mm", "nanometer": "nm"}.get(unit, unit)
    if name in ("", "px", "pixel", "pixels", "voxel"):
        return ""
    number = f"{volume:,.0f}" if volume >= 1000 else f"{volume:.3g}"
    if volume >= 1e9:
        mantissa, exponent = f"{volume:.2e}".split("e")
        powers = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
        number = f"{mantissa}\N{MULTIPLICATION SIGN}10{str(int(exponent)).translate(powers)}"
    return f"{number} {name}" if name[-1] in "³3" else f"{number} {name}³"


def size_text(entry: ObjectEntry) -> str:
    """Return an object's size as the second line of its row."""
    if entry.voxels == 0 and entry.is_waiting:
        return "waiting…"
    if entry.voxels == 0:
        return "growing…" if entry.is_running else "empty"
    volume = volume_text(entry.volume, entry.unit)
    voxels = f"{entry.voxels:,} voxel{'s' if entry.voxels != 1 else ''}"
    return f"{volume} · {voxels}" if volume else voxels


def _tip(entry: ObjectEntry, column: Column) -> str:
    match column:
        case Column.VISIBLE:
            return "Hide this object" if entry.is_visible else "Show this object"
        case Column.NAME:
            state = ", growing" if entry.is_running else ", waiting" if entry.is_waiting else ""
            return f"{entry.name}{state}\n{size_text(entry)}\nDouble-click to rename."
        case Column.QUALITY:
            if entry.quality is None:
                return "Nothing has grown yet."
            return f"Mean predicted quality of its slices: {entry.quality:.2f} of 1."
        case Column.ACCEPTED:
            if entry.is_accepted:
                return "Accepted: later runs leave it as it is. Click to take that back."
            return "Accept: mark as good, so that later runs leave it as it is."
        case Column.EDIT:
            return "Edit again: go to its prompts and change them."
        case Column.DELETE:
            return "Delete this object; undo brings it back."


def spoken(entry: ObjectEntry, column: Column) -> str:
    """Return what a screen reader says of a cell."""
    match column:
        case Column.VISIBLE:
            return f"{entry.name}: {'visible' if entry.is_visible else 'hidden'}"
        case Column.NAME:
            return f"{entry.name}, {size_text(entry)}"
        case Column.QUALITY:
            known = entry.quality is not None
            return f"{entry.name}: quality {entry.quality:.2f}" if known else "no quality yet"
        case Column.ACCEPTED:
            return f"{entry.name}: {'accepted' if entry.is_accepted else 'not accepted'}"
        case Column.EDIT:
            return f"Edit {entry.name} again"
        case Column.DELETE:
            return f"Delete {entry.name}"


class ObjectModel(QAbstractTableModel):
    """Entries as rows.

    ``renamed``, from the cell's editor, is the only thing that the model itself says: what a
    person does to the other cells is the view's matter.
    """

    renamed = Signal(int, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._entries: list[ObjectEntry] = []

    def entry(self, row: int) -> ObjectEntry:
        """Return the entry of a row."""
        return self._entries[row]

    def row_of(self, object_id: int | None) -> int:
        """Return an object's row, -1 where it has none."""
        ids = (entry.object_id for entry in self._entries)
        return next((row for row, one in enumerate(ids) if one == object_id), -1)

    def set_entries(self, entries: Sequence[ObjectEntry]) -> None:
        """Make the rows equal to entries, touching only rows that differ."""
        wanted = {entry.object_id for entry in entries}
        for row in range(len(self._entries) - 1, -1, -1):
            if self._entries[row].object_id not in wanted:
                self.beginRemoveRows(_NO_PARENT, row, row)
                del self._entries[row]
                self.endRemoveRows()
        for row, entry in enumerate(entries):
            self._place(row, entry)

    def _place(self, row: int, entry: ObjectEntry) -> None:
        """Put an entry into a row: changed in place, moved there, or new."""
        if row < len(self._entries) and self._entries[row].object_id == entry.object_id:
            if self._entries[row] != entry:
                self._entries[row] = entry
                self.dataChanged.emit(self.index(row, 0), self.index(row, len(Column) - 1))
            return
        old = self.row_of(entry.object_id)
        if old < 0:
            self.beginInsertRows(_NO_PARENT, row, row)
            self._entries.insert(row, entry)
            self.endInsertRows()
            return
        self.beginMoveRows(_NO_PARENT, old, old, _NO_PARENT, row)
        self._entries.insert(row, self._entries.pop(old))
        self.endMoveRows()
        self._place(row, entry)

    def rowCount(self, parent: QModelIndex = _NO_PARENT) -> int:
        """Return the number of objects."""
        return 0 if parent.isValid() else len(self._entries)

    def columnCount(self, parent: QModelIndex = _NO_PARENT) -> int:
        """Return the number of columns."""
        return 0 if parent.isValid() else len(Column)

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Return that all can be selected, and names be edited."""
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        if index.column() == Column.NAME:
            flags |= Qt.ItemFlag.ItemIsEditable
        return flags

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return name, tooltip and spoken text; the delegate reads the entry itself."""
        if not index.isValid() or index.row() >= len(self._entries):
            return None
        entry, column = self._entries[index.row()], Column(index.column())
        roles = Qt.ItemDataRole
        if role in (roles.DisplayRole, roles.EditRole) and column is Column.NAME:
            return entry.name
        if role == roles.ToolTipRole:
            return plain_tip(_tip(entry, column))
        if role == roles.AccessibleTextRole:
            return spoken(entry, column)
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Say that a person has typed another name; the row follows when it is set."""
        if role != Qt.ItemDataRole.EditRole or index.column() != Column.NAME:
            return False
        entry, name = self._entries[index.row()], str(value).strip()
        if not name or name == entry.name:
            return False
        self.renamed.emit(entry.object_id, name)
        return True
