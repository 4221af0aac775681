"""What is written on the command line, as prompts, ranges and intensities.

Boxes are half-open in pixels of the plane: ``Z,Y0,X0,Y1,X1`` holds the pixels from (Y0, X0) up
to, without, (Y1, X1). Points are in pixel indices.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_slidesam.errors import ConfigError, PromptError
from napari_slidesam.geometry import Box
from napari_slidesam.prompts import BoxPrompt, MaskPrompt, ObjectPrompts, PointPrompt
from napari_slidesam.volume import Intensity, axis_from_name

if TYPE_CHECKING:
    from napari_slidesam.engine.config import PropagationConfig

BOX_FORM = "[ID@]Z,Y0,X0,Y1,X1"
POINT_FORM = "[ID@]Z,Y,X[,+|-]"


def parse_box(text: str) -> tuple[int | None, BoxPrompt]:
    """Return the object id (None where none is given) and the box of ``[ID@]Z,Y0,X0,Y1,X1``.

    Raises
    ------
    PromptError
        The text has another form, or the box has no area.
    """
    object_id, fields = _split(text, BOX_FORM)
    if len(fields) != 5:
        raise PromptError(f"A box is {BOX_FORM}; got {text!r} with {len(fields)} numbers.")
    slice_index = _whole(fields[0], text, BOX_FORM)
    y0, x0, y1, x1 = (_number(f, text, BOX_FORM) for f in fields[1:])
    return object_id, BoxPrompt(slice_index, Box(y0, x0, y1, x1))


def parse_point(text: str) -> tuple[int | None, PointPrompt]:
    """Return the object id (None where none is given) and the point of ``[ID@]Z,Y,X[,+|-]``.

    Raises
    ------
    PromptError
        The text has another form.
    """
    object_id, fields = _split(text, POINT_FORM)
    sign = fields.pop() if len(fields) == 4 else "+"
    if len(fields) != 3 or sign not in ("+", "-"):
        raise PromptError(f"A point is {POINT_FORM}; got {text!r}.")
    slice_index = _whole(fields[0], text, POINT_FORM)
    y, x = (_number(f, text, POINT_FORM) for f in fields[1:])
    return object_id, PointPrompt(slice_index, y, x, positive=sign == "+")


def parse_range(text: str, n_slices: int) -> tuple[int, int]:
    """Return the half-open range of ``A:B``; an end left out is the volume's.

    Raises
    ------
    ConfigError
        The text has another form, or the range is empty or outside the volume.
    """
    first, colon, last = text.partition(":")
    try:
        start = int(first) if first.strip() else 0
        stop = int(last) if last.strip() else n_slices
    except ValueError:
        colon = ""
    if not colon:
        raise ConfigError(f"A range of slices is A:B (B not included); got {text!r}.")
    if not 0 <= start < stop <= n_slices:
        raise ConfigError(
            f"The range {text!r} holds none of the volume's slices 0 to {n_slices - 1}, or "
            "reaches beyond them."
        )
    return start, stop


def parse_intensity(text: str) -> Intensity:
    """Return the intensity of ``window``, ``ct``, ``mr``, ``percentiles[:A:B]``, ``limits:A:B``.

    Raises
    ------
    ConfigError
        The text has another form.
    """
    kind, *limits = text.strip().lower().split(":")
    try:
        values = [float(v) for v in limits]
    except ValueError:
        values = []
    if len(values) != len(limits) or len(limits) not in (0, 2):
        raise ConfigError(f"An intensity is KIND or KIND:LOWER:UPPER; got {text!r}.")
    return Intensity.from_dict(
        {"kind": kind, **dict(zip(("lower", "upper"), values, strict=False))}
    )


def parse_channel(text: str) -> int | tuple[float, ...]:
    """Return a channel's number, or the weights of ``W,W,...``.

    Raises
    ------
    ConfigError
        The text is neither.
    """
    try:
        if "," in text:
            return tuple(float(v) for v in text.split(","))
        return int(text)
    except ValueError:
        raise ConfigError(f"A channel is a number or weights W,W,...; got {text!r}.") from None


def parse_pair(text: str) -> tuple[Path, Path]:
    """Return the paths of ``IMAGE,LABELS``.

    Raises
    ------
    ConfigError
        The text has another form.
    """
    image, comma, labels = text.partition(",")
    if not comma or not image.strip() or not labels.strip() or "," in labels:
        raise ConfigError(
            f"A pair is IMAGE,LABELS; got {text!r}. Paths with a comma go into a CSV file."
        )
    return Path(image.strip()), Path(labels.strip())


def parse_axes(text: str) -> tuple[int, ...]:
    """Return the axes that letters such as ``zyx`` or ``z`` stand for, each once, in order.

    Raises
    ------
    VolumeError
        There is no such axis, or none is given.
    """
    letters = list(text.replace(",", "").strip()) or [text]
    return tuple(dict.fromkeys(axis_from_name(letter) for letter in letters))


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers of ``N,N,...``.

    Raises
    ------
    ConfigError
        The text has another form.
    """
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ConfigError(f"Labels are whole numbers N,N,...; got {text!r}.") from None


def parse_config(text: str | None) -> PropagationConfig:
    """Return the options of propagation written as a JSON object; the defaults without it.

    Raises
    ------
    ConfigError
        The text is not a JSON object, or an option is unknown or out of its range.
    """
    from napari_slidesam.engine.config import PropagationConfig

    if text is None:
        return PropagationConfig()
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"Options are a JSON object; got {text!r}: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f'Options are a JSON object such as {{"box_margin": 0.1}}; got {text!r}.')
    try:
        return PropagationConfig.from_dict(values)
    except (TypeError, ValueError) as error:  # a text for a number, and the like
        raise ConfigError(f"Options of another type were expected in {text!r}: {error}.") from error


@dataclass(slots=True)
class _Draft:
    """Prompts of one object while they are collected."""

    axis: int
    boxes: list[BoxPrompt] = field(default_factory=list)
    points: list[PointPrompt] = field(default_factory=list)
    masks: list[MaskPrompt] = field(default_factory=list)


def collect_prompts(
    boxes: Sequence[str],
    points: Sequence[str],
    *,
    axis: int | None = None,
    same_object: bool = False,
    from_file: Sequence[ObjectPrompts] = (),
) -> tuple[ObjectPrompts, ...]:
    """Return the prompts of all objects, in the order of their ids.

    Parameters
    ----------
    boxes, points : sequence of str
        As written on the command line. A box without an id is an object of its own, or with
        ``same_object`` belongs to the one object. A point without an id belongs to the only
        object.
    axis : int, optional
        The axis that slices are counted along; None: that of the file, else 0.
    same_object : bool
    from_file : sequence of ObjectPrompts
        What the others are added to.

    Raises
    ------
    PromptError
        No prompt at all, a malformed or contradicting one, or a point of unknown object.
    """
    parsed_boxes = [parse_box(text) for text in boxes]
    parsed_points = [parse_point(text) for text in points]
    drafts = {
        p.object_id: _Draft(p.axis, list(p.boxes), list(p.points), list(p.masks)) for p in from_file
    }
    if axis is None:
        axis = next(iter(drafts.values())).axis if drafts else 0
    for object_id, draft in drafts.items():
        if draft.axis != axis:
            raise PromptError(
                f"Object {object_id} of the prompts file is cut along axis {draft.axis}, but "
                f"axis {axis} was asked for. Leave out --axis, or give a file of its own."
            )
    taken = set(drafts) | {i for i, _ in (*parsed_boxes, *parsed_points) if i is not None}
    for given_id, box in parsed_boxes:
        if given_id is not None:
            object_id = given_id
        else:
            object_id = _only(taken) if same_object and taken else _next_free(taken)
        taken.add(object_id)
        drafts.setdefault(object_id, _Draft(axis)).boxes.append(box)
    for given_id, point in parsed_points:
        object_id = given_id if given_id is not None else _only(taken or {1})
        taken.add(object_id)
        drafts.setdefault(object_id, _Draft(axis)).points.append(point)
    if not drafts:
        raise PromptError(
            f"Nothing says which object is meant: give --box {BOX_FORM}, --point {POINT_FORM} or "
            "--prompts FILE.json."
        )
    return tuple(
        ObjectPrompts(i, tuple(d.boxes), tuple(d.points), tuple(d.masks), d.axis)
        for i, d in sorted(drafts.items())
    )


def _next_free(taken: set[int]) -> int:
    return next(i for i in range(1, len(taken) + 2) if i not in taken)


def _only(taken: set[int]) -> int:
    if len(taken) > 1:
        raise PromptError(
            f"There are several objects {sorted(taken)}: say whose prompt it is with ID@ in front."
        )
    return next(iter(taken))


def _split(text: str, form: str) -> tuple[int | None, list[str]]:
    before, at, after = text.rpartition("@")
    fields = [f.strip() for f in after.split(",")]
    return (_whole(before, text, form) if at else None), fields


def _whole(field_text: str, text: str, form: str) -> int:
    try:
        return int(field_text)
    except ValueError:
        raise PromptError(
            f"Expected {form} with a whole number for ID and Z; got {field_text!r} in {text!r}."
        ) from None


def _number(field_text: str, text: str, form: str) -> float:
    try:
        value = float(field_text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PromptError(f"Expected {form} with numbers; got {field_text!r} in {text!r}.")
    return value
