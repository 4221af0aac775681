"""The segment dock's controller: one viewer, one panel, and the sessions of its images.

Rules are in `decisions`, what is drawn in `prompting` and `prompts_sync`, what grows in `runs`,
what is shown in `stream` and `presenter`, what is done with objects in `objects`, what is kept
in `keeping`. This module connects them, and follows the viewer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_slidesam.errors import VolumeError
from napari_slidesam.gui.dock import Dock
from napari_slidesam.gui.keeping import Keeping
from napari_slidesam.gui.layers import image_choices
from napari_slidesam.gui.network import Network, device_state, model_names
from napari_slidesam.gui.objects import ObjectActions
from napari_slidesam.gui.painting import Painting
from napari_slidesam.gui.presenter import ObjectRows, quality_state
from napari_slidesam.gui.prompting import Prompting
from napari_slidesam.gui.runs import Runs
from napari_slidesam.gui.shortcuts import Shortcuts, bind_history, unbind_history
from napari_slidesam.gui.state import HistoryState
from napari_slidesam.gui.worker import Worker
from napari_slidesam.gui.workspace import Workspace, workspace_of

if TYPE_CHECKING:
    from pathlib import Path

    import napari
    from napari.layers import Layer

    from napari_slidesam.engine.session import Session
    from napari_slidesam.gui.settings import SettingsStore
    from napari_slidesam.gui.state import SegmentSettings
    from napari_slidesam.gui.views.panel import SegmentPanel

logger = logging.getLogger(__name__)

PANEL_MS = 100
"""The panel follows a run ten times a second."""

KEEP_MS = 300
"""Settings are kept when a person has stopped to turn a wheel."""

GRID = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
AXIS_NAMES = "zyx"


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
        self._positive = True
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
        self._rows = ObjectRows()
        self._shortcuts = Shortcuts(viewer)
        self._panel_timer = self._single_shot(PANEL_MS, self._show_panel)
        self._keep_timer = self._single_shot(KEEP_MS, lambda: store.save(self.dock.settings))
        self._layers_timer = self._single_shot(0, self._follow_layers)
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
        self._panel.set_models(model_names())
        self._panel.set_adapters(())
        self._panel.set_shortcuts(self._bind_keys())
        self._load_network()
        self._show_images()
        active = self._viewer.layers.selection.active
        names = [choice.name for choice in image_choices(self._viewer.layers)]
        if names:
            self.choose_image(active.name if active and active.name in names else names[-1])
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
        self._let_go()
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

    def choose_image(self, name: str) -> None:
        """Segment another image; its layers are made where they are not there yet."""
        image = self._viewer.layers[name] if name in self._viewer.layers else None
        if image is None or image_choices([image]) == ():
            self._show_images()
            return
        if self.workspace is not None and self.workspace.image is image:
            return
        self._take(workspace_of(image, self._viewer.layers) or Workspace(image))

    def choose_channel(self, channel: int | None) -> None:
        """Segment another colour of an RGB image; what has grown stays."""
        if self.workspace is not None:
            self.workspace.channel = channel

    def set_settings(self, settings: SegmentSettings) -> None:
        """Use other settings from the next run on, and remember them."""
        before, self.dock.settings = self.dock.settings, settings
        self._keep_timer.start()
        if Network.key(before) != Network.key(settings):
            self._load_network()
        workspace = self.workspace
        if workspace is not None and before.overlap_rule is not settings.overlap_rule:
            for leading, session in workspace.sessions.items():
                state = session.state
                session.set_overlap_rule(settings.overlap_rule)
                self.dock.show_changes(leading, state)

    def switch_sign(self) -> None:
        """Make the next points negative, or positive again."""
        self._positive = not self._positive
        self.prompting.sync.set_sign(self._positive)
        self.dock.say(f"Points are {'positive' if self._positive else 'negative'} now.")

    def draw(self, what: str) -> None:
        """Take the tool for boxes or points."""
        workspace = self.workspace
        if workspace is None:
            return
        layer = workspace.boxes if what == "boxes" else workspace.points
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.selection.active = layer
            layer.mode = "add_rectangle" if what == "boxes" else "add"

    # -- images and layers -------------------------------------------------------------------

    def _take(self, workspace: Workspace) -> None:
        """Work on an image from now on."""
        self._let_go()
        try:
            workspace.volume(workspace.first)
        except VolumeError as error:
            self.dock.say(str(error), True)
            self._show_images()
            return
        self.dock.workspace = workspace
        image = workspace.image
        assert image is not None, "it was found in the viewer"
        image.events.data.connect(self._on_image_data)
        for name in ("name", *GRID):
            getattr(image.events, name).connect(self._on_image_grid)
        self.runs.set_workspace(workspace)
        self._restore_layers()
        self._show_images()
        self.draw("boxes")
        self._shown_leading = self.dock.leading
        self.keeping.offer_recovery()
        self._changed()

    def _let_go(self) -> None:
        """Work on no image; its layers and what they show stay."""
        workspace = self.workspace
        self.runs.set_workspace(None)
        self.dock.stream.flush()
        self.dock.stream.show_in(None)
        self._unwatch()
        self.prompting.forget()
        if workspace is not None:
            image = workspace.image
            if image is not None:
                image.events.data.disconnect(self._on_image_data)
                for name in ("name", *GRID):
                    getattr(image.events, name).disconnect(self._on_image_grid)
        self.dock.workspace = None
        self.dock.selected, self.dock.is_editing = None, False

    def _unwatch(self) -> None:
        self.prompting.sync.attach(None)
        self.painting.attach(None)
        self.dock.colours.hide((), ())
        workspace = self.workspace
        if workspace is not None and workspace.labels is not None:
            unbind_history(workspace.labels)

    def _restore_layers(self) -> None:
        """Make the layers that are missing, and show the sessions in them."""
        workspace = self.workspace
        assert workspace is not None
        selected = set(self._viewer.layers.selection)
        self._unwatch()
        added = workspace.restore_layers(self._viewer)
        labels = workspace.labels
        assert labels is not None
        self.dock.colours.attach(labels)
        self.dock.stream.show_in(labels)
        self.prompting.sync.attach(workspace)
        self.prompting.sync.set_sign(self._positive)
        self.painting.attach(labels)
        bind_history(labels, self.objects.undo, self.objects.redo)
        for leading, session in workspace.sessions.items():
            if labels in added:
                self._show_all_of(leading, session)
            self.prompting.show(leading)
        self.objects.show_hidden()
        if selected:
            self._viewer.layers.selection = selected & set(self._viewer.layers)

    def _show_all_of(self, leading: tuple[int, ...], session: Session) -> None:
        """Paint everything that a session holds."""
        empty = type(session.state)()
        self.dock.stream.mark_changes(leading, empty, session.state.planes)

    def _on_layers(self, event: Any) -> None:
        self._layers_timer.start()

    def _follow_layers(self) -> None:
        """Deal with layers that came or went, after all of them did."""
        workspace = self.workspace
        self._show_images()
        if workspace is None:
            names = [choice.name for choice in image_choices(self._viewer.layers)]
            if names:
                self.choose_image(names[-1])
            return
        if workspace.image is None or workspace.image not in self._viewer.layers:
            name = workspace.image_name
            self._let_go()
            self._show_images()
            self._changed()
            self.dock.say(f"The image {name} was removed. What was segmented stays as labels.")
            return
        missing = [x for x in workspace.layers if x not in self._viewer.layers]
        if missing:
            self._restore_layers()
            self.dock.say(
                f"The dock needs the layer {missing[0].name}: it was made again with all it "
                "showed. Close the dock to remove it."
            )

    def _on_image_data(self, event: Any) -> None:
        """Follow an image whose array was replaced."""
        workspace = self.workspace
        image = None if workspace is None else workspace.image
        if workspace is None or image is None:
            return
        self.runs.abandon()
        fresh = Workspace(image, workspace.channel)
        if fresh.shape_zyx == workspace.shape_zyx and _n_axes(workspace.labels) == image.ndim:
            self.dock.say("The image was replaced: what was segmented stays, runs were stopped.")
            return
        for layer in workspace.layers:
            layer.metadata.pop("napari-slidesam", None)
            layer.name = f"{layer.name} (before)"
        self._take(fresh)
        self.dock.say("The image has another shape now: the objects so far stay as labels.")

    def _on_image_grid(self, event: Any) -> None:
        """Keep the layers on the image's grid; follow its name."""
        workspace = self.workspace
        image = None if workspace is None else workspace.image
        if workspace is None or image is None:
            return
        if event.type == "name":
            workspace.image_name = str(image.name)
            self._layers_timer.start()
            return
        value = getattr(image, event.type)
        for layer in workspace.layers:
            setattr(layer, event.type, value.affine_matrix if event.type == "affine" else value)

    # -- what is displayed -------------------------------------------------------------------

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
            if self._viewer.dims.ndisplay == 3:
                self.dock.say("Boxes and points are drawn in 2D: switch the view back (Ctrl+Y).")
        self._changed()

    def _changed(self) -> None:
        if not self._is_closed and not self._panel_timer.isActive():
            self._panel_timer.start()

    def _show_images(self) -> None:
        name = None
        if self.workspace is not None and self.workspace.image is not None:
            name = str(self.workspace.image.name)
        self._panel.set_images(image_choices(self._viewer.layers), name)

    def _show_panel(self) -> None:
        """Have the panel show the session of what is displayed."""
        session, plane, selected = self.dock.session, self.dock.displayed(), self.dock.selected
        if plane is None:
            self._panel.set_plane("")
            self._panel.set_slice_count(None)
        else:
            shape = self.workspace.shape_zyx if self.workspace is not None else (1, 1, 1)
            count = shape[plane.axis]
            where = f"{AXIS_NAMES[plane.axis]} = {plane.slice_index} of {count}"
            self._panel.set_plane(where + "".join(f", {i}" for i in plane.leading))
            self._panel.set_slice_count(count)
        self._panel.set_progress(self.runs.progress)
        if session is None or self.workspace is None:
            self._panel.set_objects((), None)
            self._panel.set_quality(None)
            self._panel.set_history(HistoryState())
            return
        entries = self._rows.entries(
            session,
            colour_of=self.dock.colours.colour_of,
            hidden=self.workspace.hidden.get(self.dock.leading, ()),
            running=self.runs.running(self.dock.leading),
        )
        is_there = selected in session.object_ids
        self._panel.set_objects(entries, selected if is_there else None)
        self._panel.set_quality(
            quality_state(session, selected, plane) if is_there and selected is not None else None
        )
        self._panel.set_history(HistoryState(session.undo_names, session.redo_names))
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
        panel.image_chosen.connect(self.choose_image)
        panel.channel_chosen.connect(self.choose_channel)
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
                ("Shift-B", "draw boxes", lambda: self.draw("boxes")),
                ("Shift-N", "set points", lambda: self.draw("points")),
                ("Q", "switch between positive and negative points", self.switch_sign),
                ("N", "next box is a new object", objects.new_object),
                ("G", "run", self.prompting.run),
                ("Control-.", "stop the run", self.runs.cancel),
                ("J", "go to the next of the worst slices", objects.go_to_worst),
                ("K", "accept the selected object", objects.accept_selected),
                ("H", "hide or show the selected object", objects.toggle_visible),
                ("Control-Z", "undo the last operation", objects.undo),
                ("Control-Shift-Z", "redo", objects.redo),
            )
        )
        return (*bound, ("Alt+click", "set a point of the other sign"))


def _n_axes(layer: Layer | None) -> int:
    return 0 if layer is None else int(layer.ndim)
