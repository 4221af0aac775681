"""A session as a folder, safe against a kill at any moment.

::

    folder/
        session.json           which state is the last complete one
        state-000007/
            state.json         objects, prompts, settings, runs, log
            masks.ome.zarr/    one label image an object

A save writes a whole new state, puts it on the disk, then replaces ``session.json`` in one step
and only then removes older states. What a killed save left behind goes with the next one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine import session_json, session_zarr
from napari_slidesam.engine.session_view import SessionView
from napari_slidesam.errors import FileFormatError, SessionError
from napari_slidesam.io.atomic import replacing_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_slidesam.engine.objects import ObjectState

FORMAT = "napari-slidesam session"
FORMAT_VERSION = 1

POINTER = "session.json"
STATE_FILE = "state.json"
MASKS = "masks.ome.zarr"

_STATE_FOLDER = re.compile(r"state-\d{6,}")
_LEFTOVER = re.compile(rf"state-\d{{6,}}|\.[0-9a-f]{{8}}-{re.escape(POINTER)}")


@dataclass(frozen=True, slots=True, eq=False)
class SaveRecord:
    """What a folder is known to hold: lets the next save write only what changed.

    ``save_id`` tells whether the folder still holds it.
    """

    root: Path
    save_id: str
    objects: Mapping[int, ObjectState]


@dataclass(frozen=True, slots=True)
class _Pointer:
    state: str
    save_id: str
    session_id: str


def save(
    folder: str | Path, view: SessionView, last: SaveRecord | None, *, overwrite: bool = False
) -> SaveRecord:
    """Save a session; see `Session.save`.

    Parameters
    ----------
    folder : path
    view : SessionView
        Does not change while it is saved: a snapshot.
    last : SaveRecord, optional
        What `save` or `load` returned before; masks that did not change since are linked.
    overwrite : bool
        Replace another session that is saved there.
    """
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        pointer = _checked_pointer(root, view.info.session_id, overwrite=overwrite)
        state_folder = _next_state_folder(root)
        save_id = uuid.uuid4().hex
        try:
            _write_state(state_folder, view, _unchanged(root, pointer, view, last))
            with replacing_file(root / POINTER, overwrite=True) as temporary:
                described = {"state": state_folder.name, "save_id": save_id}
                temporary.write_text(_pointer_text(view, described), encoding="utf-8")
        except (OSError, FileFormatError):
            shutil.rmtree(state_folder, ignore_errors=True)
            raise
        _flush_folder(root)
    except (OSError, FileFormatError) as error:
        raise SessionError(
            f"The session cannot be saved in {root}: {error}. What was saved there before is "
            "unchanged. Free some space or choose another folder."
        ) from error
    _remove_leftovers(root, keep=state_folder.name)
    return SaveRecord(root.resolve(), save_id, view.state.objects)


def load(folder: str | Path) -> tuple[SessionView, SaveRecord]:
    """Load the session last saved in a folder; see `Session.load`."""
    root = Path(folder)
    pointer = _read_pointer(root)
    if pointer is None:
        raise SessionError(
            f"{root} holds no session: there is no {POINTER} in it. Choose the folder that a "
            "session was saved in."
        )
    state_folder = root / pointer.state
    values = _read_json(state_folder / STATE_FILE)
    try:
        info, state, log = session_json.from_dict(values, state_folder / MASKS)
    except SessionError:
        raise
    except Exception as error:
        raise SessionError(
            f"{state_folder} is damaged ({type(error).__name__}: {error}). Use a copy of the "
            "folder made before."
        ) from error
    return SessionView(info, state, log), SaveRecord(root.resolve(), pointer.save_id, state.objects)


def _write_state(state_folder: Path, view: SessionView, unchanged: Mapping[int, Path]) -> None:
    session_zarr.write_masks(state_folder / MASKS, view.info, view.state.objects, unchanged)
    text = json.dumps(session_json.to_dict(view), indent=1, default=_plain)
    (state_folder / STATE_FILE).write_text(text, encoding="utf-8")
    _flush_tree(state_folder)


def _plain(value: object) -> Any:
    """Return a numpy number as one that JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _pointer_text(view: SessionView, described: dict[str, str]) -> str:
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    return json.dumps(head | described | {"session_id": view.info.session_id}, indent=1)


def _checked_pointer(root: Path, session_id: str, *, overwrite: bool) -> _Pointer | None:
    """Return what the folder holds, or raise where it is not this session's to write."""
    pointer = _read_pointer(root)
    if pointer is None:
        foreign = sorted(p.name for p in root.iterdir() if not _LEFTOVER.fullmatch(p.name))
        if foreign:
            raise SessionError(
                f"{root} holds other files ({', '.join(foreign[:3])}): choose a new or an empty "
                "folder for the session."
            )
    elif pointer.session_id != session_id and not overwrite:
        raise SessionError(
            f"{root} holds another session: choose another folder, or replace it with "
            "overwrite=True."
        )
    return pointer


def _read_pointer(root: Path) -> _Pointer | None:
    """Return what ``session.json`` says, or None where there is none."""
    path = root / POINTER
    if not root.is_dir():
        raise SessionError(f"{root} is not a folder. Choose the folder a session was saved in.")
    if not path.exists():
        return None
    values = _read_json(path)
    if values.get("format") != FORMAT:
        raise SessionError(
            f"{path} was not written by this program: expected the format '{FORMAT}', got "
            f"{values.get('format')!r}. Choose another folder."
        )
    version = values.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise SessionError(
            f"{root} was saved by a newer napari-slidesam (format {version}; this one reads up to "
            f"{FORMAT_VERSION}). Update napari-slidesam to open it."
        )
    try:
        state = str(values["state"])
        pointer = _Pointer(state, str(values["save_id"]), str(values["session_id"]))
    except KeyError as error:
        raise SessionError(f"{path} is damaged: it lacks {error}. Use an older copy.") from error
    if not _STATE_FOLDER.fullmatch(state):
        raise SessionError(f"{path} is damaged: {state!r} is no state. Use an older copy.")
    return pointer


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SessionError(
            f"{path} is missing: the folder was copied in part. Copy it again as a whole."
        ) from error
    except (OSError, ValueError) as error:
        raise SessionError(f"{path} cannot be read: {error}. Use an older copy.") from error
    if not isinstance(values, dict):
        raise SessionError(f"{path} was not written by this program. Choose another folder.")
    return values


def _unchanged(
    root: Path, pointer: _Pointer | None, view: SessionView, last: SaveRecord | None
) -> dict[int, Path]:
    """Return the objects whose masks the folder's last state already holds."""
    if pointer is None or last is None or last.root != root.resolve():
        return {}
    if last.save_id != pointer.save_id:
        return {}
    masks = root / pointer.state / MASKS
    return {
        object_id: masks
        for object_id, state in view.state.objects.items()
        if _same_masks(last.objects.get(object_id), state)
        and session_zarr.holds_mask(masks, object_id)
    }


def _same_masks(before: ObjectState | None, now: ObjectState) -> bool:
    if before is None or before.axis != now.axis:
        return False
    return before.slices is now.slices and before.edits is now.edits


def _next_state_folder(root: Path) -> Path:
    names = [p.name for p in root.iterdir() if _STATE_FOLDER.fullmatch(p.name)]
    number = 1 + max((int(name.removeprefix("state-")) for name in names), default=0)
    folder = root / f"state-{number:06d}"
    folder.mkdir()
    return folder


def _remove_leftovers(root: Path, keep: str) -> None:
    for path in list(root.iterdir()):
        if path.name != keep and _LEFTOVER.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def _flush_tree(folder: Path) -> None:
    """Put a folder and all in it on the disk, the innermost first."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(parent, name), "rb+") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(parent))


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
