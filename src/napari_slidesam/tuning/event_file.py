"""Scalars in an event file, as TensorBoard reads them.

The format is older than a decade and two dozen lines long, so that it is written here: framed
records, each a protocol buffer ``Event``. Writing is synchronous: a full disk is an error at
once, and what is written is there after a kill. References: ``tensorflow/core/lib/io/
record_writer.cc`` and ``tensorflow/core/util/event.proto``.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PREFIX = "events.out.tfevents"

# Field numbers of event.proto and summary.proto.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION_LOG = 1, 2, 3, 5, 7
_VALUE, _TAG, _SIMPLE_VALUE = 1, 1, 2
_SESSION_STATUS, _SESSION_START = 1, 1

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5

_CASTAGNOLI = 0x82F63B78
"""Polynomial of CRC-32C, bits reversed."""


class EventFile:
    """A new event file in a folder.

    Parameters
    ----------
    folder : Path
    after_step : int, optional
        TensorBoard forgets what older files of the folder say of later steps.
    """

    def __init__(self, folder: Path, after_step: int | None = None) -> None:
        self.path = folder / f"{PREFIX}.{time.time_ns()}.{socket.gethostname()}"
        self._stream = self.path.open("xb")
        self._write(_field(_FILE_VERSION, b"brain.Event:2"))
        if after_step is not None:
            start = _field(_SESSION_LOG, _field(_SESSION_STATUS, _SESSION_START))
            self._write(_field(_STEP, after_step + 1) + start)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the values of one step, by name.

        Raises
        ------
        OSError
            The disk is full, say.
        """
        values = b"".join(
            _field(_VALUE, _field(_TAG, name.encode()) + _field(_SIMPLE_VALUE, value))
            for name, value in scalars.items()
        )
        self._write(_field(_STEP, step) + _field(_SUMMARY, values))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, event: bytes) -> None:
        stamp = _key(_WALL_TIME, _DOUBLE) + struct.pack("<d", time.time())
        self._stream.write(record(stamp + event))
        self._stream.flush()


def record(data: bytes) -> bytes:
    """Return data framed by its length and by checksums of both."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    # Turned and moved, since the checksum of data that holds checksums would be weak.
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked)


def _table() -> tuple[int, ...]:
    values = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_CASTAGNOLI if crc & 1 else 0)
        values.append(crc)
    return tuple(values)


_TABLE = _table()


def _field(number: int, value: float | bytes) -> bytes:
    if isinstance(value, bytes):
        return _key(number, _BYTES) + _varint(len(value)) + value
    if isinstance(value, int):
        return _key(number, _VARINT) + _varint(value)
    return _key(number, _FLOAT) + struct.pack("<f", value)


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
