"""Getting the files of known networks into the models folder, checked."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pooch
from filelock import Timeout

from napari_slidesam.errors import CheckpointError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.model.catalogue import EMBEDDED
from napari_slidesam.model.digests import read_record, record_path, sha256_of, write_record
from napari_slidesam.model.library import ModelLibrary, how_to_get, partial_paths
from napari_slidesam.model.transfer import (
    DownloadProgress,
    DownloadStage,
    ResumingDownloader,
    RetryPolicy,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_slidesam.model.catalogue import KnownModel

logger = logging.getLogger(__name__)

_LOCK_POLL_S = 0.2


def download_model(
    name: str, library: ModelLibrary | None = None, *, policy: RetryPolicy | None = None
) -> Iterator[DownloadProgress]:
    """Download a known network, yielding as it goes; the last stage is ``done``.

    Nothing is fetched where the file is here and whole. A download that was stopped, by closing
    this generator or by a kill, goes on where it was. While another process downloads the same
    network, this one waits for it.

    Parameters
    ----------
    name : str
    library : ModelLibrary, optional
        Where to; the user's own without it.
    policy : RetryPolicy, optional

    Raises
    ------
    CheckpointError
        There is no such network, it has to be fetched by hand, it cannot be reached, there is too
        little space, or what came is not the file that is known.
    FileFormatError
        A recorded checksum cannot be read or written.
    """
    library = library or ModelLibrary()
    known = _known(library, name)
    path = library.known_path(known)
    if known.name == EMBEDDED and path.is_file():
        yield _done(path)
        return
    if known.url is None and not path.is_file():
        raise CheckpointError(how_to_get(known, path))
    _make_folder(path.parent)
    lock = library.download_lock(known)
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            message = "another process downloads it"
            yield DownloadProgress(DownloadStage.WAITING, 0, known.size_bytes, message)
            time.sleep(_LOCK_POLL_S)
    try:
        yield from _fetch(known, path, policy)
    finally:
        lock.release()


def take_model_file(name: str, file: str | Path, library: ModelLibrary | None = None) -> Path:
    """Copy a file that was fetched by hand into the models folder, once it is checked.

    Returns
    -------
    Path
        Of the copy.

    Raises
    ------
    CheckpointError
        There is no such network or file, or it is not the file that is known.
    FileFormatError
        The copy or its recorded checksum cannot be written.
    """
    library = library or ModelLibrary()
    known = _known(library, name)
    if known.name == EMBEDDED:
        raise CheckpointError(f"{name!r} ships with the package; its file is not replaced.")
    source, path = Path(file).expanduser(), library.known_path(known)
    if not source.is_file():
        raise CheckpointError(f"There is no weights file at {source}. Check the path.")
    size = source.stat().st_size
    if known.size_bytes is not None and size != known.size_bytes:
        raise CheckpointError(
            f"{source} has {size} bytes, {name!r} has {known.size_bytes}: it is truncated or "
            "another file. Nothing was copied."
        )
    found, expected = sha256_of(source), _expected_sha256(known, path)
    if expected is not None and found != expected:
        raise CheckpointError(
            f"{source} is not the file of {name!r}: SHA-256 {found}, expected {expected}"
            f"{_where_from(known, path)}. Nothing was copied."
        )
    _make_folder(path.parent)
    with replacing_file(path, overwrite=True) as temporary:
        shutil.copyfile(source, temporary)
    if expected is None:
        write_record(path, found)
    return path


def _fetch(known: KnownModel, path: Path, policy: RetryPolicy | None) -> Iterator[DownloadProgress]:
    """Bring the file to ``path``; the caller holds the lock."""
    expected = _expected_sha256(known, path)
    if path.is_file():
        yield DownloadProgress(DownloadStage.VERIFYING, path.stat().st_size, known.size_bytes)
        found = sha256_of(path)
        if expected in (None, found):
            if expected is None:
                write_record(path, found)
            yield _done(path)
            return
        if known.url is None:
            raise CheckpointError(
                f"{path} is damaged: SHA-256 {found}, expected {expected}"
                f"{_where_from(known, path)}. Move it away. {how_to_get(known, path)}"
            )
        logger.warning("%s is damaged; it is downloaded again", path)
    assert known.url is not None, "without an address there is a file"
    partial, _ = partial_paths(path)
    downloader = ResumingDownloader(partial, size_bytes=known.size_bytes, policy=policy)
    try:
        yield from downloader.stream(known.url)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Or get {known.file_name} by other means ({known.page}) and put it at {path}"
        ) from error
    size = partial.stat().st_size
    yield DownloadProgress(DownloadStage.VERIFYING, size, size)
    _move_in(downloader, known, path, expected)
    if expected is None:
        write_record(path, sha256_of(path))
    yield _done(path)


def _move_in(
    downloader: ResumingDownloader, known: KnownModel, path: Path, expected: str | None
) -> None:
    """Have pooch check the file that came, and put it in its place."""
    assert known.url is not None, "it was downloaded"
    try:
        with _quiet_pooch():
            pooch.retrieve(known.url, expected, path.name, path.parent, downloader=downloader)
    except ValueError as error:
        raise CheckpointError(
            f"What came from {known.url} is not the file of {known.name!r} that is known"
            f"{_where_from(known, path)}. {error} Download it again; if that does not help, the "
            f"address holds another file now: see {known.page}"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error}.") from error


def _known(library: ModelLibrary, name: str) -> KnownModel:
    known = library.find_known(name)
    if known is None:
        entry = library.entry(name)
        raise CheckpointError(f"{name!r} is your own file {entry.path}: nothing to download.")
    return known


def _expected_sha256(known: KnownModel, path: Path) -> str | None:
    if known.sha256 is not None:
        return known.sha256
    record = read_record(path)
    return None if record is None else record.sha256


def _where_from(known: KnownModel, path: Path) -> str:
    if known.sha256 is not None:
        return ""
    return f" (recorded the first time, in {record_path(path)}; delete that to accept a new file)"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"The models folder {folder} cannot be made: {error}. Choose another one by the "
            "environment variable NAPARI_SLIDESAM_MODELS."
        ) from error


def _done(path: Path) -> DownloadProgress:
    size = path.stat().st_size
    return DownloadProgress(DownloadStage.DONE, size, size)


@contextlib.contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Keep pooch from writing to stderr: progress and errors are told here."""
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
