"""Boxes of many volumes: a JSON or CSV file, or one set of boxes for all of them.

CSV: one box a line under ``volume,object,axis,slice,y0,x0,y1,x1``; half-open, in pixels of the
plane. JSON: the prompts of one volume, as ``napari_slidesam.io.write_prompts`` writes them, or
an object that gives each volume's name such prompts. A volume is named by its file's name, with
or without the ending; ``*``, an empty name or prompts without a name hold for all volumes.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from napari_slidesam.errors import FileFormatError, PromptError, VolumeError
from napari_slidesam.geometry import Box
from napari_slidesam.io.prompts_json import FORMAT, prompts_from_dict
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.volume import axis_from_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ALL_VOLUMES = "*"
"""The name that stands for every volume that has no boxes of its own."""

CSV_COLUMNS = ("volume", "object", "axis", "slice", "y0", "x0", "y1", "x1")

BoxesByVolume = Mapping[str, Sequence[ObjectPrompts]]

_OPTIONAL = {"volume": ALL_VOLUMES, "axis": "z"}


def read_boxes(path: Path) -> dict[str, tuple[ObjectPrompts, ...]]:
    """Return the prompts of each volume that a file names.

    Raises
    ------
    FileFormatError
        The file cannot be read.
    PromptError
        It is neither JSON nor CSV of boxes; the message names the place.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} cannot be read as text: {error}.") from error
    try:
        found = _from_json(text) if text.lstrip().startswith("{") else _from_csv(text)
    except json.JSONDecodeError as error:
        raise PromptError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}."
        ) from error
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from error
    if not any(found.values()):
        raise PromptError(f"{path} holds no box. Give each object at least one.")
    return found


def boxes_of(boxes: BoxesByVolume, name: str, stem: str) -> tuple[ObjectPrompts, ...]:
    """Return the prompts of a volume: under its name, its name without ending, or for all.

    Raises
    ------
    PromptError
        There are none.
    """
    for key in (name, stem, ALL_VOLUMES, ""):
        if boxes.get(key):
            return tuple(boxes[key])
    known = ", ".join(sorted(boxes)) or "none"
    raise PromptError(
        f"There is no box for {name}: boxes are there for {known}. Name it {stem!r}, or "
        f"{ALL_VOLUMES!r} for all volumes."
    )


def _from_json(text: str) -> dict[str, tuple[ObjectPrompts, ...]]:
    values: dict[str, Any] = json.loads(text)
    if values.get("format") == FORMAT:
        return {ALL_VOLUMES: tuple(prompts_from_dict(values))}
    found = {}
    for name, prompts in values.items():
        try:
            found[name] = tuple(prompts_from_dict(prompts))
        except PromptError as error:
            raise PromptError(f"volume {name!r}: {error}") from error
    return found


def _from_csv(text: str) -> dict[str, tuple[ObjectPrompts, ...]]:
    lines = text.splitlines()
    rows = csv.DictReader(lines, skipinitialspace=True)
    missing = [c for c in CSV_COLUMNS if c not in (rows.fieldnames or ()) and c not in _OPTIONAL]
    if missing:
        raise PromptError(
            f"Expected JSON, or CSV with the columns {','.join(CSV_COLUMNS)}; there is no "
            f"{', '.join(missing)}. Write them as the first line."
        )
    boxes: dict[tuple[str, int], list[BoxPrompt]] = defaultdict(list)
    axes: dict[tuple[str, int], int] = {}
    for row in rows:
        try:
            name = (row.get("volume") or ALL_VOLUMES).strip()
            key = (name, int(row["object"]))
            axis = axis_from_name(row.get("axis") or _OPTIONAL["axis"])
            y0, x0, y1, x1 = (float(row[c]) for c in ("y0", "x0", "y1", "x1"))
            box = BoxPrompt(int(row["slice"]), Box(y0, x0, y1, x1))
        except (ValueError, TypeError, PromptError, VolumeError) as error:
            raise PromptError(f"line {rows.line_num}: {error}") from error
        if axes.setdefault(key, axis) != axis:
            raise PromptError(
                f"line {rows.line_num}: object {key[1]} has boxes along two axes. Give the other "
                "one a number of its own."
            )
        boxes[key].append(box)
    return _grouped((name, _object(i, b, axes[name, i])) for (name, i), b in boxes.items())


def _object(object_id: int, boxes: list[BoxPrompt], axis: int) -> ObjectPrompts:
    return ObjectPrompts(object_id, boxes=tuple(boxes), axis=axis)


def _grouped(
    found: Iterable[tuple[str, ObjectPrompts]],
) -> dict[str, tuple[ObjectPrompts, ...]]:
    grouped: dict[str, tuple[ObjectPrompts, ...]] = {}
    for name, prompts in found:
        grouped[name] = (*grouped.get(name, ()), prompts)
    return grouped
