"""A session as what the panel shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_slidesam.engine.summary import ObjectRow, object_row
from napari_slidesam.gui.state import ObjectEntry, QualityState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from napari.layers import Labels

    from napari_slidesam.engine.objects import ObjectState
    from napari_slidesam.engine.session_view import SessionView
    from napari_slidesam.gui.layers import Plane

    Colour = tuple[float, float, float, float]

N_WORST = 3
"""Slices that are marked as the worst."""

MAX_DIRECT_LABELS = 4096
"""Objects up to which some can be hidden: each gets a colour of its own in a table."""


class ObjectRows:
    """Objects as rows of the list; counted again only where they changed."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ObjectState, ObjectRow]] = {}

    def entries(
        self,
        view: SessionView,
        *,
        colour_of: Callable[[int], Colour],
        hidden: Collection[int],
        running: Collection[int],
        waiting: Collection[int] = (),
    ) -> tuple[ObjectEntry, ...]:
        """Return the rows, sorted by object; what waits for its first run has one too."""
        states = view.state.objects
        self._known = {i: known for i, known in self._known.items() if i in states}
        entries = [
            replace(
                self._entry(view, state, colour_of(i), i not in hidden, i in running),
                is_waiting=i in waiting,
            )
            for i, state in states.items()
        ]
        unit = view.info.unit
        entries += [
            ObjectEntry(i, f"object {i}", colour_of(i), 0, 0.0, unit, None, is_waiting=True)
            for i in waiting
            if i not in states
        ]
        return tuple(sorted(entries, key=lambda entry: entry.object_id))

    def _entry(
        self,
        view: SessionView,
        state: ObjectState,
        colour: Colour,
        is_visible: bool,
        is_running: bool,
    ) -> ObjectEntry:
        known = self._known.get(state.object_id)
        if known is None or (known[0] is not state and not (is_running and state.has_cross_edits)):
            # Where edits cross slices, counting draws every plane: that waits for the run's end.
            known = (state, object_row(state, view.info.spacing_zyx, view.info.unit))
            self._known[state.object_id] = known
        row = known[1]
        return ObjectEntry(
            state.object_id,
            state.name,
            colour,
            row.voxels,
            row.volume,
            row.unit,
            row.mean_quality,
            is_visible=is_visible,
            is_accepted=state.is_accepted,
            is_running=is_running,
        )


def quality_state(view: SessionView, object_id: int, plane: Plane | None) -> QualityState:
    """Return an object's slices for the quality strip."""
    state = view.object_state(object_id)
    slices = state.own_slices
    scores = tuple((i, p.quality.score) for i, p in slices.items() if p.n_voxels)
    prompted = () if state.prompts is None else state.prompts.anchor_slices
    return QualityState(
        object_id,
        view.shape_zyx[state.axis],
        scores,
        worst=view.worst_slices(object_id, N_WORST) if state.slices else (),
        prompted=prompted,
        current=plane.slice_index if plane is not None and plane.axis == state.axis else None,
    )


class LabelColours:
    """Colours of objects in a labels layer, and which of them are hidden."""

    def __init__(self) -> None:
        self._labels: Labels | None = None
        self._own: object | None = None
        self._hiding: object | None = None

    def attach(self, labels: Labels | None) -> None:
        """Colour this layer from now on."""
        self._labels, self._own, self._hiding = labels, None, None

    def colour_of(self, object_id: int) -> Colour:
        """Return an object's colour, also where it is hidden."""
        if self._labels is None or object_id == 0:
            return (1.0, 1.0, 0.0, 1.0)
        colormap = self._labels.colormap
        if self._own is not None and colormap is self._hiding:
            colormap = self._own
        r, g, b, a = (float(v) for v in np.asarray(colormap.map(object_id)).ravel()[:4])
        return (r, g, b, a)

    def hide(self, hidden: Collection[int], object_ids: Collection[int]) -> None:
        """Make objects invisible; the layer's own colours come back where none is."""
        labels = self._labels
        if labels is None:
            return
        if labels.colormap is not self._hiding:  # also where a person chose another meanwhile
            self._own = labels.colormap
        if not hidden or len(object_ids) > MAX_DIRECT_LABELS:
            if self._hiding is not None and self._own is not None:
                labels.colormap = self._own
            self._hiding = None
            return
        colours: dict[int | None, object] = {None: (0.0, 0.0, 0.0, 0.0), 0: (0.0, 0.0, 0.0, 0.0)}
        for object_id in object_ids:
            is_hidden = object_id in hidden
            colours[object_id] = (0.0, 0.0, 0.0, 0.0) if is_hidden else self.colour_of(object_id)
        labels.colormap = DirectLabelColormap(color_dict=colours)
        self._hiding = labels.colormap
