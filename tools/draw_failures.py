"""Draw the embedded network's worst masks: ``draw_failures.py FOLDER PICTURE VOLUME [VOLUME ...]``.

The folder holds labelled volumes, as ``napari-slidesam evaluate`` takes them. Of each volume that
is named, the three objects of the lowest 2D Dice on their middle slice are drawn (of at most
twenty, evenly chosen), each from a box with the evaluation's jitter: the truth green, the mask red,
the box dashed. ``docs/images/failures.png`` is what it writes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.evaluation.cases import find_cases
from napari_slidesam.evaluation.protocols import make_prompts
from napari_slidesam.metrics import dice
from napari_slidesam.model.registry import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_slidesam.evaluation.cases import Case
    from napari_slidesam.geometry import Box

LIMIT, WORST = 20, 3
MARGIN = 0.6
"""Around the box, as a share of its longer side."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One object on its middle slice."""

    title: str
    dice: float
    image: NDArray[np.float32]
    truth: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    box: Box


def worst(case: Case, predictor: Predictor) -> list[Drawn]:
    """Return a volume's worst objects, the worst first."""
    return sorted(_all(case, predictor), key=lambda drawn: drawn.dice)[:WORST]


def _all(case: Case, predictor: Predictor) -> Iterator[Drawn]:
    stack = case.volume.along(case.axis)
    for truth in case.objects(LIMIT):
        prompts = make_prompts(
            "1-box",
            truth.mask,
            volume_name=case.name,
            object_id=truth.object_id,
            axis=case.axis,
            plane_shape_yx=stack.plane_shape_yx,
        )
        (prompt,) = prompts.boxes
        preview = next(iter(propagate(predictor, case.volume, [prompts])))
        planes = np.moveaxis(truth.mask.to_array(case.volume.shape_zyx, case.axis), case.axis, 0)
        mask = np.zeros(stack.plane_shape_yx, dtype=bool)
        mask[preview.region.slices] = preview.mask
        image = stack.read_block(prompt.slice_index, prompt.slice_index + 1)[0]
        true = planes[prompt.slice_index]
        title = f"{case.name} {truth.object_id}"
        yield Drawn(title, dice(mask, true), image, true, mask, prompt.box)


def draw(found: Sequence[Drawn], picture: Path) -> None:
    """Write the picture, three objects a row."""
    rows = -(-len(found) // WORST)
    figure, axes = plt.subplots(rows, WORST, figsize=(2.6 * WORST, 2.75 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, drawn in zip(axes.flat, found, strict=False):
        _panel(ax, drawn)
    figure.tight_layout(pad=0.4)
    figure.savefig(picture, dpi=80)


def _panel(ax: Axes, drawn: Drawn) -> None:
    box = drawn.box
    margin = MARGIN * max(box.height, box.width)
    near = drawn.image[
        max(0, int(box.y0 - margin)) : int(box.y1 + margin) + 1,
        max(0, int(box.x0 - margin)) : int(box.x1 + margin) + 1,
    ]
    low, high = np.percentile(near, (1, 99))
    ax.imshow(drawn.image, cmap="gray", vmin=low, vmax=high)
    ax.contour(drawn.truth, [0.5], colors="lime", linewidths=1.2)
    if drawn.mask.any():
        ax.contour(drawn.mask, [0.5], colors="red", linewidths=1.2)
    ys = np.array([box.y0, box.y0, box.y1, box.y1, box.y0]) - 0.5
    xs = np.array([box.x0, box.x1, box.x1, box.x0, box.x0]) - 0.5
    ax.plot(xs, ys, "--", color="gold", linewidth=0.8)
    ax.set_xlim(box.x0 - margin, box.x1 + margin)
    ax.set_ylim(box.y1 + margin, box.y0 - margin)
    ax.set_title(f"{drawn.title}: {drawn.dice:.2f}", fontsize=7)


def main(folder: Path, picture: Path, names: Sequence[str]) -> None:
    """Draw the worst objects of some volumes."""
    mpl.use("agg")
    predictor = Predictor(load_model("embedded"))
    files = [case for case in find_cases(folder) if case.name in names]
    missing = set(names) - {case.name for case in files}
    if missing:
        sys.exit(f"{folder} has no volume called {', '.join(sorted(missing))}.")
    draw([drawn for case in files for drawn in worst(case.load(), predictor)], picture)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
