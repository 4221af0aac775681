"""From one box to a labelled object: read a volume, propagate, write labels on the same grid.

Usage: python examples/segment_one_box.py VOLUME Z Y0 X0 Y1 X1 LABELS
"""

from __future__ import annotations

import sys

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.session import Session
from napari_slidesam.geometry import Box
from napari_slidesam.io import read_volume, write_labels
from napari_slidesam.model.registry import load_model
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts


def main(volume_path: str, slice_index: int, box: Box, labels_path: str) -> Session:
    """Segment the object in the box and write its mask as label 1."""
    image = read_volume(volume_path)
    session = Session.for_volume(image.volume, source=volume_path)
    session.add_object(ObjectPrompts(1, boxes=(BoxPrompt(slice_index, box),)))
    run = session.begin_run([1])
    predictor = Predictor(load_model("embedded"))
    for result in propagate(predictor, image.volume, run.prompts, run.config):
        session.apply(result)
    write_labels(labels_path, session.labels(), like=image)
    return session


if __name__ == "__main__":
    if len(sys.argv) != 8:
        sys.exit(__doc__)
    path, z, y0, x0, y1, x1, output = sys.argv[1:]
    done = main(path, int(z), Box(float(y0), float(x0), float(y1), float(x1)), output)
    (row,) = done.object_table()
    sys.stdout.write(f"{row.voxels} voxels on {row.n_slices} slices\n")
    sys.stdout.write(f"one more box would help most on slice {done.worst_slices(1)}\n")
