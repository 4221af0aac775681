"""What a file's bytes are known to be: its SHA-256, published or recorded."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from napari_slidesam.errors import CheckpointError, FileFormatError
from napari_slidesam.io.atomic import replacing_file

DISTRIBUTION = "napari-slidesam"


@dataclass(frozen=True, slots=True)
class DigestRecord:
    """What a file was when it was here for the first time.

    Parameters
    ----------
    sha256 : str
    size_bytes : int
    recorded_at : str
        ISO 8601, UTC.
    """

    sha256: str
    size_bytes: int
    recorded_at: str


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises
    ------
    CheckpointError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"The weights file {path} cannot be read: {error}.") from error


def record_path(path: Path) -> Path:
    """Return where the record of a file is: beside it."""
    return path.with_name(f"{path.name}.sha256.json")


def read_record(path: Path) -> DigestRecord | None:
    """Return the record of a file, or None where there is none.

    Raises
    ------
    FileFormatError
        The record is there but cannot be understood.
    """
    try:
        content = json.loads(record_path(path).read_text(encoding="utf-8"))
        return DigestRecord(
            sha256=str(content["sha256"]),
            size_bytes=int(content["size_bytes"]),
            recorded_at=str(content["recorded_at"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"The recorded checksum {record_path(path)} cannot be read ({error}). Delete it to "
            "have the file recorded anew."
        ) from error


def write_record(path: Path, sha256: str) -> DigestRecord:
    """Record what a file is now.

    Raises
    ------
    FileFormatError
        The record cannot be written.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = DigestRecord(sha256, path.stat().st_size, now)
    with replacing_file(record_path(path), overwrite=True) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    return record


def installed_sha256(path: Path) -> str | None:
    """Return the SHA-256 that the installer noted for a file of this package.

    None for a checkout, where nothing is noted.
    """
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name != path.name or file.hash is None or file.hash.mode != "sha256":
            continue
        if Path(str(file.locate())).resolve() == path.resolve():
            return base64.urlsafe_b64decode(file.hash.value + "=").hex()
    return None
