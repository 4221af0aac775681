"""What a server's answer says of a file: whether it comes, which part, of which version."""

from __future__ import annotations

import re
from http import HTTPStatus

import requests

from napari_slidesam.errors import CheckpointError

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

_TRANSIENT_STATUS = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}


class LostError(Exception):
    """A go ended early, and another one may do better."""


def check_status(answer: requests.Response, url: str) -> None:
    """Go on with an answer that brings a file.

    Raises
    ------
    LostError
        The server is busy.
    CheckpointError
        It has no such file, or something else in its place.
    """
    status = answer.status_code
    if status in _TRANSIENT_STATUS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise LostError(f"the server answered {status} {answer.reason}")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise CheckpointError(
            f"{url} cannot be downloaded: the server answered {status} {answer.reason}. The file "
            "may have moved."
        )
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise CheckpointError(
            f"{url} gives a web page, not a weights file. Open it in a browser: it may ask for a "
            "login, to this network or to the server."
        )


def content_length(answer: requests.Response) -> int | None:
    """Return how many bytes the answer has; None where it does not say."""
    text = answer.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def ranged_total(answer: requests.Response) -> int | None:
    """Return how many bytes the file has of which a range was asked for; None without it."""
    match = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
    return None if match is None or match[2] == "*" else int(match[2])


def ranged_start(answer: requests.Response) -> int | None:
    """Return the first byte of the part that came; None where the answer does not say."""
    match = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
    return None if match is None or match[1] is None else int(match[1])


def strong_validator(answer: requests.Response) -> str | None:
    """Return what ``If-Range`` takes: a strong ETag, else the date (RFC 9110, 13.1.5)."""
    tag = answer.headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        return tag
    return answer.headers.get("Last-Modified")


def reason_of(error: requests.RequestException) -> str:
    """Return in words why there was no answer, or only a part of it."""
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the server's certificate was refused ({error})"
    return "the server cannot be reached, or the connection was lost"
