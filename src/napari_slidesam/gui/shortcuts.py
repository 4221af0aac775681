"""Keys of the segment dock: only ones that nothing else has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari
from napari.layers import Image, Labels, Points, Shapes
from napari.utils.key_bindings import coerce_keybinding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Layer

Shortcut = tuple[str, str, "Callable[[], None]"]
"""Key, what it does, and what is called."""


class Shortcuts:
    """Binds keys in a viewer, and takes them away again.

    A key that the viewer or a layer type already has is left alone and not listed: a layer's
    key would shadow the viewer's.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._bound: list[str] = []

    def bind(self, shortcuts: Sequence[Shortcut]) -> tuple[tuple[str, str], ...]:
        """Bind what is free; return key and meaning of what was bound."""
        listed = []
        for key, meaning, action in shortcuts:
            if self._is_taken(key):
                continue
            self._viewer.bind_key(key, _ignoring_argument(action))
            self._bound.append(key)
            listed.append((key.replace("Control", "Ctrl").replace("-", "+"), meaning))
        return tuple(listed)

    def unbind(self) -> None:
        """Take every key away that was bound."""
        for key in self._bound:
            if coerce_keybinding(key) in self._viewer.keymap:
                self._viewer.bind_key(key, None)
        self._bound.clear()

    def _is_taken(self, key: str) -> bool:
        binding = coerce_keybinding(key)
        maps: list[Any] = [self._viewer.keymap, napari.Viewer.class_keymap]
        maps += [kind.class_keymap for kind in (Image, Labels, Points, Shapes)]
        return any(binding in keymap for keymap in maps)


def bind_history(layer: Layer, undo: Callable[[], None], redo: Callable[[], None]) -> None:
    """Let Ctrl+Z in a layer of the dock undo whole operations; all other layers keep theirs."""
    layer.bind_key("Control-Z", _ignoring_argument(undo), overwrite=True)
    layer.bind_key("Control-Shift-Z", _ignoring_argument(redo), overwrite=True)


def unbind_history(layer: Layer) -> None:
    """Give a layer napari's own undo back."""
    for key in ("Control-Z", "Control-Shift-Z"):
        if coerce_keybinding(key) in layer.keymap:
            layer.bind_key(key, None)


def _ignoring_argument(action: Callable[[], None]) -> Callable[[Any], None]:
    def called(_: Any) -> None:
        action()

    return called
