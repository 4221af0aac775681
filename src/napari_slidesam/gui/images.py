"""Which image is segmented, and its layers: made, watched, made again, let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import VolumeError
from napari_slidesam.gui.layers import image_choices
from napari_slidesam.gui.shortcuts import bind_history, unbind_history
from napari_slidesam.gui.workspace import METADATA_KEY, Workspace, workspace_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Layer

    from napari_slidesam.engine.session import Session
    from napari_slidesam.gui.dock import Dock
    from napari_slidesam.gui.objects import ObjectActions
    from napari_slidesam.gui.painting import Painting
    from napari_slidesam.gui.prompting import Prompting
    from napari_slidesam.gui.runs import Runs

GRID = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


class Images:
    """Chooses the image of a dock, and keeps the dock's layers with it.

    Parameters
    ----------
    dock : Dock
    runs : Runs
    prompting : Prompting
    painting : Painting
    objects : ObjectActions
    show_images : callable
        Has the panel list the images.
    on_taken : callable
        Called when another image is segmented from now on.
    """

    def __init__(
        self,
        dock: Dock,
        runs: Runs,
        prompting: Prompting,
        painting: Painting,
        objects: ObjectActions,
        *,
        show_images: Callable[[], None],
        on_taken: Callable[[], None],
    ) -> None:
        self._dock, self._runs, self._prompting = dock, runs, prompting
        self._painting, self._objects = painting, objects
        self._show_images, self._on_taken = show_images, on_taken

    def choose(self, name: str) -> None:
        """Segment another image; its layers are made where they are not there yet."""
        image = self._dock.viewer.layers[name] if name in self._dock.viewer.layers else None
        if image is None or image_choices([image]) == ():
            self._show_images()
            return
        if self._dock.workspace is not None and self._dock.workspace.image is image:
            return
        self._take(workspace_of(image, self._dock.viewer.layers) or Workspace(image))

    def choose_channel(self, channel: int | None) -> None:
        """Segment another colour of an RGB image; what has grown stays."""
        if self._dock.workspace is not None:
            self._dock.workspace.channel = channel

    def draw(self, what: str) -> None:
        """Take the tool for boxes or points."""
        workspace = self._dock.workspace
        if workspace is None:
            return
        layer = workspace.boxes if what == "boxes" else workspace.points
        if layer is not None and layer in self._dock.viewer.layers:
            self._dock.viewer.layers.selection.active = layer
            layer.mode = "add_rectangle" if what == "boxes" else "add"

    def _take(self, workspace: Workspace) -> None:
        """Work on an image from now on."""
        self.let_go()
        try:
            workspace.volume(workspace.first)
        except VolumeError as error:
            self._dock.say(str(error), True)
            self._show_images()
            return
        self._dock.workspace = workspace
        workspace.overlap_rule = self._dock.settings.overlap_rule
        image = workspace.image
        assert image is not None, "it was found in the viewer"
        image.events.data.connect(self._on_image_data)
        for name in ("name", *GRID):
            getattr(image.events, name).connect(self._on_image_grid)
        self._runs.set_workspace(workspace)
        self._restore_layers()
        self._show_images()
        self.draw("boxes")
        self._on_taken()
        self._dock.on_changed()

    def let_go(self) -> None:
        """Work on no image; its layers and what they show stay."""
        workspace = self._dock.workspace
        self._runs.set_workspace(None)
        self._dock.stream.flush()
        self._dock.stream.show_in(None)
        self._unwatch()
        self._prompting.forget()
        if workspace is not None:
            image = workspace.image
            if image is not None:
                image.events.data.disconnect(self._on_image_data)
                for name in ("name", *GRID):
                    getattr(image.events, name).disconnect(self._on_image_grid)
        self._dock.workspace = None
        self._dock.selected, self._dock.is_editing = None, False

    def _unwatch(self) -> None:
        self._prompting.sync.attach(None)
        self._painting.attach(None)
        self._dock.colours.hide((), ())
        workspace = self._dock.workspace
        for layer in () if workspace is None else workspace.layers:
            unbind_history(layer)

    def _restore_layers(self) -> None:
        """Make the layers that are missing, and show the sessions in them."""
        workspace = self._dock.workspace
        assert workspace is not None
        selected = set(self._dock.viewer.layers.selection)
        self._unwatch()
        added = workspace.restore_layers(self._dock.viewer)
        labels = workspace.labels
        assert labels is not None
        self._dock.colours.attach(labels)
        self._dock.stream.show_in(labels)
        self._prompting.sync.attach(workspace)
        self._painting.attach(labels)
        for layer in workspace.layers:
            bind_history(layer, self._objects.undo, self._objects.redo)
        for leading, session in workspace.sessions.items():
            if labels in added:
                self._show_all_of(leading, session)
            self._prompting.show(leading)
        self._objects.show_hidden()
        if selected:
            self._dock.viewer.layers.selection = selected & set(self._dock.viewer.layers)

    def _show_all_of(self, leading: tuple[int, ...], session: Session) -> None:
        """Paint everything that a session holds."""
        empty = type(session.state)()
        self._dock.stream.mark_changes(leading, empty, session.state.planes)

    def follow_layers(self) -> None:
        """Deal with layers that came or went, after all of them did."""
        workspace = self._dock.workspace
        self._show_images()
        if workspace is None:
            names = [choice.name for choice in image_choices(self._dock.viewer.layers)]
            if names:
                self.choose(names[-1])
            return
        if workspace.image is None or workspace.image not in self._dock.viewer.layers:
            name = workspace.image_name
            self.let_go()
            self._show_images()
            self._dock.on_changed()
            self._dock.say(f"The image {name} was removed. What was segmented stays as labels.")
            return
        missing = [x for x in workspace.layers if x not in self._dock.viewer.layers]
        if missing:
            self._restore_layers()
            self._dock.say(
                f"The dock needs the layer {missing[0].name}: it was made again with all it "
                "showed. Close the dock to remove it."
            )

    def _on_image_data(self, event: Any) -> None:
        """Follow an image whose array was replaced."""
        workspace = self._dock.workspace
        image = None if workspace is None else workspace.image
        if workspace is None or image is None:
            return
        self._runs.abandon()
        fresh = Workspace(image, workspace.channel)
        if fresh.shape_zyx == workspace.shape_zyx and _n_axes(workspace.labels) == image.ndim:
            self._dock.say("The image was replaced: what was segmented stays, runs were stopped.")
            return
        for layer in workspace.layers:
            layer.metadata.pop(METADATA_KEY, None)
            layer.name = f"{layer.name} (before)"
        self._take(fresh)
        self._dock.say("The image has another shape now: the objects so far stay as labels.")

    def _on_image_grid(self, event: Any) -> None:
        """Keep the layers on the image's grid; follow its name."""
        workspace = self._dock.workspace
        image = None if workspace is None else workspace.image
        if workspace is None or image is None:
            return
        if event.type == "name":
            workspace.image_name = str(image.name)
            self._show_images()
            return
        value = getattr(image, event.type)
        for layer in workspace.layers:
            setattr(layer, event.type, value.affine_matrix if event.type == "affine" else value)
        self._follow_spacing(workspace)

    def _follow_spacing(self, workspace: Workspace) -> None:
        """Begin sessions that are empty anew where the image's scale is another now."""
        is_kept = False
        for leading, session in tuple(workspace.sessions.items()):
            volume = workspace.volume(leading)
            info = session.info
            if info.unit == volume.unit and np.allclose(info.spacing_zyx, volume.spacing_zyx):
                continue
            if session.object_ids or session.can_undo or session.can_redo:
                is_kept = True
            else:
                del workspace.sessions[leading]
        if is_kept:
            self._dock.say(
                "The image's scale changed: labels are exported with it, but the volumes in this "
                "session stay in the scale that it was begun with."
            )
        self._dock.on_changed()


def _n_axes(layer: Layer | None) -> int:
    return 0 if layer is None else int(layer.ndim)
