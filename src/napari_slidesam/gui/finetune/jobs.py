"""The queue seen from the GUI thread: everything that touches the disk happens in a thread."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_slidesam.errors import SlideSamError, TuningError
from napari_slidesam.gui.finetune.curves import CurvesLook, draw_curves
from napari_slidesam.gui.finetune.history import JobHistory
from napari_slidesam.gui.finetune.presenter import job_rows, live_state, preview_pictures
from napari_slidesam.gui.finetune.state import Action, Curves, JobRow, LiveState, PreviewState
from napari_slidesam.gui.worker import Worker
from napari_slidesam.jobs.entries import CHECKS_FILE, JobEntry
from napari_slidesam.jobs.spec import EVENTS_FILE, PREVIEW_FILE
from napari_slidesam.jobs.tail import EventTail

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_slidesam.jobs.adapter_files import Adapter
    from napari_slidesam.jobs.queue import JobQueue
    from napari_slidesam.jobs.spec import FinetuneJob

logger = logging.getLogger(__name__)

POLL_MS = 400
"""How often the queue is looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What is new since the last look.

    Parameters
    ----------
    entries : tuple of JobEntry
    rows : tuple of JobRow
    watched : str, optional
        The job that is looked at.
    live : LiveState, optional
    has_picture, has_preview : bool
        Whether the next two are new.
    picture : ndarray of uint8, optional
        Of the curves.
    preview : PreviewState, optional
    new_adapter : Adapter, optional
        One that has just been put among those at hand.
    """

    entries: tuple[JobEntry, ...]
    rows: tuple[JobRow, ...]
    watched: str | None
    live: LiveState | None
    has_picture: bool = False
    has_preview: bool = False
    picture: Any = None
    preview: PreviewState | None = None
    new_adapter: Adapter | None = None


@dataclass(slots=True, eq=False)
class _Known:
    """What was read of a job so far."""

    events: EventTail
    checks: EventTail
    history: JobHistory = field(default_factory=JobHistory)
    is_registered: bool = False


class _Watcher:
    """Looks at the queue's files; used by the jobs' thread alone."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._known: dict[str, _Known] = {}
        self._drawn: tuple[str | None, Curves, CurvesLook] | None = None
        self._previewed: tuple[str | None, float] = (None, 0.0)

    def look(self, watched: str | None, look: CurvesLook | None, *, anew: bool) -> Update:
        """Return how everything stands; ``anew`` with pictures that were there before."""
        if anew:
            self._drawn, self._previewed = None, (None, -1.0)
        entries = self._queue.poll()
        for entry in entries:
            self._read(entry)
        new_adapter = self._register(entries)
        histories = {job_id: known.history for job_id, known in self._known.items()}
        chosen = next((e for e in entries if e.job_id == watched), None)
        if chosen is None and entries:
            chosen = next((e for e in entries if e.is_alive), entries[-1])
        live = None if chosen is None else live_state(chosen, histories[chosen.job_id])
        job_id = None if chosen is None else chosen.job_id
        has_picture, picture = self._draw(job_id, live, look)
        has_preview, preview = self._preview(chosen)
        return Update(
            entries,
            job_rows(entries, histories),
            job_id,
            live,
            has_picture,
            has_preview,
            picture,
            preview,
            new_adapter,
        )

    def _read(self, entry: JobEntry) -> None:
        known = self._known.get(entry.job_id)
        if known is None:
            folder = entry.folder
            known = _Known(EventTail(folder / EVENTS_FILE), EventTail(folder / CHECKS_FILE))
            self._known[entry.job_id] = known
        known.history.add_look(known.checks.read())
        while known.history.add(known.events.read()):
            pass

    def _register(self, entries: tuple[JobEntry, ...]) -> Adapter | None:
        """Put the adapter of a job that is over among those at hand; one at a time."""
        for entry in entries:
            known = self._known[entry.job_id]
            is_over = entry.state in ("done", "stopped") and not entry.is_alive
            if known.is_registered or not is_over:
                continue
            known.is_registered = True
            try:
                return self._queue.register(entry.job_id)
            except SlideSamError as error:
                logger.warning("The adapter of %s is left where it is: %s", entry.job.name, error)
        return None

    def _draw(
        self, job_id: str | None, live: LiveState | None, look: CurvesLook | None
    ) -> tuple[bool, Any]:
        if live is None or look is None:
            return False, None
        wanted = (job_id, live.curves, look)
        if wanted == self._drawn:
            return False, None
        self._drawn = wanted
        has_any = bool(live.curves.steps or live.curves.dice)
        return True, draw_curves(live.curves, look) if has_any else None

    def _preview(self, entry: JobEntry | None) -> tuple[bool, PreviewState | None]:
        if entry is None:
            changed = self._previewed[0] is not None
            self._previewed = (None, 0.0)
            return changed, None
        path = entry.folder / PREVIEW_FILE
        try:
            written = path.stat().st_mtime
        except OSError:
            written = 0.0
        if (entry.job_id, written) == self._previewed:
            return False, None
        self._previewed = (entry.job_id, written)
        return True, _read_preview(path) if written else None


def _read_preview(path: Path) -> PreviewState | None:
    try:
        # Opened here, for numpy leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file) as stored:
            return preview_pictures(
                np.asarray(stored["image"], dtype=np.float32),
                np.asarray(stored["truth"], dtype=bool),
                np.asarray(stored["before"], dtype=bool),
                np.asarray(stored["after"], dtype=bool),
                str(stored["title"]),
            )
    except (OSError, ValueError, KeyError, BadZipFile) as error:  # not whole, or old
        logger.warning("The preview %s cannot be shown: %s", path, error)
        return None


class Jobs(QObject):
    """The queue for the dock: asks it, and looks at it again and again, in a thread.

    Parameters
    ----------
    queue : JobQueue
    on_update : callable
        Called on the GUI thread with each `Update`.
    on_error : callable
        Called on the GUI thread with a message.
    """

    def __init__(
        self,
        queue: JobQueue,
        *,
        on_update: Callable[[Update], None],
        on_error: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.queue = queue
        self.watched: str | None = None
        self._look: CurvesLook | None = None
        self._on_update, self._on_error = on_update, on_error
        self._said = ""
        self._worker = Worker("slide-sam jobs")
        self._watcher = _Watcher(queue)
        self._is_looking = False
        self._wants_look = self._anew = False
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(lambda: self.refresh())

    @property
    def is_busy(self) -> bool:
        """Whether something that was asked for is not done yet."""
        return self._worker.is_busy

    def open(self) -> None:
        """Begin to look."""
        self._timer.start()
        self.refresh()

    def close(self) -> None:
        """End the thread; the jobs go on."""
        self._timer.stop()
        self._worker.close()

    def watch(self, job_id: str | None) -> None:
        """Look at this job from now on."""
        self.watched = job_id
        self.refresh()

    def look_anew(self) -> None:
        """Look again, with all pictures: those of the last look were not shown."""
        self._anew = True
        self.refresh()

    def set_look(self, look: CurvesLook) -> None:
        """Draw the curves like this from now on."""
        self._look = look
        self.refresh()

    def ask(self, job_id: str, action: Action) -> None:
        """Ask for something to be done with a job."""

        def work(cancelled: threading.Event) -> Iterator[str | None]:
            yield self._done(job_id, action)

        def taken(new_id: str | None) -> None:
            if new_id is not None:
                self.watched = new_id

        self._submit(work, taken)

    def start(self, job_id: str, *, check: bool) -> None:
        """Look at a job's data, or let it run."""
        self.ask(job_id, Action.CHECK if check else Action.START)

    def change(self, job_id: str, job: FinetuneJob) -> None:
        """Give a job that has not begun other settings."""

        def work(cancelled: threading.Event) -> Iterator[None]:
            self.queue.change(job_id, job)
            yield

        self._submit(work, lambda _: None)

    def register(self, job_id: str, on_adapter: Callable[[Adapter], None]) -> None:
        """Make sure that a job's adapter is at hand."""

        def work(cancelled: threading.Event) -> Iterator[Adapter]:
            adapter = self.queue.register(job_id, again=True)
            if adapter is None:
                raise TuningError("The job has no adapter yet: let it run first.")
            yield adapter

        self._submit(work, on_adapter)

    def refresh(self) -> None:
        """Look now; where a look is under way, once more after it."""
        if self._is_looking:
            self._wants_look = True
            return
        self._is_looking, self._wants_look = True, False
        watched, look, anew = self.watched, self._look, self._anew
        self._anew = False

        def work(cancelled: threading.Event) -> Iterator[Update]:
            yield self._watcher.look(watched, look, anew=anew)

        self._worker.submit(work, self._on_update, self._looked)

    def _done(self, job_id: str, action: Action) -> str | None:
        queue = self.queue
        if action is Action.DUPLICATE:
            return queue.duplicate(job_id)
        if action in (Action.UP, Action.DOWN):
            ids = [entry.job_id for entry in queue.entries()]
            queue.move(job_id, ids.index(job_id) + (1 if action is Action.DOWN else -1))
            return None
        does: dict[Action, Callable[[str], None]] = {
            Action.START: queue.start,
            Action.PAUSE: queue.pause,
            Action.STOP: queue.stop,
            Action.CHECK: queue.check,
            Action.REMOVE: queue.remove,
        }
        does[action](job_id)
        return None

    def _submit(
        self,
        work: Callable[[threading.Event], Iterator[Any]],
        on_result: Callable[[Any], None],
    ) -> None:
        def ended(error: SlideSamError | None) -> None:
            if error is not None:
                self._on_error(str(error))
            self.refresh()

        self._worker.submit(work, on_result, ended)

    def _looked(self, error: SlideSamError | None) -> None:
        self._is_looking = False
        said = "" if error is None else str(error)
        if said and said != self._said:
            self._on_error(said)
        self._said = said
        if self._wants_look:
            self.refresh()
