"""Pairs of images and labels in files: folders in usual layouts, and lists of pairs.

A folder is one of these, looked for in this order:

- nnU-Net's: ``imagesTr/NAME_0000.*`` and ``labelsTr/NAME.*``; of several channels the first.
- One volume: ``image.*`` and ``labels.*``.
- Two folders side by side, such as ``images`` and ``labels`` (all names: `IMAGE_FOLDERS`,
  `LABELS_FOLDERS`), with files of the same name in both; ``_0000`` or ``_image`` after an
  image's name and ``_labels``, ``_seg`` or ``_mask`` after that of labels may differ. Images
  without labels are left out.
- One volume a folder: folders with ``image.*`` and ``labels.*``.

A CSV file has the columns ``image`` and ``labels`` with paths, absolute or from its own folder,
and may have ``name`` and ``unlabelled``: slices along z such as ``3 7 20-29``.

Files stay where they are and are read slice by slice: NIfTI, NRRD and TIFF without compression,
numpy's ``.npy``, and zarr. Others are unpacked once into temporary files, see
`napari_slidesam.tuning.unpacking`.
"""

from __future__ import annotations

import csv
import logging
import re
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.errors import FileFormatError, TuningError, VolumeError
from napari_slidesam.io.folders import (
    FIRST_CHANNEL,
    IMAGES_TR,
    SUFFIXES,
    LabelledFiles,
    folder_files,
    is_nnunet,
    nnunet_files,
    volume_stem,
)
from napari_slidesam.tuning.pairs import TrainingPair, pair_from_arrays
from napari_slidesam.tuning.unpacking import allow_open_files, open_at_hand

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.io import VolumeFile

logger = logging.getLogger(__name__)

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "raw", "volumes", "imagesTr")
"""Names of folders of images, in any case."""

LABELS_FOLDERS = ("labels", "label", "masks", "mask", "segmentations", "seg", "labelsTr")
"""Names of folders of labels, in any case."""

_IMAGE_ENDS = (FIRST_CHANNEL, "_image", "_img")
_LABELS_ENDS = ("_labels", "_label", "_masks", "_mask", "_seg", "_segmentation")
_CSV_COLUMNS = ("image", "labels")
_AFFINE_TOLERANCE = 0.1
"""How far apart two affines may put a corner, in the smallest voxel side: rounding gives 0.01."""


def pairs_from(path: Path, *, complete: bool = False) -> list[TrainingPair]:
    """Return the pairs of a folder or of a CSV file, sorted by name or in the file's order.

    Parameters
    ----------
    path : Path
        See the module for the layouts.
    complete : bool
        Slices that hold no label are labelled, in all of them: nothing is there.

    Raises
    ------
    TuningError
        There is no such folder or file, it has no known layout, an image lacks its labels or
        labels lack their image, or a pair cannot be used.
    """
    if path.is_file():
        return _pairs_of_csv(path, complete)
    if not path.is_dir():
        raise TuningError(
            f"Training data are a folder or a CSV file; {path} does not exist. Check the name."
        )
    found = labelled_files(path)
    allow_open_files(2 * len(found))
    return [read_pair(*_both(files, path), files.name, complete=complete) for files in found]


def read_pair(
    image_path: Path,
    labels_path: Path,
    name: str,
    spacing_zyx: tuple[float, float, float] | None = None,
    unlabelled: Iterable[int] = (),
    *,
    complete: bool = False,
) -> TrainingPair:
    """Open an image and its labels.

    Parameters
    ----------
    image_path, labels_path : Path
        Any format that `napari_slidesam.io.read_volume` reads; 2D files are one slice.
    name : str
    spacing_zyx : tuple of 3 floats, optional
        Instead of the image's own.
    unlabelled : iterable of int
        Slices along z that are not labelled, besides those that hold no label.
    complete : bool
        Slices that hold no label are labelled: nothing is there.

    Raises
    ------
    TuningError
        A file cannot be read or unpacked, the two lie on different grids, or they cannot be
        used; see `pair_from_arrays`.
    """
    try:
        image, labels = open_at_hand(image_path), open_at_hand(labels_path)
        if labels.volume.channel_axis is not None:
            raise TuningError(
                f"Labels have one number a voxel; {labels_path} has channels. Save the label "
                "values, not their colours."
            )
        _check_grids(name, image, labels)
    except (FileFormatError, VolumeError) as error:
        raise TuningError(f"The pair {name!r} cannot be read. {error}") from error
    label_array = labels.volume.data
    if len(label_array.shape) == 2:
        label_array = np.asarray(label_array[:, :])[np.newaxis]
    return pair_from_arrays(
        name, image.volume, label_array, spacing_zyx, unlabelled, complete=complete
    )


def labelled_files(folder: Path) -> list[LabelledFiles]:
    """Return what a folder holds, without reading it; sorted by name.

    Raises
    ------
    TuningError
        It has no known layout.
    """
    if is_nnunet(folder):
        found = nnunet_files(folder)
    elif None not in ((alone := folder_files(folder.resolve())).image, alone.labels):
        found = [alone]
    elif (beside := _sibling_folders(folder)) is not None:
        found = _matched(*beside)
    else:
        below = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        each = [folder_files(path) for path in below]
        found = [files for files in each if (files.image, files.labels) != (None, None)]
    if not found:
        raise TuningError(
            f"{folder} holds no images with labels. Expected {IMAGES_TR} and labelsTr as nnU-Net "
            "has it, folders named images and labels, or one folder a volume with image.nii.gz "
            f"and labels.nii.gz; known endings are {', '.join(SUFFIXES)}."
        )
    return found


def parse_slices(text: str) -> tuple[int, ...]:
    """Return slices written as numbers and ranges, ``"3 7 20-29"``; both ends belong to it.

    Raises
    ------
    TuningError
        It is not written so.
    """
    slices: list[int] = []
    for part in re.split(r"[\s;,]+", text.strip()):
        if not part:
            continue
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            raise TuningError(
                f"Slices are written as numbers and ranges such as '3 7 20-29'; got {text!r}."
            )
        first = int(match[1])
        slices += range(first, int(match[2] or first) + 1)
    return tuple(slices)


def _both(files: LabelledFiles, folder: Path) -> tuple[Path, Path]:
    """Return the image and the labels, or raise where one is missing."""
    if files.image is None or files.labels is None:
        here = files.labels or files.image
        missing = "image" if files.image is None else "labels"
        raise TuningError(
            f"Each image needs its labels and the other way round; in {folder}, {here} has no "
            f"{missing}. Add the file, or take this one out."
        )
    return files.image, files.labels


def _sibling_folders(folder: Path) -> tuple[Path, Path] | None:
    """Return a folder's folders of images and of labels, where it has both."""
    found = []
    by_name = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    for names in (IMAGE_FOLDERS, LABELS_FOLDERS):
        here = (by_name.get(name.lower()) for name in names)
        found.append(next((path for path in here if path is not None), None))
    images, labels = found
    return None if images is None or labels is None else (images, labels)


def _matched(images: Path, labels: Path) -> list[LabelledFiles]:
    """Return the labels of one folder with the images of the other, matched by name."""
    image_files = {stem: path for path in images.iterdir() if (stem := volume_stem(path))}
    found = []
    for path in sorted(labels.iterdir()):
        stem = volume_stem(path)
        if stem is None:
            continue
        end = next((e for e in _LABELS_ENDS if stem.lower().endswith(e)), "")
        names = [stem, stem[: len(stem) - len(end)]] if end else [stem]
        # The same name before any that differs: _0000 may be a number, too.
        stems = [(name, name + image_end) for name in names for image_end in ("", *_IMAGE_ENDS)]
        match = next(((name, s) for name, s in stems if s in image_files), None)
        if match is None:
            found.append(LabelledFiles(stem, None, path))
        else:
            found.append(LabelledFiles(match[0], image_files[match[1]], path))
    logger.info("%d images in %s, %d with labels.", len(image_files), images, len(found))
    return found


def _pairs_of_csv(path: Path, complete: bool) -> list[TrainingPair]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [str(c).strip().lower() for c in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TuningError(f"{path} is not a readable CSV file: {error}.") from error
    missing = [c for c in _CSV_COLUMNS if c not in columns]
    if missing or not rows:
        what = f"has no column {' and '.join(missing)}" if missing else "has no row"
        raise TuningError(
            f"A list of pairs is a CSV file with the columns image and labels, and perhaps name "
            f"and unlabelled; {path} {what}."
        )
    allow_open_files(2 * len(rows))
    return [_pair_of_row(path, line, row, complete) for line, row in rows]


def _pair_of_row(path: Path, line: int, row: dict[str, str | None], complete: bool) -> TrainingPair:
    values = {column: (row.get(column) or "").strip() for column in row if column is not None}
    if not (values["image"] and values["labels"]):
        raise TuningError(f"{path}, line {line}: an image or its labels are not given.")
    image, labels = (path.parent / values[column] for column in _CSV_COLUMNS)
    name = values.get("name") or volume_stem(image) or image.name
    try:
        unlabelled = parse_slices(values.get("unlabelled", ""))
        return read_pair(image, labels, name, unlabelled=unlabelled, complete=complete)
    except TuningError as error:
        raise TuningError(f"{path}, line {line}: {error}") from error


def _check_grids(name: str, image: VolumeFile, labels: VolumeFile) -> None:
    """Raise where two files lie on different grids; shapes first, as affines follow from them."""
    shapes = image.volume.shape_zyx, labels.volume.shape_zyx
    if shapes[0] != shapes[1]:
        raise TuningError(
            f"Image and labels need the same shape; {name!r} has {shapes[0]} and {shapes[1]} "
            "(z, y, x). Resample one onto the other's grid."
        )
    affines = image.grid.affine_ras, labels.grid.affine_ras
    if affines[0] is None or affines[1] is None:
        return
    apart = _corner_distance(affines[0], affines[1], shapes[0])
    smallest = min(image.volume.spacing_zyx)
    if apart > _AFFINE_TOLERANCE * smallest:
        raise TuningError(
            f"Image and labels need the same affine; those of {name!r} put a corner of the "
            f"volume {apart:.4g} apart, at voxels of {smallest:.4g}. One is moved, flipped or "
            "turned: resample it onto the other's grid."
        )


def _corner_distance(
    first: NDArray[np.float64], second: NDArray[np.float64], shape_zyx: tuple[int, int, int]
) -> float:
    """Return how far apart two affines put a corner of a volume at most; 0 for broken ones."""
    z, y, x = (n - 1 for n in shape_zyx)
    corners = np.array([(i, j, k, 1) for i in (0, x) for j in (0, y) for k in (0, z)], dtype=float)
    apart = corners @ (first - second).T[:, :3]
    return float(np.linalg.norm(apart, axis=1).max()) if np.isfinite(apart).all() else 0.0
