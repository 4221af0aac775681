"""The segment dock's controller: one viewer, one panel, and the sessions of its images.

Rules are in `decisions`, image and layers in `images`, what is drawn in `prompting` and
`prompts_sync`, what grows in `runs`, what is shown in `stream` and `overview`, what is done with
objects in `objects`, what is kept in `keeping`. This module connects them, and follows the viewer.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_slidesam.gui.dock import Dock
from napari_slidesam.gui.images import Images
from napari_slidesam.gui.keeping import Keeping
from napari_slidesam.gui.layers import image_choices
from napari_slidesam.gui.network import Network, adapter_folders, device_state, model_names
from napari_slidesam.gui.objects import ObjectActions
from napari_slidesam.gui.overview import Overview
from napari_slidesam.gui.painting import Painting
from napari_slidesam.gui.prompting import Prompting
from napari_slidesam.gui.runs import Runs
from napari_slidesam.gui.shortcuts import Shortcuts
from napari_slidesam.gui.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    import napari

    from napari_slidesam.engine.session import Session
    from napari_slidesam.gui.settings import SettingsStore
    from napari_slidesam.gui.state import SegmentSettings
    from napari_slidesam.gui.views.panel import SegmentPanel
    from napari_slidesam.gui.workspace import Workspace

logger = logging.getLogger(__name__)

PANEL_MS = 100
"""The panel follows a run ten times a second."""

KEEP_MS = 300
"""Settings are kept when a person has stopped to turn a wheel."""


class SegmentController(QObject):
    """Connects a viewer and a panel.

    Parameters
    ----------
    viewer : napari.Viewer
    panel : SegmentPanel
    store : SettingsStore
        Where the panel's settings are kept.
    recovery_root : Path
        Where sessions are kept against a crash.
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        panel: SegmentPanel,
        *,
        store: SettingsStore,
        recovery_root: Path,
    ) -> None:
        super().__init__()
        self._viewer, self._panel, self._store = viewer, panel, store
        self._is_closed = False
        self._shown_leading: tuple[int, ...] = ()
        self._is_3d = False
        self.dock = Dock(viewer, panel, store.load())
        self.worker, self.files = Worker("slide-sam"), Worker("slide-sam files")
        self.network = Network()
        self.runs = Runs(
            self.worker,
            self.network,
            self.dock.stream,
            settings=lambda: self.dock.settings,
            on_changed=self._on_run_changed,
            on_message=self.dock.say,
        )
        self.prompting = Prompting(self.dock, self.runs)
        self.painting = Painting(
            self.dock.stream,
            displayed=self.dock.displayed,
            session=self.dock.session_at,
            on_painted=self._on_painted,
            on_refused=lambda text: self.dock.say(text, True),
        )
        self.objects = ObjectActions(self.dock, self.runs, self.prompting, self.painting)
        self.keeping = Keeping(self.dock, self.files, recovery_root, self._on_loaded)
        self.overview = Overview(self.dock, self.runs)
        self.images = Images(
            self.dock,
            self.runs,
            self.prompting,
            self.painting,
            self.objects,
            show_images=self.overview.show_images,
            on_taken=self._on_taken,
        )
        self._shortcuts = Shortcuts(viewer)
        self._panel_timer = self._single_shot(PANEL_MS, self._show_panel)
        self._keep_timer = self._single_shot(KEEP_MS, lambda: store.save(self.dock.settings))
        self._layers_timer = self._single_shot(0, self.images.follow_layers)
        self._view_timer = self._single_shot(0, self._follow_view)
        self.dock.on_changed = self._changed
        self._connect()

    @property
    def workspace(self) -> Workspace | None:
        """The image that is segmented, its layers and its sessions."""
        return self.dock.workspace

    @property
    def session(self) -> Session | None:
        """The session of what is displayed."""
        return self.dock.session

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way: a run, a file, a drawing to be looked at."""
        return (
            self.worker.is_busy
            or self.files.is_busy
            or self.prompting.sync.is_busy
            or self.painting.is_busy
            or self.dock.stream.is_waiting
            or self._layers_timer.isActive()
        )

    def open(self) -> None:
        """Show everything, load the network, and choose the image that is selected."""
        self._panel.set_settings(self.dock.settings)
        self.list_networks()
        self._panel.set_shortcuts(self._bind_keys())
        self._load_network()
        self.overview.show_images()
        active = self._viewer.layers.selection.active
        names = [choice.name for choice in image_choices(self._viewer.layers)]
        if names:
            self.images.choose(active.name if active and active.name in names else names[-1])
        self._show_panel()

    def close(self) -> None:
        """Cancel what is under way, end the threads, and let go of the viewer."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._keep_timer.isActive():
            self._store.save(self.dock.settings)
        for timer in (self._keep_timer, self._panel_timer, self._layers_timer, self._view_timer):
            timer.stop()
        self.images.let_go()
        self.dock.stream.close()
        self.worker.close()
        self.files.close()
        self.keeping.close()
        self._shortcuts.unbind()
        events = self._viewer.layers.events
        events.inserted.disconnect(self._on_layers)
        events.removed.disconnect(self._on_layers)
        self._viewer.dims.events.disconnect(self._on_dims)

    # -- what the panel asks -----------------------------------------------------------------

    def set_settings(self, settings: SegmentSettings) -> None:
        """Use other settings from the next run on, and remember them."""
        before, self.dock.settings = self.dock.settings, settings
        self._keep_timer.start()
        if Network.key(before) != Network.key(settings):
            self._load_network()
        workspace = self.workspace
        if workspace is not None and before.overlap_rule is not settings.overlap_rule:
            workspace.overlap_rule = settings.overlap_rule
            for leading, session in workspace.sessions.items():
                state = session.state
                session.set_overlap_rule(settings.overlap_rule)
                self.dock.show_changes(leading, state)

    def list_networks(self) -> None:
        """Offer the networks and adapters that are on this computer now."""
        self._panel.set_models(model_names())
        self._panel.set_adapters(adapter_folders())

    def use_network(self, model: str, adapter: str | None) -> None:
        """Choose a network and its adapter, as a person does in the panel."""
        settings = replace(self.dock.settings, model=model, adapter=adapter)
        self.list_networks()
        self._panel.set_settings(settings)
        self.set_settings(settings)

    def switch_sign(self) -> None:
        """Make the next points negative, or positive again."""
        is_positive = self.prompting.sync.switch_sign()
        self.dock.say(f"Points are {'positive' if is_positive else 'negative'} now.")

    # -- what is displayed -------------------------------------------------------------------

    def _on_layers(self, event: Any) -> None:
        self._layers_timer.start()

    def _on_taken(self) -> None:
        self._shown_leading = self.dock.leading
        self.keeping.offer_recovery()

    def _on_dims(self, event: Any) -> None:
        self.prompting.sync.view_moved()
        self._view_timer.start()

    def _follow_view(self) -> None:
        """Show where the viewer is; another leading position has objects of its own."""
        if self.workspace is not None:
            leading = self.dock.leading
            if leading != self._shown_leading:
                self._shown_leading = leading
                self.dock.select(None)
                self.objects.show_hidden()
            is_3d = self._viewer.dims.ndisplay == 3
            if is_3d:
                self.dock.say("Boxes and points are drawn in 2D: switch the view back (Ctrl+Y).")
            elif self._is_3d:  # napari puts the tools away in 3D
                self.dock.say("Back in 2D: Shift+B takes the tool for boxes again.")
            self._is_3d = is_3d
        self._changed()

    def _changed(self) -> None:
        if not self._is_closed and not self._panel_timer.isActive():
            self._panel_timer.start()

    def _show_panel(self) -> None:
        self.overview.show()
        if self.runs.is_running:
            self._panel_timer.start()

    # -- what happened -----------------------------------------------------------------------

    def _on_run_changed(self, has_ended: bool) -> None:
        self._changed()
        if not has_ended or self._is_closed:
            return
        workspace = self.workspace
        if workspace is not None:
            self.painting.forget_strokes()
            self.objects.show_hidden()
            if not self.runs.start():
                self.prompting.show(self.dock.leading)

    def _on_painted(self, leading: tuple[int, ...]) -> None:
        self.objects.show_hidden()
        self._changed()

    def _on_loaded(self, leading: tuple[int, ...], session: Session) -> None:
        """Put a loaded session in the place of the one at a leading position."""
        workspace = self.workspace
        assert workspace is not None
        self.runs.abandon()
        before = workspace.session(leading)
        workspace.sessions[leading] = session
        keys = {*before.state.planes, *session.state.planes}
        self.dock.stream.mark_changes(leading, before.state, sorted(keys))
        self.dock.select(None)
        self.prompting.show(leading)
        self.keeping.autosave()

    def _load_network(self) -> None:
        self._panel.set_device(device_state())
        settings = self.dock.settings

        def failed(error: Any) -> None:
            if error is not None:
                self.dock.say(str(error), True)

        self.worker.submit(
            lambda cancelled: self.network.load(settings, cancelled),
            lambda found: self._panel.set_device(found[1]),
            failed,
        )

    # -- connections -------------------------------------------------------------------------

    def _single_shot(self, ms: int, action: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(ms)
        timer.timeout.connect(action)
        return timer

    def _connect(self) -> None:
        panel, objects, keeping = self._panel, self.objects, self.keeping
        panel.image_chosen.connect(self.images.choose)
        panel.channel_chosen.connect(self.images.choose_channel)
        panel.settings_changed.connect(self.set_settings)
        panel.run_requested.connect(self.prompting.run)
        panel.cancel_requested.connect(self.runs.cancel)
        panel.object_selected.connect(objects.select)
        panel.object_renamed.connect(objects.rename)
        panel.object_visibility_changed.connect(objects.set_visible)
        panel.object_accepted.connect(objects.accept)
        panel.object_edit_requested.connect(objects.edit)
        panel.object_deleted.connect(objects.delete)
        panel.slice_requested.connect(objects.go_to_slice)
        panel.undo_requested.connect(objects.undo)
        panel.redo_requested.connect(objects.redo)
        panel.export_requested.connect(keeping.export)
        panel.session_save_requested.connect(keeping.save_session)
        panel.session_load_requested.connect(keeping.load_session)
        panel.recovery_answered.connect(keeping.answer_recovery)
        events = self._viewer.layers.events
        events.inserted.connect(self._on_layers)
        events.removed.connect(self._on_layers)
        self._viewer.dims.events.connect(self._on_dims)

    def _bind_keys(self) -> tuple[tuple[str, str], ...]:
        objects = self.objects
        bound = self._shortcuts.bind(
            (
                ("Shift-B", "draw boxes", lambda: self.images.draw("boxes")),
                ("Shift-N", "set points", lambda: self.images.draw("points")),
                ("Q", "switch between positive and negative points", self.switch_sign),
                ("N", "next box is a new object", objects.new_object),
                ("G", "run", self.prompting.run),
                ("Control-.", "stop the run", self.runs.cancel),
                ("J", "go to the next of the worst slices", objects.go_to_worst),
                ("K", "accept the selected object", objects.accept_selected),
                ("H", "hide or show the selected object", objects.toggle_visible),
            )
        )
        return (
            *bound,
            ("Ctrl+Z", "undo the last operation, in the dock's layers"),
            ("Ctrl+Shift+Z", "redo it"),
            ("Alt+click", "set a point of the other sign"),
        )
