"""Measure what corrective clicks give: ``measure_clicks.py FOLDER [LIMIT [CLICKS]]``.

The folder holds labelled volumes, as ``napari-slidesam evaluate`` takes them. On the middle slice
of LIMIT objects of each (3 without it) a box is drawn as in the evaluation; then CLICKS times (4) a
click is added in the middle of the largest error, on the object or beside it. Printed are the 2D
Dice after the box and after each click, by volume and as the mean over volumes, how many objects
the first click harms by more than 0.02, and how many clicks are obeyed. The figures of
``docs/research.md`` are what it prints.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.evaluation.cases import find_cases
from napari_slidesam.evaluation.protocols import make_prompts
from napari_slidesam.metrics import dice
from napari_slidesam.model.registry import load_model
from napari_slidesam.prompts import PointPrompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_slidesam.evaluation.cases import Case, TrueObject
    from napari_slidesam.prompts import ObjectPrompts

HARM = 0.02


@dataclass(slots=True)
class Clicked:
    """What was measured."""

    dice: dict[str, list[list[float]]] = field(default_factory=dict)
    obeyed: list[bool] = field(default_factory=list)


def measure(folder: Path, limit: int = 3, clicks: int = 4, model: str = "embedded") -> Clicked:
    """Return the Dice of each object of each volume, after the box and after each click."""
    predictor = Predictor(load_model(model))
    found = Clicked()
    for files in find_cases(folder):
        case = files.load()
        rows = found.dice.setdefault(case.name, [])
        rows += [_click(predictor, case, t, clicks, found.obeyed) for t in case.objects(limit)]
    return found


def _click(
    predictor: Predictor, case: Case, truth: TrueObject, clicks: int, obeyed: list[bool]
) -> list[float]:
    prompts = make_prompts(
        "1-box",
        truth.mask,
        volume_name=case.name,
        object_id=truth.object_id,
        axis=case.axis,
        plane_shape_yx=case.plane_shape_yx,
    )
    index = prompts.boxes[0].slice_index
    true = truth.mask.to_array(case.volume.shape_zyx, case.axis)
    plane = np.moveaxis(true, case.axis, 0)[index]
    masks = [_mask(predictor, case, prompts, index)]
    for _ in range(clicks):
        place = _largest_error(masks[-1] != plane)
        if place is None:
            masks.append(masks[-1])
            continue
        y, x = place
        point = PointPrompt(index, float(y), float(x), bool(plane[y, x]))
        prompts = replace(prompts, points=(*prompts.points, point))
        masks.append(_mask(predictor, case, prompts, index))
        obeyed.append(bool(masks[-1][y, x]) == point.positive)
    return [dice(mask, plane) for mask in masks]


def _mask(
    predictor: Predictor, case: Case, prompts: ObjectPrompts, index: int
) -> NDArray[np.bool_]:
    """Return the object on its prompted slice alone."""
    config = PropagationConfig(coarse_look=False, z_range=(index, index + 1))
    (found,) = (r for r in propagate(predictor, case.volume, [prompts], config) if r.is_final)
    mask = np.zeros(case.plane_shape_yx, dtype=bool)
    mask[found.region.slices] = found.mask
    return mask


def _largest_error(wrong: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return the innermost pixel of the largest error; None without any."""
    parts, count = ndimage.label(wrong)
    if not count:
        return None
    largest = 1 + int(np.bincount(parts.ravel())[1:].argmax())
    depth = ndimage.distance_transform_edt(np.pad(parts == largest, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y), int(x)


def report(found: Clicked) -> str:
    """Return what was measured, a line a volume."""
    means = {name: np.mean(rows, axis=0) for name, rows in found.dice.items()}
    means["mean"] = np.mean(list(means.values()), axis=0)
    lines = [f"{name:30s} " + "  ".join(f"{v:.3f}" for v in row) for name, row in means.items()]
    every = [row for rows in found.dice.values() for row in rows]
    harmed = np.mean([row[1] < row[0] - HARM for row in every])
    obeyed = np.mean(found.obeyed)
    return "\n".join([*lines, f"harmed by the first click {harmed:.2f}, obeyed {obeyed:.2f}"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(report(measure(Path(sys.argv[1]), *(int(n) for n in sys.argv[2:]))))  # noqa: T201
