"""Sessions kept aside every minute, and found again after a crash.

::

    <state folder>/recovery/<session id>/
        lock         held as long as the napari that saves here lives
        about.json   image, leading position
        session/     as `Session.save` writes it

A folder whose lock is free was left behind by a crash; a dock that is closed removes its own.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

import platformdirs

from napari_slidesam.gui.settings import PLUGIN
from napari_slidesam.gui.state import RecoveryOffer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_slidesam.engine.session import Session

logger = logging.getLogger(__name__)

_ABOUT, _LOCK, _SESSION = "about.json", "lock", "session"


def recovery_root() -> Path:
    """Return where sessions are kept aside; the folder need not exist."""
    return platformdirs.user_state_path(PLUGIN, appauthor=False) / "recovery"


def try_lock(file: IO[bytes]) -> bool:
    """Take a file's lock, which the system frees when the process ends; whether it was free."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A session that a crash left behind."""

    folder: Path
    image_name: str
    leading: tuple[int, ...]
    shape_zyx: tuple[int, ...]
    saved_at: str
    n_objects: int

    @property
    def session_folder(self) -> Path:
        """What `Session.load` takes."""
        return self.folder / _SESSION

    @property
    def offer(self) -> RecoveryOffer:
        """What the panel shows."""
        return RecoveryOffer(str(self.folder), self.image_name, self.saved_at, self.n_objects)


class Recovery:
    """Keeps the sessions of one dock aside.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: dict[str, IO[bytes]] = {}

    def save(self, session: Session, image_name: str, leading: tuple[int, ...]) -> None:
        """Save a session; called in any thread, also while a run goes on.

        Raises
        ------
        SessionError, OSError
            It cannot be written.
        """
        folder = self._root / session.info.session_id
        folder.mkdir(parents=True, exist_ok=True)
        if session.info.session_id not in self._locks:
            lock = (folder / _LOCK).open("ab")
            try_lock(lock)
            self._locks[session.info.session_id] = lock
        view = session.snapshot()
        session.save(folder / _SESSION, overwrite=True)
        about = {
            "image_name": image_name,
            "leading": list(leading),
            "shape_zyx": list(view.shape_zyx),
            "saved_at": datetime.now().astimezone().isoformat(timespec="seconds"),
            "n_objects": len(view.object_ids),
        }
        (folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")

    def discard(self, session_id: str) -> None:
        """Remove what was kept of a session."""
        lock = self._locks.pop(session_id, None)
        if lock is not None:
            lock.close()
            shutil.rmtree(self._root / session_id, ignore_errors=True)

    def close(self) -> None:
        """Remove what was kept: nothing crashed."""
        for session_id in list(self._locks):
            self.discard(session_id)

    def left_behind(self) -> tuple[LeftBehind, ...]:
        """Return the sessions that crashes left behind, the newest first."""
        return tuple(sorted(self._found(), key=lambda x: x.saved_at, reverse=True))

    def _found(self) -> Iterator[LeftBehind]:
        folders = self._root.iterdir() if self._root.is_dir() else ()
        for folder in folders:
            if folder.name in self._locks or not (folder / _ABOUT).is_file():
                continue
            try:
                with (folder / _LOCK).open("ab") as lock:
                    if not try_lock(lock):
                        continue
                about: dict[str, Any] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
                found = LeftBehind(
                    folder,
                    str(about["image_name"]),
                    tuple(int(i) for i in about["leading"]),
                    tuple(int(n) for n in about["shape_zyx"]),
                    str(about["saved_at"]),
                    int(about["n_objects"]),
                )
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s is not offered: %s", folder, error)
                continue
            if found.n_objects:
                yield found


def remove(left: LeftBehind) -> None:
    """Remove what a crash left behind."""
    shutil.rmtree(left.folder, ignore_errors=True)
