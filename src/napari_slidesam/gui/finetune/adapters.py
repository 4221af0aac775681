"""The adapters at hand: shown, used in the segment dock, exported, imported, removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_slidesam.gui.finetune.state import AdapterRow
from napari_slidesam.gui.segment_widget import SegmentWidget
from napari_slidesam.jobs.adapter_files import (
    adapters,
    export_adapter,
    import_adapter,
    read_adapter,
    remove,
)
from napari_slidesam.model.catalogue import EMBEDDED

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    import napari

    from napari_slidesam.errors import SlideSamError
    from napari_slidesam.gui.finetune.views.panel import FinetunePanel
    from napari_slidesam.gui.worker import Worker
    from napari_slidesam.jobs.adapter_files import Adapter

PLUGIN, SEGMENT_DOCK = "napari-slidesam", "Segment with Slide-SAM"


class Adapters:
    """What is done with adapters, for one dock.

    Parameters
    ----------
    viewer : napari.Viewer
    panel : FinetunePanel
    files : Worker
        Its thread reads and writes.
    root : Path, optional
        Where adapters are; the user's own folder without it.
    say : callable
        Shows a message, and whether it is an error.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        panel: FinetunePanel,
        files: Worker,
        *,
        root: Path | None,
        say: Callable[[str, bool], None],
    ) -> None:
        self._viewer, self._panel, self._files = viewer, panel, files
        self._root, self._say = root, say

    def show(self, chosen: str | None = None) -> None:
        """List the adapters anew, here and in the segment docks of this viewer."""

        def work(cancelled: threading.Event) -> Iterator[tuple[AdapterRow, ...]]:
            yield tuple(
                AdapterRow(a.name, str(a.folder), a.model, a.note) for a in adapters(self._root)
            )

        def taken(rows: tuple[AdapterRow, ...]) -> None:
            self._panel.set_adapters(rows, chosen)
            for dock in segment_docks(self._viewer):
                dock.controller.list_networks()

        self._files.submit(work, taken, self._done)

    def model_of(self, folder: str) -> str:
        """Return the network that an adapter belongs to; empty where that is not known."""
        return read_adapter(Path(folder)).model if folder else ""

    def use(self, folder: str) -> None:
        """Put an adapter on the network of the segment dock, which is opened where it is not."""
        docks = segment_docks(self._viewer)
        if not docks:
            _, opened = self._viewer.window.add_plugin_dock_widget(PLUGIN, SEGMENT_DOCK)
            docks = [opened]
        model = self.model_of(folder) or EMBEDDED
        for dock in docks:
            dock.controller.use_network(model, folder)
        self._say(f"The segment dock uses the adapter “{read_adapter(Path(folder)).name}”.", False)

    def export(self, folder: str, target: str) -> None:
        """Write an adapter to a folder or to one file."""

        def work(cancelled: threading.Event) -> Iterator[Path]:
            yield export_adapter(Path(folder), Path(target))

        self._files.submit(work, lambda path: self._say(f"Wrote {path}.", False), self._done)

    def take_in(self, source: str) -> None:
        """Import an adapter once a process of its own has seen that it works."""
        self._say("Checking the adapter …", False)

        def work(cancelled: threading.Event) -> Iterator[Adapter]:
            yield import_adapter(Path(source), self._root)

        def taken(adapter: Adapter) -> None:
            self._say(f"“{adapter.name}” is an adapter for {adapter.model}.", False)
            self.show(str(adapter.folder))

        self._files.submit(work, taken, self._done)

    def remove(self, folder: str) -> None:
        """Delete an adapter that is at hand."""

        def work(cancelled: threading.Event) -> Iterator[None]:
            remove(Path(folder), self._root)
            yield

        self._files.submit(work, lambda _: self.show(), self._done)

    def _done(self, error: SlideSamError | None) -> None:
        if error is not None:
            self._say(str(error), True)


def segment_docks(viewer: napari.Viewer) -> list[SegmentWidget]:
    """Return the segment docks that are open in a viewer."""
    widgets = getattr(viewer.window, "dock_widgets", {})  # older versions do not tell
    return [widget for widget in widgets.values() if isinstance(widget, SegmentWidget)]
