"""A session on an array in memory: grow, repair with a second box, undo, save, resume.

Usage: python examples/repair_and_undo.py FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.session import Session
from napari_slidesam.geometry import Box
from napari_slidesam.model.registry import load_model
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bent_rod() -> NDArray[np.float32]:
    """Return a bright rod that moves from slice to slice; shape (24, 96, 96)."""
    z, y, x = np.ogrid[:24, :96, :96]
    rod = (y - 48) ** 2 + (x - 30 - 1.5 * z) ** 2 < 12**2
    noise = np.random.default_rng(0).normal(0, 8, rod.shape)
    bright: NDArray[np.float32] = (noise + 100 * rod).astype(np.float32)
    return bright


def grow(predictor: Predictor, volume: Volume, session: Session) -> int:
    """Grow object 1 from its prompts, as one step to undo; returns its number of slices."""
    run = session.begin_run([1])
    for result in propagate(predictor, volume, run.prompts, run.config):
        session.apply(result)
    return session.object_table()[0].n_slices


def main(folder: Path) -> tuple[int, int, int]:
    """Return the numbers of slices from one box, from two, and after undoing the second."""
    volume = Volume(bent_rod(), spacing_zyx=(3.0, 1.0, 1.0), unit="um")
    predictor = Predictor(load_model("embedded"))
    session = Session.for_volume(volume, model_name=predictor.model.name)
    first = ObjectPrompts(1, boxes=(BoxPrompt(4, Box(36, 24, 60, 48)),))
    session.add_object(first)
    from_one = grow(predictor, volume, session)

    with session.operation("one more box"):
        more = replace(first, boxes=(*first.boxes, BoxPrompt(20, Box(36, 48, 60, 72))))
        session.set_prompts(1, more)
        from_two = grow(predictor, volume, session)

    session.undo()
    session.save(folder)
    resumed = Session.load(folder)
    return from_one, from_two, resumed.object_table()[0].n_slices


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    one, two, undone = main(Path(sys.argv[1]))
    sys.stdout.write(f"slices from one box: {one}, from two: {two}, undone: {undone}\n")
