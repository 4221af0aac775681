"""Fetching one file over HTTP, in as many goes as it takes.

What came is kept in a ``.partial`` file, and beside it, as JSON, which version of the file it is
of: the server's ETag or date. The next go asks for the rest *if* that is still the version there
(RFC 9110, ``Range`` and ``If-Range``); otherwise, or from a server that gives no ranges, the file
comes from its start again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from napari_slidesam import __version__
from napari_slidesam.errors import CheckpointError
from napari_slidesam.model.answers import (
    LostError,
    check_status,
    content_length,
    ranged_start,
    ranged_total,
    reason_of,
    strong_validator,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 18
SPARE_BYTES = 64_000_000
"""Stays free on the disk."""

_WAIT_STEP_S = 0.2


class DownloadStage(StrEnum):
    """What a download is at."""

    CONNECTING = "connecting"
    DOWNLOADING = "downloading"
    WAITING = "waiting"
    VERIFYING = "verifying"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a download is.

    Parameters
    ----------
    stage : DownloadStage
    received_bytes : int
        Of the file, those of earlier goes included.
    total_bytes : int, optional
        None while it is not known.
    message : str
        Why it waits; empty otherwise.
    """

    stage: DownloadStage
    received_bytes: int
    total_bytes: int | None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How stubborn a download is.

    Parameters
    ----------
    attempts : int
        Goes in a row that bring nothing new before it gives up.
    first_wait_s : float
        Doubles from one of them to the next.
    connect_timeout_s, read_timeout_s : float
        Silence that counts as a lost connection.
    """

    attempts: int = 5
    first_wait_s: float = 1.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class _Version:
    """Which version of which file the partial bytes are of."""

    url: str
    validator: str


class ResumingDownloader:
    """Downloads a file and goes on where an earlier go ended; a downloader for pooch.

    Parameters
    ----------
    partial : Path
        Keeps what came until the file is whole; its folder exists.
    size_bytes : int, optional
        Of the file, where it is known.
    policy : RetryPolicy
    """

    def __init__(
        self, partial: Path, *, size_bytes: int | None = None, policy: RetryPolicy | None = None
    ) -> None:
        self._partial = partial
        self._version_file = partial.with_name(f"{partial.name}.json")
        self._size_bytes = size_bytes
        self._policy = policy or RetryPolicy()
        self._total = size_bytes
        self.is_complete = False

    def __call__(
        self, url: str, output_file: str | Path, pooch: object, check_only: bool = False
    ) -> bool | None:
        """Put the whole file at ``output_file``; pooch's protocol.

        Raises
        ------
        CheckpointError
            As `stream`.
        """
        if check_only:
            answer = requests.head(url, timeout=self._timeout, allow_redirects=True)
            return answer.ok
        for _ in self.stream(url):
            pass
        os.replace(self._partial, output_file)
        self._version_file.unlink(missing_ok=True)
        self.is_complete = False
        return None

    def stream(self, url: str) -> Iterator[DownloadProgress]:
        """Fill the partial file, yielding after each chunk; stopping early loses nothing.

        Raises
        ------
        CheckpointError
            The server has no such file or another one, cannot be reached, or the disk is full.
        """
        failures, most = 0, self._received()
        while not self.is_complete:
            yield self._progress(DownloadStage.CONNECTING)
            try:
                yield from self._go(url)
            except LostError as lost:
                received = self._received()
                failures = failures + 1 if received <= most else 1
                most = max(most, received)
                if failures >= self._policy.attempts:
                    raise _unreachable(url, lost) from lost
                logger.info("%s: %s, another try", url, lost)
                yield from self._wait(failures, str(lost))

    @property
    def _timeout(self) -> tuple[float, float]:
        return self._policy.connect_timeout_s, self._policy.read_timeout_s

    def _received(self) -> int:
        return self._partial.stat().st_size if self._partial.exists() else 0

    def _progress(self, stage: DownloadStage, message: str = "") -> DownloadProgress:
        return DownloadProgress(stage, self._received(), self._total, message)

    def _wait(self, failures: int, reason: str) -> Iterator[DownloadProgress]:
        end = time.monotonic() + self._policy.first_wait_s * 2 ** (failures - 1)
        while (left := end - time.monotonic()) > 0:
            yield self._progress(DownloadStage.WAITING, reason)
            time.sleep(min(left, _WAIT_STEP_S))

    def _go(self, url: str) -> Iterator[DownloadProgress]:
        """Make one request and keep what comes of it."""
        version = self._partial_version(url)
        start = 0 if version is None else self._received()
        # Compressed on the way, neither length nor range would be those of the file.
        headers = {
            "User-Agent": f"napari-slidesam/{__version__}",
            "Accept-Encoding": "identity",
        }
        if version is not None and start:
            headers |= {"Range": f"bytes={start}-", "If-Range": version.validator}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=self._timeout) as answer:
                if self._is_whole(answer, start):
                    self.is_complete = True
                    return
                start = self._begin(answer, url, start)
                yield from self._keep(answer, start)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise LostError(reason_of(error)) from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise LostError("the connection was lost") from error
        except requests.RequestException as error:
            raise CheckpointError(f"{url} cannot be downloaded: {error}.") from error

    def _is_whole(self, answer: requests.Response, start: int) -> bool:
        """Tell whether the server says that there is nothing after ``start``."""
        if answer.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return False
        if start and ranged_total(answer) == start:
            self._check_size(start, answer.url)
            return True
        self._forget()
        raise LostError("the server has another version of the file now")

    def _begin(self, answer: requests.Response, url: str, start: int) -> int:
        """Check the answer, and return from which byte on it gives the file."""
        check_status(answer, url)
        if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
            if ranged_start(answer) != start:
                self._forget()
                raise LostError("the server sent another part of the file than the one asked for")
            total = ranged_total(answer)
        else:
            start, total = 0, content_length(answer)
        self._check_size(total, url)
        self._total = self._size_bytes if total is None else total
        self._check_space(start)
        if start == 0:
            self._start_anew(answer, url)
        return start

    def _keep(self, answer: requests.Response, start: int) -> Iterator[DownloadProgress]:
        received = start
        with self._partial.open("ab") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    raise self._unwritable(error) from error
                received += len(chunk)
                yield DownloadProgress(DownloadStage.DOWNLOADING, received, self._total)
            os.fsync(file.fileno())
        if self._total is not None and received < self._total:
            raise LostError(f"the connection ended after {received} of {self._total} bytes")
        self.is_complete = True

    def _check_size(self, total: int | None, url: str) -> None:
        if None not in (total, self._size_bytes) and total != self._size_bytes:
            raise CheckpointError(
                f"{url} gives a file of {total} bytes; expected {self._size_bytes}. It was not "
                "downloaded: the address holds another file now, or a page of your network."
            )

    def _check_space(self, start: int) -> None:
        if self._total is None:
            return
        needed = self._total - start + SPARE_BYTES
        # What an older version left is written over.
        free = shutil.disk_usage(self._partial.parent).free + self._received() - start
        if free < needed:
            raise CheckpointError(
                f"{self._partial.parent} has {free / 1e9:.1f} GB free, the download needs "
                f"{needed / 1e9:.1f} GB. Free some space, or choose another folder by the "
                "environment variable NAPARI_SLIDESAM_MODELS."
            )

    def _start_anew(self, answer: requests.Response, url: str) -> None:
        """Empty the partial file first: bytes of an older version never get the new one's name."""
        try:
            self._partial.write_bytes(b"")
            validator = strong_validator(answer)
            if validator is None:
                self._version_file.unlink(missing_ok=True)
            else:
                content = {"url": url, "validator": validator}
                self._version_file.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error

    def _partial_version(self, url: str) -> _Version | None:
        """Return what the partial bytes are of, or None where they cannot be built upon."""
        try:
            content: Any = json.loads(self._version_file.read_text(encoding="utf-8"))
            version = _Version(str(content["url"]), str(content["validator"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return version if version.url == url else None

    def _forget(self) -> None:
        self._version_file.unlink(missing_ok=True)
        self._partial.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"{self._partial} cannot be written: {error.strerror or error}. What came so far is "
            "kept. Free some space, or choose another folder by the environment variable "
            "NAPARI_SLIDESAM_MODELS."
        )


def _unreachable(url: str, lost: LostError) -> CheckpointError:
    return CheckpointError(
        f"{url} could not be downloaded from {urlsplit(url).netloc}: {lost}. Check the connection "
        "and try again; what came so far is kept."
    )
