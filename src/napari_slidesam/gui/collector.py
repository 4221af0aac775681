"""Python's full garbage collections, kept out of the way of what a person watches.

A full collection looks at every object of the process and holds the interpreter's lock meanwhile.
Beside napari and PyTorch that takes some tenths of a second, in which the window stands still,
whichever thread it falls in. One is due when a quarter more objects have survived since the last:
after the imports, when a first object grows. So one is made when the first dock opens, which takes
its time anyway, and while a worker is busy they come a hundred times more rarely. The small
collections go on as always.
"""

from __future__ import annotations

import gc
import threading

RARER = 100
"""How many times more collections of the middle generation come before a full one."""


class FullCollections:
    """Whether full collections are rare now; as long as somebody holds them off."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._usual = (0, 0, 0)
        self._is_clean = False

    def clean_once(self) -> None:
        """Make a full collection, the first time this is called in a process."""
        if not self._is_clean and gc.isenabled():
            gc.collect()
        self._is_clean = True

    def hold_off(self) -> None:
        """Make them rare, until `release` was called as often."""
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._usual = gc.get_threshold()
                first, second, third = self._usual
                gc.set_threshold(first, second, third * RARER)

    def release(self) -> None:
        """Let them come as always, if nobody else holds them off."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                gc.set_threshold(*self._usual)


full_collections = FullCollections()
"""Of this process."""
