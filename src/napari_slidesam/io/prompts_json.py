"""Prompts as JSON: what was drawn, to repeat a segmentation or to hand it on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import FileFormatError, PromptError, VolumeError
from napari_slidesam.geometry import Box
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt
from napari_slidesam.volume import axis_from_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

FORMAT = "napari-slidesam/prompts"
VERSION = 1


def prompts_to_dict(prompts: Iterable[ObjectPrompts]) -> dict[str, Any]:
    """Return prompts as JSON-ready values; masks as row-major run lengths from background."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "objects": [
            {
                "id": p.object_id,
                "axis": p.axis,
                "boxes": [{"slice": b.slice_index, "box": list(b.box.yxyx)} for b in p.boxes],
                "points": [
                    {"slice": q.slice_index, "point": [q.y, q.x], "positive": q.positive}
                    for q in p.points
                ],
                "masks": [{"slice": m.slice_index, "rle": _run_lengths(m.mask)} for m in p.masks],
            }
            for p in prompts
        ],
    }


def prompts_from_dict(values: Any) -> list[ObjectPrompts]:
    """Return the prompts that `prompts_to_dict` wrote.

    Raises
    ------
    PromptError
        Something is missing, unknown or malformed; the message names the place.
    """
    top = _mapping(values, "the file", {"format", "version", "objects"})
    if top.get("format") != FORMAT:
        raise PromptError(f"format: expected {FORMAT!r}; got {top.get('format')!r}.")
    if top.get("version") != VERSION:
        raise PromptError(
            f"version: expected {VERSION}; got {top.get('version')!r}. Update napari-slidesam to "
            "read newer files."
        )
    objects = [
        _object(item, f"objects[{i}]") for i, item in enumerate(_list(top, "objects", "the file"))
    ]
    ids = [p.object_id for p in objects]
    for i, object_id in enumerate(ids):
        if object_id in ids[:i]:
            raise PromptError(f"objects[{i}].id: {object_id} is there twice; ids differ.")
    return objects


def read_prompts(path: str | Path) -> list[ObjectPrompts]:
    """Read prompts from a JSON file.

    Raises
    ------
    FileFormatError
        The file cannot be read.
    PromptError
        It is not JSON, or not prompts; the message names the place in the file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} cannot be read as text: {error}.") from error
    try:
        return prompts_from_dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise PromptError(
            f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}."
        ) from error
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from error


def write_prompts(
    path: str | Path, prompts: Iterable[ObjectPrompts], *, overwrite: bool = False
) -> Path:
    """Write prompts to a JSON file, at once or not at all; returns its path.

    Raises
    ------
    FileFormatError
        The file exists and ``overwrite`` is false, or it cannot be written.
    """
    text = json.dumps(prompts_to_dict(prompts), indent=1)
    with replacing_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def _object(item: Any, place: str) -> ObjectPrompts:
    values = _mapping(item, place, {"id", "axis", "boxes", "points", "masks"})
    try:
        axis = axis_from_name(values.get("axis", 0))
    except VolumeError as error:
        raise PromptError(f"{place}.axis: {error}") from error
    boxes = [
        _box(b, f"{place}.boxes[{i}]") for i, b in enumerate(_list(values, "boxes", place, ()))
    ]
    points = [
        _point(p, f"{place}.points[{i}]") for i, p in enumerate(_list(values, "points", place, ()))
    ]
    masks = [
        _mask(m, f"{place}.masks[{i}]") for i, m in enumerate(_list(values, "masks", place, ()))
    ]
    object_id = _integer(values, "id", place)
    try:
        return ObjectPrompts(object_id, tuple(boxes), tuple(points), tuple(masks), axis)
    except PromptError as error:
        raise PromptError(f"{place}: {error}") from error


def _box(item: Any, place: str) -> BoxPrompt:
    values = _mapping(item, place, {"slice", "box"})
    y0, x0, y1, x1 = _numbers(values, "box", place, 4)
    try:
        return BoxPrompt(_integer(values, "slice", place), Box(y0, x0, y1, x1))
    except PromptError as error:
        raise PromptError(f"{place}.box: {error}") from error


def _point(item: Any, place: str) -> PointPrompt:
    values = _mapping(item, place, {"slice", "point", "positive"})
    y, x = _numbers(values, "point", place, 2)
    positive = values.get("positive", True)
    if not isinstance(positive, bool):
        raise PromptError(f"{place}.positive: expected true or false; got {positive!r}.")
    return PointPrompt(_integer(values, "slice", place), y, x, positive)


def _mask(item: Any, place: str) -> MaskPrompt:
    values = _mapping(item, place, {"slice", "rle"})
    slice_index = _integer(values, "slice", place)
    rle = _mapping(values.get("rle"), f"{place}.rle", {"shape", "counts"})
    mask = _mask_from(rle, f"{place}.rle")
    try:
        return MaskPrompt(slice_index, mask)
    except PromptError as error:
        raise PromptError(f"{place}.rle: {error}") from error


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"shape": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def _mask_from(rle: Mapping[str, Any], place: str) -> NDArray[np.bool_]:
    shape = _counts(rle, "shape", place)
    counts = _counts(rle, "counts", place)
    if len(shape) != 2 or 0 in shape:
        raise PromptError(f"{place}.shape: expected two positive lengths (y, x); got {shape}.")
    if sum(counts) != math.prod(shape):
        raise PromptError(
            f"{place}.counts: runs add up to {sum(counts)}, but the shape {shape} has "
            f"{math.prod(shape)} pixels."
        )
    is_object = np.arange(len(counts)) % 2 == 1
    return np.repeat(is_object, counts).reshape(shape)


def _mapping(value: Any, place: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PromptError(f"{place}: expected an object with {sorted(known)}; got {value!r:.60}.")
    unknown = sorted(set(value) - known)
    if unknown:
        raise PromptError(f"{place}: unknown names {unknown}; known are {sorted(known)}.")
    return value


def _list(values: Mapping[str, Any], name: str, place: str, default: Any = None) -> list[Any]:
    value = values.get(name, default)
    if not isinstance(value, list | tuple):
        raise PromptError(f"{place}.{name}: expected a list; got {value!r:.60}.")
    return list(value)


def _integer(values: Mapping[str, Any], name: str, place: str) -> int:
    value = values.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise PromptError(f"{place}.{name}: expected a whole number; got {value!r:.60}.")
    return value


def _counts(values: Mapping[str, Any], name: str, place: str) -> list[int]:
    numbers = _list(values, name, place)
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
        raise PromptError(f"{place}.{name}: expected whole numbers from 0; got {numbers!r:.60}.")
    return numbers


def _numbers(values: Mapping[str, Any], name: str, place: str, length: int) -> list[float]:
    numbers = _list(values, name, place)
    if len(numbers) != length or not all(_is_finite_number(n) for n in numbers):
        raise PromptError(f"{place}.{name}: expected {length} finite numbers; got {numbers!r:.60}.")
    return [float(n) for n in numbers]


def _is_finite_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False
