"""The user's own networks: names for files that stay where they are.

The list is a JSON file. It is written in one step under a lock, so that no process loses what
another one adds, and a file that cannot be read is never written over.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from napari_slidesam.errors import CheckpointError, FileFormatError
from napari_slidesam.io.atomic import replacing_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FORMAT = "napari-slidesam models"
FORMAT_VERSION = 1

LOCK_TIMEOUT_S = 10.0
"""A change takes milliseconds: who waits longer waits for a process that hangs."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class UserModel:
    """A file of the user's, known by a name.

    Parameters
    ----------
    name : str
    path : str
        Absolute.
    licence : str, optional
    notes : str
    size_bytes : int
    sha256 : str
        Size and digest of the file when it was added.
    """

    name: str
    path: str
    licence: str | None
    notes: str
    size_bytes: int
    sha256: str


def is_model_name(text: str) -> bool:
    """Tell whether a text can name a network: letters, digits and ``._-``, at most 64."""
    return _NAME.fullmatch(text) is not None


def read_user_models(path: Path) -> tuple[UserModel, ...]:
    """Return the user's networks, in the order they were added; none where there is no file.

    Raises
    ------
    FileFormatError
        The file is there but cannot be understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _unreadable(path, f"it is not JSON, {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _unreadable(path, f"expected the format {FORMAT!r}")
    if content.get("version") != FORMAT_VERSION:
        raise _unreadable(
            path, f"expected version {FORMAT_VERSION}, it has {content.get('version')!r}"
        )
    models = content.get("models")
    if not isinstance(models, list):
        raise _unreadable(path, "expected a list of models")
    return tuple(_user_model(path, item) for item in models)


def add_user_model(path: Path, model: UserModel) -> None:
    """Append a network to the list.

    Raises
    ------
    CheckpointError
        The list has that name already.
    FileFormatError
        The list cannot be read or written.
    """
    with _exclusive(path):
        models = read_user_models(path)
        if any(m.name.lower() == model.name.lower() for m in models):
            raise CheckpointError(
                f"There is a network named {model.name!r} already. Choose another name, or "
                f"remove that one first: napari-slidesam models remove {model.name}"
            )
        _write(path, (*models, model))


def remove_user_model(path: Path, name: str) -> None:
    """Take a network off the list; its file stays.

    Raises
    ------
    CheckpointError
        The list has no such name.
    FileFormatError
        The list cannot be read or written.
    """
    with _exclusive(path):
        models = read_user_models(path)
        kept = tuple(m for m in models if m.name != name)
        if len(kept) == len(models):
            raise CheckpointError(f"There is no network of your own named {name!r}.")
        _write(path, kept)


def _user_model(path: Path, item: Any) -> UserModel:
    try:
        model = UserModel(
            name=item["name"],
            path=item["path"],
            licence=item["licence"],
            notes=item["notes"],
            size_bytes=item["size_bytes"],
            sha256=item["sha256"],
        )
    except (KeyError, TypeError) as error:
        raise _unreadable(path, f"an entry is incomplete ({error!r})") from error
    texts = (model.name, model.path, model.notes, model.sha256, model.licence or "")
    if not all(isinstance(t, str) for t in texts) or not isinstance(model.size_bytes, int):
        raise _unreadable(path, f"an entry holds values of the wrong type ({item!r})")
    return model


def _unreadable(path: Path, reason: str) -> FileFormatError:
    return FileFormatError(
        f"The list of your own networks {path} cannot be read: {reason}. Nothing was changed. "
        "Repair it, or move it away to start a new list."
    )


def _write(path: Path, models: Sequence[UserModel]) -> None:
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "models": [asdict(m) for m in models],
    }
    with replacing_file(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_TIMEOUT_S)
        lock.acquire()
    except Timeout as error:
        raise FileFormatError(
            f"The list of your own networks {path} is being changed by another process for more "
            f"than {LOCK_TIMEOUT_S:g} s. Wait for it or end it, then try again."
        ) from error
    except OSError as error:
        raise FileFormatError(
            f"The list of your own networks {path} cannot be written: {error}."
        ) from error
    try:
        yield
    finally:
        lock.release()
