"""Events of a job, read while they are written."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_slidesam.errors import TuningError
from napari_slidesam.jobs.events import from_line

if TYPE_CHECKING:
    from pathlib import Path

    from napari_slidesam.jobs.events import JobEvent

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**20
"""Read at a time, so that a long file does not hold up who reads it."""


class EventTail:
    """Reads what was added to a file of events since the last time.

    Parameters
    ----------
    path : Path
        It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> list[JobEvent]:
        """Return the new events; a line that is half written comes next time.

        A file that became shorter, or was away, is read from its beginning.
        """
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                added = file.read(CHUNK_BYTES)
        except OSError:
            self._offset, self._rest = 0, b""
            return []
        self._offset += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        return [event for line in lines if (event := _event(line)) is not None]


def _event(line: bytes) -> JobEvent | None:
    text = line.decode(errors="replace").strip()
    if not text:
        return None
    try:
        return from_line(text)
    except TuningError as error:  # the process was killed within the line
        logger.debug("A line of events is left out: %s", error)
        return None
