"""Writing so that a kill at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from napari_slidesam.errors import FileFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def replacing_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path``; what was written there then takes its place.

    The temporary file is removed when the block fails, and the old file stays as it was.

    Raises
    ------
    FileFormatError
        The file exists and ``overwrite`` is false, or it cannot be written.
    """
    target = Path(path)
    temporary = _temporary_beside(target, overwrite)
    if target.is_dir():
        raise FileFormatError(f"{target} is a folder; a file was to be written. Choose a name.")
    try:
        with _writing(target):
            yield temporary
            _flush(temporary)
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def replacing_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder's path beside ``path``, which then takes its place.

    As `replacing_file`. Where a folder is replaced it is first moved aside, then removed.
    """
    target = Path(path)
    temporary = _temporary_beside(target, overwrite)
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        with _writing(target):
            yield temporary
            if target.exists():
                os.replace(target, old)
            try:
                os.replace(temporary, target)
            except OSError:
                if old.exists():
                    os.replace(old, target)
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if target.exists():
            _remove(old)


def _temporary_beside(target: Path, overwrite: bool) -> Path:
    if not target.parent.is_dir():
        raise FileFormatError(
            f"{target} cannot be written: the folder {target.parent} does not exist. Make it first."
        )
    if target.exists() and not overwrite:
        raise FileFormatError(
            f"{target} exists already. Choose another name, or replace it with overwrite=True "
            "(--overwrite on the command line)."
        )
    # The name keeps its suffixes: libraries choose their format by them.
    return target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}")


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise FileFormatError(
            f"{target} cannot be written: {reason}. Nothing there was changed. Free some space "
            "or choose a folder you may write to."
        ) from error


def _flush(path: Path) -> None:
    """Put the file on the disk, so that a power cut cannot leave a renamed empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
