"""Growing a recorded session's objects again, to the same masks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.results import StopReason
from napari_slidesam.errors import SessionError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from napari_slidesam.engine.predictor import Predictor
    from napari_slidesam.engine.results import SliceResult
    from napari_slidesam.engine.session_view import SessionView
    from napari_slidesam.volume import Volume

logger = logging.getLogger(__name__)


def replay(
    session: SessionView,
    predictor: Predictor,
    volume: Volume,
    *,
    check_model: bool = True,
    cancel: threading.Event | None = None,
) -> Iterator[SliceResult]:
    """Run again what is recorded: each object's last run, with its prompts and config.

    Objects that were begun together run together, as then; an object's earlier runs, which its
    last one replaced, are left out. Planes edited by hand are no part of a run: to have them
    too, clear the grown slices and apply the results to the session itself::

        with session.operation("replay"):
            for object_id in session.object_ids:
                session.clear_slices(object_id)
            for result in replay(session, predictor, volume):
                session.apply(result)

    A run that was cancelled is replayed to its natural end.

    Parameters
    ----------
    session : SessionView
        Not changed; a `Session` is one.
    predictor : Predictor
    volume : Volume
    check_model : bool
        Refuse a network that names itself otherwise than the recorded one.
    cancel : threading.Event, optional
        As for `propagate`.

    Yields
    ------
    SliceResult

    Raises
    ------
    SessionError
        The volume has another shape, the network another name, or nothing was recorded.
        Raised before anything is predicted.
    """
    view = session.snapshot()
    if volume.shape_zyx != view.shape_zyx:
        raise SessionError(
            f"The session is of a volume of shape {view.shape_zyx} (z, y, x); got one of "
            f"{volume.shape_zyx}. Give the volume {view.info.source or 'it was made for'}."
        )
    last = {p.object_id: i for i, run in enumerate(view.runs) for p in run.prompts}
    last = {object_id: i for object_id, i in last.items() if object_id in view.state.objects}
    if not last:
        raise SessionError("The session has no recorded run of its objects: begin_run records one.")
    runs = [view.runs[i] for i in sorted(set(last.values()))]
    name = predictor.model.name
    others = sorted({run.model_name for run in runs} - {name})
    if check_model and others:
        raise SessionError(
            f"The session was recorded with the network {others[0]!r}; got {name!r}. Load that "
            "network, or replay with check_model=False and expect other masks."
        )
    _warn_of_cancelled(view)
    for i in sorted(set(last.values())):
        run = view.runs[i]
        prompts = [p for p in run.prompts if last.get(p.object_id) == i]
        yield from propagate(predictor, volume, prompts, run.config, cancel=cancel)


def _warn_of_cancelled(view: SessionView) -> None:
    for state in view.state.objects.values():
        if any(s.stop.reason is StopReason.CANCELLED for s in state.stops):
            logger.warning(
                "Object %d was cancelled when it was recorded; its replay goes on to the end.",
                state.object_id,
            )
