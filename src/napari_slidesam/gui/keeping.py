"""Keeping work: export, sessions saved and loaded, autosave, and what a crash left behind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_slidesam.engine.session import Session
from napari_slidesam.errors import SessionError, SlideSamError
from napari_slidesam.gui.decisions import counted
from napari_slidesam.gui.exporting import export
from napari_slidesam.gui.recovery import Recovery, remove

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_slidesam.engine.session_state import SessionState
    from napari_slidesam.gui.dock import Dock
    from napari_slidesam.gui.recovery import LeftBehind
    from napari_slidesam.gui.worker import Worker

logger = logging.getLogger(__name__)

AUTOSAVE_MS = 60_000


class Keeping(QObject):
    """Reads and writes sessions in a thread of its own.

    Parameters
    ----------
    dock : Dock
    files : Worker
        Its thread reads and writes.
    recovery_root : Path
    on_loaded : callable
        Takes the leading position at which another session is now.
    """

    def __init__(
        self,
        dock: Dock,
        files: Worker,
        recovery_root: Path,
        on_loaded: Callable[[tuple[int, ...], Session], None],
    ) -> None:
        super().__init__()
        self._dock, self._files, self._on_loaded = dock, files, on_loaded
        self._recovery = Recovery(recovery_root)
        self._kept: dict[str, SessionState] = {}
        self._offered: LeftBehind | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(AUTOSAVE_MS)
        self._timer.timeout.connect(lambda: self.autosave())
        self._timer.start()

    def close(self) -> None:
        """Stop; what was kept aside goes, for nothing crashed. Call it after the thread ended."""
        self._timer.stop()
        self._recovery.close()

    def export(self, kind: str, path: str) -> None:
        """Write the objects of what is displayed to a file."""
        workspace, session = self._dock.workspace, self._dock.session
        image = None if workspace is None else workspace.image
        if workspace is None or session is None or image is None:
            self._dock.say("There is nothing to export: segment an object first.")
            return
        try:
            volume = workspace.volume(self._dock.leading)
            work = export(session.snapshot(), kind, path, image, volume)
        except SlideSamError as error:
            self._dock.say(str(error), True)
            return
        self._files.submit(work, self._dock.say, self._done)

    def save_session(self, folder: str) -> None:
        """Save the session of what is displayed in a folder."""
        session = self._dock.session
        if session is None:
            self._dock.say("There is no session to save: choose an image first.")
            return

        def work(cancelled: threading.Event) -> Iterator[str]:
            session.save(folder)
            yield f"Saved {counted(len(session.object_ids))} in {folder}."

        self._files.submit(work, self._dock.say, self._done)

    def load_session(self, folder: str | Path, at: tuple[int, ...] | None = None) -> None:
        """Go on with a saved session, on the image that is chosen and what is displayed of it."""
        workspace = self._dock.workspace
        leading = self._dock.leading if at is None else at
        if workspace is None:
            self._dock.say("Open the image of the session first, and choose it.", True)
            return

        def work(cancelled: threading.Event) -> Iterator[Session]:
            session = Session.load(folder)
            if session.shape_zyx != workspace.shape_zyx:
                raise SessionError(
                    f"The session in {folder} is of an image of shape {session.shape_zyx} (z, y, "
                    f"x), but {workspace.image_name} has {workspace.shape_zyx}. Choose its image."
                )
            yield session

        def taken(session: Session) -> None:
            if self._dock.workspace is workspace:
                self._on_loaded(leading, session)
                self._dock.say(f"Resumed {counted(len(session.object_ids))} from {folder}.")

        self._files.submit(work, taken, self._done)

    def autosave(self) -> None:
        """Keep every session aside that changed since the last time."""
        workspace = self._dock.workspace
        if workspace is None:
            return
        for leading, session in workspace.sessions.items():
            known = self._kept.get(session.info.session_id)
            if session.state is not known and (session.object_ids or known is not None):
                self._keep(session, workspace.image_name, leading)

    def _keep(self, session: Session, image_name: str, leading: tuple[int, ...]) -> None:
        state, key = session.state, session.info.session_id
        self._kept[key] = state

        def work(cancelled: threading.Event) -> Iterator[None]:
            try:
                self._recovery.save(session, image_name, leading)
            except (SessionError, OSError) as error:
                raise SessionError(f"The work cannot be kept aside: {error}") from error
            yield

        def failed(error: SlideSamError | None) -> None:
            if error is not None:
                self._kept.pop(key, None)
                self._dock.say(str(error), True)

        self._files.submit(work, lambda _: None, failed)

    def offer_recovery(self) -> None:
        """Offer the newest session of the chosen image that a crash left behind."""
        workspace = self._dock.workspace
        if workspace is None:
            return
        for left in self._recovery.left_behind():
            is_here = left.image_name == workspace.image_name
            if is_here and left.shape_zyx == workspace.shape_zyx:
                self._offered = left
                self._dock.panel.offer_recovery(left.offer)
                return

    def answer_recovery(self, is_wanted: bool) -> None:
        """Go on with what was offered, or remove it."""
        left, self._offered = self._offered, None
        if left is None:
            return
        if is_wanted:
            self.load_session(left.session_folder, left.leading)
        else:
            remove(left)

    def _done(self, error: SlideSamError | None) -> None:
        if error is not None:
            self._dock.say(str(error), True)
