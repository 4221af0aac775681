"""The fine-tune dock's controller: one viewer, one panel, and the queue that all docks share.

Pairs are in `pairs`, their saving in `saving`, the queue in `jobs`, adapters in `adapters`, batch
apply in `applying`, words in `presenter`. This module connects them, and follows the viewer.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_slidesam.errors import SlideSamError
from napari_slidesam.gui.finetune.adapters import Adapters
from napari_slidesam.gui.finetune.applying import Applying
from napari_slidesam.gui.finetune.jobs import Jobs
from napari_slidesam.gui.finetune.pairs import Pairs
from napari_slidesam.gui.finetune.saving import save_pairs
from napari_slidesam.gui.finetune.state import Action, ApplyState
from napari_slidesam.gui.network import device_state, model_names
from napari_slidesam.gui.worker import Worker
from napari_slidesam.jobs.spec import ADAPTER_FOLDER

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    import napari

    from napari_slidesam.gui.finetune.jobs import Update
    from napari_slidesam.gui.finetune.pairs import Chosen
    from napari_slidesam.gui.finetune.remembered import RememberedJob
    from napari_slidesam.gui.finetune.views.panel import FinetunePanel
    from napari_slidesam.jobs.adapter_files import Adapter
    from napari_slidesam.jobs.entries import JobEntry
    from napari_slidesam.jobs.queue import JobQueue
    from napari_slidesam.jobs.spec import FinetuneJob

logger = logging.getLogger(__name__)

KEEP_MS = 500
"""After a change of the settings, until they are kept."""


class FinetuneController(QObject):
    """Connects a viewer, a panel and the queue.

    Parameters
    ----------
    viewer : napari.Viewer
    panel : FinetunePanel
    queue : JobQueue
    remembered : RememberedJob, optional
        Where the settings of the next job are kept; nowhere without it.
    adapters_root : Path, optional
        Where adapters are; the user's own folder without it.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        panel: FinetunePanel,
        *,
        queue: JobQueue,
        remembered: RememberedJob | None = None,
        adapters_root: Path | None = None,
    ) -> None:
        super().__init__()
        self._remembered = remembered
        self._settings: FinetuneJob | None = None
        self._viewer, self._panel = viewer, panel
        self._is_closed = False
        self._entries: dict[str, JobEntry] = {}
        self._shown: str | None = None
        self._named: list[Any] = []
        self.files = Worker("slide-sam data")
        self.pairs = Pairs(viewer)
        self.jobs = Jobs(queue, on_update=self._on_update, on_error=self._fail)
        self.adapters = Adapters(viewer, panel, self.files, root=adapters_root, say=self.say)
        self.applying = Applying(
            viewer,
            show_targets=panel.apply.set_targets,
            show_state=panel.apply.set_state,
            say=self.say,
        )
        self._layers_timer = QTimer(self)
        self._layers_timer.setSingleShot(True)
        self._layers_timer.setInterval(0)
        self._layers_timer.timeout.connect(lambda: self._show_layers())
        self._keep_timer = QTimer(self)
        self._keep_timer.setSingleShot(True)
        self._keep_timer.setInterval(KEEP_MS)
        self._keep_timer.timeout.connect(lambda: self._keep())
        self._connect()

    @property
    def is_busy(self) -> bool:
        """Whether anything that was asked for is under way, besides the jobs themselves."""
        return (
            self.jobs.is_busy
            or self.files.is_busy
            or self.applying.is_busy
            or self._layers_timer.isActive()
        )

    @property
    def entries(self) -> tuple[JobEntry, ...]:
        """The jobs as they were last seen."""
        return tuple(self._entries.values())

    def open(self) -> None:
        """Show everything, begin to look at the queue, and take the layers that fit."""
        self._panel.settings.set_models(model_names())
        self._panel.settings.set_devices(device_state().names)
        self._panel.apply.set_state(ApplyState())
        if self._remembered is not None:
            self._panel.set_job(self._remembered.load())
        if self.pairs.has_guess():
            self.pairs.add_layers()
        self._show_layers()
        self.adapters.show()
        self.jobs.open()

    def close(self) -> None:
        """End the threads and let go of the viewer; jobs go on in their processes."""
        if self._is_closed:
            return
        self._is_closed = True
        self._layers_timer.stop()
        if self._keep_timer.isActive():
            self._keep_timer.stop()
            self._keep()
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed):
            emitter.disconnect(self._on_layers)
        self._let_go_of_names()
        self.jobs.close()
        self.applying.close()
        self.files.close()

    def say(self, text: str, is_error: bool = False) -> None:
        """Show a message in the panel."""
        if not self._is_closed:
            self._panel.show_message(text, is_error)

    # -- a new job ---------------------------------------------------------------------------

    def add_job(self, starts: bool) -> None:
        """Save the layers as a job's data, put it into the queue, and check or start it."""
        try:
            job, chosen = self._panel.job(), self.pairs.chosen()
            unlabelled = self._panel.advanced.unlabelled
        except SlideSamError as error:
            self.say(str(error), True)
            return
        name = job.name or self._free_name(chosen.name)
        job = dataclasses.replace(job, name=name, data=chosen.data)
        self._panel.set_can_add(False)
        if chosen.pairs:
            self.say(f"Saving the layers of “{name}” …")
        added: list[str] = []

        def work(cancelled: threading.Event) -> Iterator[str]:
            yield self._written(job, chosen, unlabelled, cancelled)

        def done(error: SlideSamError | None) -> None:
            self._panel.set_can_add(True)
            if error is not None:
                self.say(str(error), True)
                return
            self.say("")
            self._panel.settings.name_edit.clear()
            self.jobs.watched = added[0]
            self.jobs.start(added[0], check=not starts)

        self.files.submit(work, added.append, done)

    def _written(
        self,
        job: FinetuneJob,
        chosen: Chosen,
        unlabelled: tuple[int, ...],
        cancelled: threading.Event,
    ) -> str:
        """Write a job with its data; in the files' thread."""

        def fill(folder: Path) -> FinetuneJob:
            saved = save_pairs(chosen.pairs, folder, cancelled)
            pairs = tuple(dataclasses.replace(pair, unlabelled=unlabelled) for pair in saved)
            return dataclasses.replace(job, pairs=pairs)

        return self.jobs.queue.add(job, fill)

    def _on_settings(self) -> None:
        """Remember what is shown, soon; not while a field holds what it should not."""
        try:
            self._settings = self._panel.job()
        except SlideSamError:
            return
        self._keep_timer.start()

    def _keep(self) -> None:
        if self._remembered is not None and self._settings is not None:
            self._remembered.save(self._settings)

    def _free_name(self, stem: str) -> str:
        taken = {entry.job.name for entry in self._entries.values()}
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem} {number}", number + 1
        return name

    # -- the queue ---------------------------------------------------------------------------

    def _ask(self, job_id: str, action: Action) -> None:
        entry = self._entries.get(job_id)
        if action is Action.DUPLICATE and entry is not None:
            self._panel.set_job(dataclasses.replace(entry.job, name=""))
        self.jobs.ask(job_id, action)

    def _on_update(self, update: Update) -> None:
        self._entries = {entry.job_id: entry for entry in update.entries}
        panel = self._panel
        if self.jobs.watched not in self._entries:
            self.jobs.watched = update.watched
        panel.queue.set_rows(update.rows, self.jobs.watched)
        if update.watched != self.jobs.watched:  # chosen meanwhile: the next look shows it
            self.jobs.look_anew()
            return
        self._shown = update.watched
        panel.live.set_state(update.live)
        if update.has_picture:
            panel.live.set_curves(update.picture)
        if update.has_preview:
            panel.live.set_preview(update.preview)
        if update.new_adapter is not None:
            self.adapters.show()

    def _use_job(self) -> None:
        if self._shown is not None:
            self.jobs.register(self._shown, self._use)

    def _use(self, adapter: Adapter) -> None:
        self.adapters.show(str(adapter.folder))
        self.adapters.use(str(adapter.folder))

    def _export_job(self) -> None:
        entry = self._entries.get(self._shown or "")
        if entry is not None:
            folder = str(entry.folder / ADAPTER_FOLDER)
            self._panel.adapters.ask_export(folder, entry.job.name, is_zip=True)

    # -- batch apply -------------------------------------------------------------------------

    def _apply(self, boxes: str, adapter: str, out: str) -> None:
        try:
            model = self.adapters.model_of(adapter) or self._panel.settings.model.current
            device = str(self._panel.settings.device_box.currentData())
            request = self.applying.request(boxes, adapter, model, device, out)
        except SlideSamError as error:
            self.say(str(error), True)
            return
        self.applying.run(request)

    # -- the viewer --------------------------------------------------------------------------

    def _on_layers(self, event: Any = None) -> None:
        self._layers_timer.start()

    def _show_layers(self) -> None:
        """Show what of the viewer can be chosen; names are followed too."""
        if self._is_closed:
            return
        self._let_go_of_names()
        self._named = list(self._viewer.layers)
        for layer in self._named:
            layer.events.name.connect(self._on_layers)
        pairs, apply = self.pairs, self._panel.apply
        self._panel.pairs.set_rows(pairs.rows(), pairs.images, pairs.labels)
        apply.set_boxes(self.applying.boxes_layers)
        self.applying.show()

    def _let_go_of_names(self) -> None:
        for layer in self._named:
            layer.events.name.disconnect(self._on_layers)
        self._named = []

    def _add_pair(self) -> None:
        if not self.pairs.add_layers():
            self.say("No image layer with labels of its size is left: choose them in the line.")
        self._show_layers()

    def _add_paths(self, paths: list[str]) -> None:
        try:
            self.pairs.add_paths(paths)
        except SlideSamError as error:
            self.say(str(error), True)
        self._show_layers()

    def _change_pair(self, key: int, image: str, labels: str) -> None:
        self.pairs.change(key, image, labels)
        self._show_layers()

    def _remove_pair(self, key: int) -> None:
        self.pairs.remove(key)
        self._show_layers()

    def _fail(self, text: str) -> None:
        self.say(text, True)

    def _connect(self) -> None:
        panel, applying, adapters = self._panel, self.applying, self.adapters
        panel.pairs.pair_added.connect(self._add_pair)
        panel.pairs.pair_changed.connect(self._change_pair)
        panel.pairs.pair_removed.connect(self._remove_pair)
        panel.pairs.paths_added.connect(self._add_paths)
        panel.add_requested.connect(self.add_job)
        panel.settings_changed.connect(self._on_settings)
        panel.queue.job_selected.connect(self.jobs.watch)
        panel.queue.asked.connect(self._ask)
        panel.live.look_changed.connect(self.jobs.set_look)
        panel.live.use_requested.connect(self._use_job)
        panel.live.export_requested.connect(self._export_job)
        panel.adapters.use_requested.connect(adapters.use)
        panel.adapters.export_requested.connect(adapters.export)
        panel.adapters.import_requested.connect(adapters.take_in)
        panel.adapters.remove_requested.connect(adapters.remove)
        panel.apply.paths_added.connect(applying.add_paths)
        panel.apply.target_toggled.connect(applying.toggle)
        panel.apply.target_removed.connect(applying.remove)
        panel.apply.run_requested.connect(self._apply)
        panel.apply.cancel_requested.connect(applying.cancel)
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed):
            emitter.connect(self._on_layers)
