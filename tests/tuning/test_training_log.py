"""The log's files, read back as others read them."""

from __future__ import annotations

import csv
import math
import struct

import numpy as np
import pytest
from PIL import Image

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.event_file import EventFile, crc32c, record
from napari_slidesam.tuning.task import StepReport, ValidationReport
from napari_slidesam.tuning.training_log import TrainingLog


def report(step, dice=None, **parts):
    labels = {"a/1": dice, "b, the second/2": 0.5}
    return StepReport(
        step=step,
        total_steps=20,
        epoch=step / 10,
        windows=8 * step,
        loss=1 / step if step else math.nan,
        parts=parts,
        learning_rate=1e-3,
        seconds=2.0 * step,
        seconds_left=40.0 - 2 * step,
        peak_memory_bytes=1024,
        validation=None if dice is None else ValidationReport(step, dice, labels, 0.1),
    )


@pytest.fixture
def open_log(tmp_path):
    logs = []

    def opened(after_step=None):
        logs.append(TrainingLog(tmp_path, after_step))
        return logs[-1]

    yield opened
    for log in logs:
        log.close()


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def fields_of(message):
    """Decode one protocol buffer into (number, value) pairs; by the specification."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            value = message[at : at + size]
            at += size
        found.append((number, value))
    return found


def scalars_of(folder):
    """Return (step, tag, value) of all event files, oldest first."""
    scalars = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = data[12 : 12 + length]
            assert data[: 16 + length] == record(event)
            data = data[16 + length :]
            fields = dict(fields_of(event))
            for _, value in fields_of(fields.get(5, b"")):
                tag, number = (content for _, content in fields_of(value))
                scalars.append((fields[2], tag.decode(), struct.unpack("<f", number)[0]))
    return scalars


def test_reports_become_rows(tmp_path, open_log):
    log = open_log()
    log.add(report(0, dice=0.25))
    log.add(report(5, dice=0.75, segmentation=0.1))
    log.add(report(10))
    rows = rows_of(tmp_path / "log.csv")
    assert [r["step"] for r in rows] == ["0", "5", "10"]
    assert [r["loss"] for r in rows] == ["", "0.2", "0.1"]
    assert [r["dice"] for r in rows] == ["0.25", "0.75", ""]
    assert [r["segmentation"] for r in rows] == ["", "0.1", ""]
    validations = rows_of(tmp_path / "validation.csv")
    assert [(r["step"], r["label"]) for r in validations][2:] == [
        ("5", "a/1"),
        ("5", "b, the second/2"),
    ]


def test_rows_after_the_checkpoint_are_cut(tmp_path, open_log):
    log = open_log()
    for step in (5, 10, 15):
        log.add(report(step, dice=0.5, segmentation=0.1))
    resumed = open_log(10)
    resumed.add(report(12, dice=0.5, segmentation=0.2))
    rows = rows_of(tmp_path / "log.csv")
    assert [(r["step"], r["segmentation"]) for r in rows] == [
        ("5", "0.1"),
        ("10", "0.1"),
        ("12", "0.2"),
    ]
    assert {r["step"] for r in rows_of(tmp_path / "validation.csv")} == {"5", "10", "12"}


def test_a_row_cut_in_half_by_a_kill_goes(tmp_path, open_log):
    log = open_log()
    log.add(report(5))
    path = tmp_path / "log.csv"
    path.write_text(path.read_text() + "6,2")
    open_log(8).add(report(10))
    assert [r["step"] for r in rows_of(path)] == ["5", "10"]


def test_without_resuming_the_files_begin_anew(tmp_path, open_log):
    open_log().add(report(5, dice=0.5))
    open_log()
    assert rows_of(tmp_path / "log.csv") == []
    assert rows_of(tmp_path / "validation.csv") == []
    assert scalars_of(tmp_path) == []


def test_tensorboard_finds_the_scalars(tmp_path, open_log):
    log = open_log()
    log.add(report(0, dice=0.25))
    log.add(report(300, segmentation=0.5))
    found = scalars_of(tmp_path)
    assert (0, "dice", 0.25) in found
    assert (0, "dice/b, the second/2", 0.5) in found
    assert (300, "loss/segmentation", 0.5) in found
    assert (300, "loss", pytest.approx(1 / 300)) in found
    assert not [tag for step, tag, _ in found if (step, tag) == (0, "loss")]


def test_a_resumed_run_tells_tensorboard_where(tmp_path):
    EventFile(tmp_path, after_step=300).close()
    (path,) = tmp_path.iterdir()
    # Tag 2: step 301. Tag 7: a session log with status (tag 1) START (1).
    assert path.read_bytes()[:-4].endswith(b"\x10\xad\x02\x3a\x02\x08\x01")


def test_the_checksum_is_castagnoli():
    # The check value of the catalogue of CRC algorithms.
    assert crc32c(b"123456789") == 0xE3069283
    assert len(record(b"abc")) == 8 + 4 + 3 + 4


def test_curves_are_drawn(tmp_path, open_log):
    log = open_log()
    for step in range(12):
        log.add(report(step, dice=step / 12 if step % 4 == 0 else None))
    log.close()
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("L"))
    assert min(picture.shape) > 400
    assert (picture < 200).mean() > 0.01


def test_no_curves_without_a_report(tmp_path, open_log):
    open_log().close()
    assert not (tmp_path / "curves.png").exists()


def test_a_full_disk_is_an_error(tmp_path, open_log):
    log = open_log()
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").symlink_to("/dev/full")
    with pytest.raises(TuningError, match=r"No space left.*free some space"):
        log.add(report(5))
