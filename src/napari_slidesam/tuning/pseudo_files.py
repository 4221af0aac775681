"""The files of pseudo-labels: one folder a volume, written slice by slice.

``pseudo.json`` says which volume, network and settings made them. ``masks.bin`` holds the masks
of slice after slice, each cut to its bounding box, one bit a pixel, compressed together.
``slices.jsonl`` has a line a slice: where its masks lie in ``masks.bin``, their checksum, boxes
and scores. A slice counts once its line is whole, so that a kill at any moment loses the slice
in hand and no other.
"""

from __future__ import annotations

import json
import os
import zlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from napari_slidesam.errors import TuningError
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.tuning.pseudo_entries import SliceEntry, pack, unpack
from napari_slidesam.tuning.pseudo_masks import PseudoSlice

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = "napari-slidesam/pseudo-labels"
VERSION = 1
FACTS_FILE = "pseudo.json"
MASKS_FILE = "masks.bin"
SLICES_FILE = "slices.jsonl"
LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True)
class PseudoFacts:
    """What pseudo-labels were made of.

    Parameters
    ----------
    name : str
        The volume's.
    image : str
        The image's path, absolute.
    shape_zyx : tuple of 3 ints
    model : str
        Name of network and weights.
    config : dict
        As `napari_slidesam.tuning.pseudo_labels.PseudoConfig` is stored.
    fingerprint : str
        Of the weights, see `napari_slidesam.model.adapters.base_fingerprint`: two networks may
        have one name.
    channel : int or tuple of float, optional
    level : int
    time : int, optional
        How the image was opened, see `napari_slidesam.io.read_volume`.
    """

    name: str
    image: str
    shape_zyx: tuple[int, int, int]
    model: str
    config: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    channel: int | tuple[float, ...] | None = None
    level: int = 0
    time: int | None = None


class PseudoStore:
    """The pseudo-labels of one volume.

    Parameters
    ----------
    folder : Path
        Of an existing store; see `writing` for how one begins.

    Raises
    ------
    TuningError
        The folder holds none, or its files are damaged or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = read_facts(folder)
        self._entries = _read_entries(folder)

    @property
    def entries(self) -> tuple[SliceEntry, ...]:
        """The slices that are done, by axis and index."""
        return tuple(self._entries[key] for key in sorted(self._entries))

    @property
    def done(self) -> frozenset[tuple[int, int]]:
        """Axis and index of the slices that are done."""
        return frozenset(self._entries)

    @property
    def n_masks(self) -> int:
        """Masks of all slices."""
        return sum(len(entry.masks) for entry in self._entries.values())

    @property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def read(self, axis: int, slice_index: int) -> PseudoSlice:
        """Return the masks of one slice.

        Raises
        ------
        TuningError
            The slice is not done, or its masks are damaged.
        """
        entry = self._entries.get((axis, slice_index))
        if entry is None:
            raise TuningError(
                f"{self.folder} has no pseudo-labels of slice {slice_index} along {'zyx'[axis]}. "
                "Make them first."
            )
        shape = self.facts.shape_zyx
        y, x = (n for i, n in enumerate(shape) if i != axis)
        masks = unpack(_read_bytes(self.folder, entry), entry)
        return PseudoSlice(
            axis, slice_index, (y, x), masks, entry.prompts, entry.dropped, entry.seconds
        )

    def append(self, found: PseudoSlice) -> None:
        """Add a slice; inside of `writing`.

        Raises
        ------
        TuningError
            It cannot be written; what was there before stays.
        """
        packed = pack(found.masks)
        offset = max((entry.end for entry in self._entries.values()), default=0)
        entry = SliceEntry.of(found, packed, offset)
        try:
            _append(self.folder / MASKS_FILE, packed)
            _append(self.folder / SLICES_FILE, entry.to_line().encode())
        except OSError as error:
            raise TuningError(
                f"Pseudo-labels cannot be written to {self.folder}: {error.strerror or error}. "
                "Free some space and start again: the slices done so far are kept."
            ) from error
        self._entries[(found.axis, found.slice_index)] = entry


@contextmanager
def writing(folder: Path, facts: PseudoFacts) -> Iterator[PseudoStore]:
    """Open a store to add slices to it, or begin one; one process at a time.

    Raises
    ------
    TuningError
        Another process writes there, it was made with other settings, or the folder holds
        something else or cannot be written.
    """
    begins = not (folder / FACTS_FILE).is_file()
    if begins and folder.is_dir() and any(p.name != LOCK_FILE for p in folder.iterdir()):
        raise TuningError(
            f"Pseudo-labels need a folder of their own; {folder} holds other files. Choose another."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK_FILE, timeout=0):
            if begins:
                _write_facts(folder, facts)
            store = PseudoStore(folder)
            _check_same(store, facts)
            _drop_halves(store)
            yield store
    except Timeout as error:
        raise TuningError(
            f"Another process writes pseudo-labels to {folder}. Wait for it, or choose another "
            "folder."
        ) from error
    except OSError as error:
        raise TuningError(
            f"Pseudo-labels cannot be written to {folder}: {error.strerror or error}."
        ) from error


def read_facts(folder: Path) -> PseudoFacts:
    """Return what the store in a folder was made of.

    Raises
    ------
    TuningError
        There is none, or it is of another version.
    """
    try:
        values = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        kind, version = values.pop("format"), values.pop("version")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise TuningError(
            f"{folder} holds no pseudo-labels ({error}). Choose a folder with {FACTS_FILE}."
        ) from error
    if kind != FORMAT or version != VERSION:
        raise TuningError(
            f"{folder} holds {kind} of version {version}; this napari-slidesam reads {FORMAT} of "
            f"version {VERSION}. Make the pseudo-labels again, or update napari-slidesam."
        )
    try:
        z, y, x = values["shape_zyx"]
        channel = values.get("channel")
        values["channel"] = tuple(channel) if isinstance(channel, list) else channel
        return PseudoFacts(**{**values, "shape_zyx": (z, y, x)})
    except (KeyError, TypeError, ValueError) as error:
        raise TuningError(
            f"{folder / FACTS_FILE} is damaged ({error}). Make the pseudo-labels again."
        ) from error


def _write_facts(folder: Path, facts: PseudoFacts) -> None:
    values = {"format": FORMAT, "version": VERSION, **asdict(facts)}
    (folder / MASKS_FILE).touch()
    (folder / SLICES_FILE).touch()
    with replacing_file(folder / FACTS_FILE, overwrite=True) as partial:
        partial.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _check_same(store: PseudoStore, facts: PseudoFacts) -> None:
    """Refuse to mix masks of different networks, settings or volumes."""
    # As JSON, where tuples are lists.
    old, new = (json.loads(json.dumps(asdict(f))) for f in (store.facts, facts))
    changed = [name for name in old if old[name] != new[name]]
    if changed:
        was = ", ".join(f"{name} {old[name]!r} (now {new[name]!r})" for name in changed)
        raise TuningError(
            f"The pseudo-labels in {store.folder} were made with another {was}. Choose another "
            "folder, or remove this one to make them anew."
        )


def _read_entries(folder: Path) -> dict[tuple[int, int], SliceEntry]:
    """Return the slices whose lines are whole and whose masks are there."""
    try:
        lines = (folder / SLICES_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
        size = (folder / MASKS_FILE).stat().st_size
    except (OSError, ValueError) as error:
        raise TuningError(
            f"The pseudo-labels in {folder} cannot be read ({error}). Make them again."
        ) from error
    entries: dict[tuple[int, int], SliceEntry] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = SliceEntry.from_line(line)
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # the line that a kill cut off
                break
            raise TuningError(
                f"Line {number} of {folder / SLICES_FILE} is damaged ({error}). Remove it: its "
                "slice is then made again."
            ) from error
        if line.endswith("\n") and entry.end <= size:
            entries[(entry.axis, entry.slice_index)] = entry
    return entries


def _drop_halves(store: PseudoStore) -> None:
    """Cut off what a killed process left behind the last whole slice."""
    kept = sorted(store.entries, key=lambda entry: entry.offset)
    end = kept[-1].end if kept else 0
    masks, slices = store.folder / MASKS_FILE, store.folder / SLICES_FILE
    if masks.stat().st_size > end:
        os.truncate(masks, end)
    lines = "".join(entry.to_line() for entry in kept)
    if slices.read_text(encoding="utf-8", errors="replace") != lines:
        with replacing_file(slices, overwrite=True) as partial:
            partial.write_text(lines, encoding="utf-8")


def _append(path: Path, content: bytes) -> None:
    """Append and put it on the disk; what a failure leaves half written is taken back."""
    before = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        os.truncate(path, before)
        raise


def _read_bytes(folder: Path, entry: SliceEntry) -> bytes:
    where = f"slice {entry.slice_index} along {'zyx'[entry.axis]} in {folder}"
    try:
        with (folder / MASKS_FILE).open("rb") as file:
            file.seek(entry.offset)
            packed = file.read(entry.n_bytes)
        if zlib.crc32(packed) != entry.checksum:
            raise ValueError("another checksum")
        return zlib.decompress(packed)
    except (OSError, ValueError, zlib.error) as error:
        raise TuningError(
            f"The masks of {where} cannot be read ({error}). Make the pseudo-labels again."
        ) from error
