"""Reading weights files whole, and comparing them with what they should be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from napari_slidesam.model.digests import installed_sha256, read_record, sha256_of, write_record
from napari_slidesam.model.entries import ModelEntry, ModelState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_slidesam.model.library import ModelLibrary


class FileState(StrEnum):
    """What a look at a whole file found."""

    OK = "ok"
    RECORDED = "recorded"
    UNKNOWN = "unknown"
    DAMAGED = "damaged"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying one network found.

    Parameters
    ----------
    name : str
    path : Path
    state : FileState
        ``recorded``: there was nothing to compare with, from now on there is. ``unknown``: the
        shipped file of a checkout, for which no installer noted anything.
    found_sha256, expected_sha256 : str, optional
    """

    name: str
    path: Path
    state: FileState
    found_sha256: str | None = None
    expected_sha256: str | None = None


def verify_models(library: ModelLibrary, *names: str) -> Iterator[Verification]:
    """Yield what is found in each file that is here, shipped, downloaded or the user's own.

    Parameters
    ----------
    library : ModelLibrary
    *names : str
        Only these, here or not.

    Yields
    ------
    Verification
        One a network. The user's own are also told when they are gone.

    Raises
    ------
    CheckpointError
        There is no such network, or a file cannot be read.
    FileFormatError
        The list of the user's own networks, or a recorded checksum, cannot be read.
    """
    entries = [library.entry(n) for n in names] if names else library.entries()
    for entry in entries:
        if entry.is_ready or entry.is_user or names:
            yield _verified(entry)


def _verified(entry: ModelEntry) -> Verification:
    if not entry.is_ready:
        return Verification(entry.name, entry.path, FileState.MISSING, None, entry.sha256)
    found, expected = sha256_of(entry.path), entry.sha256
    if entry.state is ModelState.SHIPPED:
        expected = installed_sha256(entry.path)
    elif expected is None:
        record = read_record(entry.path)
        expected = None if record is None else record.sha256
    if expected is not None:
        state = FileState.OK if found == expected else FileState.DAMAGED
    elif entry.state is ModelState.SHIPPED:
        state = FileState.UNKNOWN
    else:
        write_record(entry.path, found)
        state = FileState.RECORDED
    return Verification(entry.name, entry.path, state, found, expected)
