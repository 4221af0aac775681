"""Labelled volumes on disk, read one at a time.

Two layouts of a folder are known. *One volume a folder*: each sub-folder (or the folder itself)
holds ``image.*`` and ``labels.*`` on the same grid, and optionally ``meta.json`` with
``objects`` (ids), ``slice_axis_xyz`` and ``modality``. *nnU-Net's*: ``imagesTr/NAME_0000.*`` and
``labelsTr/NAME.*``; of several channels the first is used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.io import read_labels, read_volume
from napari_slidesam.io.folders import (
    FIRST_CHANNEL,
    IMAGES_TR,
    SUFFIXES,
    folder_files,
    is_nnunet,
    nnunet_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_slidesam.volume import Volume

MIN_PLANE_SHARE = 0.0014
"""Share of a slice that an object covers at least (Slide-SAM, appendix C: 0.14 %)."""

MIN_SLICES = 8
"""Consecutive slices on which it does."""

_LARGEST_DENSE_LABEL = 2**16 - 1


@dataclass(frozen=True, slots=True, eq=False)
class TrueObject:
    """A labelled object: its label and its voxels in the slices' frame."""

    object_id: int
    mask: PlacedMask


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A labelled volume in memory.

    Parameters
    ----------
    name : str
        Names the volume in reports and seeds its prompts.
    volume : Volume
    labels_zyx : ndarray of int, shape of the volume
        0 is background.
    axis : int
        The axis (0, 1 or 2 of zyx) that the slices are along.
    object_ids : tuple of int, optional
        The labels worth prompting. Without it: those that cover over 0.14 % of the slice on at
        least 8 consecutive slices.
    modality : str
        What kind of image it is, for reports.

    Raises
    ------
    EvaluationError
        Image and labels differ in shape, or the axis does not exist.
    """

    name: str
    volume: Volume
    labels_zyx: NDArray[Any]
    axis: int = 0
    object_ids: tuple[int, ...] | None = None
    modality: str = ""
    _label_boxes: dict[int, tuple[slice, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.labels_zyx.shape != self.volume.shape_zyx:
            raise EvaluationError(
                f"{self.name}: the labels have shape {self.labels_zyx.shape} (z, y, x), the image "
                f"{self.volume.shape_zyx}. Both must lie on the same grid."
            )
        if self.labels_zyx.dtype.kind not in "biu":
            raise EvaluationError(
                f"{self.name}: labels are integers, one per object; got {self.labels_zyx.dtype}."
            )
        if self.axis not in (0, 1, 2):
            raise EvaluationError(f"{self.name}: the slice axis is 0, 1 or 2; got {self.axis}.")
        labels_syx = np.moveaxis(self.labels_zyx, self.axis, 0)
        object.__setattr__(self, "_label_boxes", label_boxes(labels_syx))
        if self.object_ids is None:
            ids = promptable_labels(labels_syx, self._label_boxes)
            object.__setattr__(self, "object_ids", ids)

    @property
    def image_zyx(self) -> NDArray[np.float32]:
        """The image's stored values, read anew at each call; float32, shape (Z, Y, X)."""
        return self.volume.along(0).read_block(0, self.volume.shape_zyx[0])

    @property
    def plane_shape_yx(self) -> tuple[int, int]:
        """Lengths of a slice's two axes."""
        return self.volume.along(self.axis).plane_shape_yx

    @property
    def spacing_syx(self) -> tuple[float, float, float]:
        """Spacing in the slices' frame: between slices, then along the plane's y and x."""
        stack = self.volume.along(self.axis)
        return (stack.step, *stack.spacing_yx)

    def objects(self, limit: int | None = None) -> Iterator[TrueObject]:
        """Yield the objects worth prompting, in the order of ``object_ids``.

        Parameters
        ----------
        limit : int, optional
            At most so many, evenly chosen.

        Raises
        ------
        EvaluationError
            An object id is not in the labels.
        """
        labels_syx = np.moveaxis(self.labels_zyx, self.axis, 0)
        for object_id in evenly_chosen(self.object_ids or (), limit):
            box = self._label_boxes.get(object_id)
            if box is None:
                raise EvaluationError(
                    f"{self.name}: object {object_id} is named in meta.json but is not in the "
                    "labels. Correct the list of objects."
                )
            start = (box[0].start, box[1].start, box[2].start)
            part = labels_syx[box] == object_id
            yield TrueObject(object_id, PlacedMask.from_array(part, start_syx=start))


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """A labelled volume on disk, not yet read; the fields are those of `Case`."""

    name: str
    image_path: Path
    labels_path: Path
    axis: int = 0
    object_ids: tuple[int, ...] | None = None
    modality: str = ""

    def load(self) -> Case:
        """Read image and labels.

        Raises
        ------
        EvaluationError
            They differ in shape.
        FileFormatError
            One of them cannot be read.
        """
        volume = read_volume(self.image_path).volume
        # Decompressed once here, not once a slice.
        volume = replace(volume, data=np.asarray(volume.data))
        labels = read_labels(self.labels_path)
        return Case(self.name, volume, labels, self.axis, self.object_ids, self.modality)


def find_cases(folder: Path) -> tuple[CaseFiles, ...]:
    """Return the labelled volumes of a folder, sorted by name.

    Volumes whose ``meta.json`` lists no objects are left out.

    Raises
    ------
    EvaluationError
        There is no such folder, it holds no labelled volume, a volume lacks its image or its
        labels, or a ``meta.json`` is malformed.
    """
    if not folder.is_dir():
        raise EvaluationError(f"Expected a folder of labelled volumes; {folder} is not a folder.")
    if is_nnunet(folder):
        found = _nnunet_cases(folder)
    elif folder_files(folder).image is not None:
        found = (_folder_case(folder.resolve()),)
    else:
        below = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        found = tuple(_folder_case(path) for path in below)
    cases = tuple(case for case in found if case.object_ids != ())
    if not cases:
        raise EvaluationError(
            f"{folder} holds no labelled volume with objects. Expected one volume a folder "
            "(image.nii.gz, labels.nii.gz, meta.json) or imagesTr and labelsTr as nnU-Net has it."
        )
    return cases


def promptable_labels(
    labels_syx: NDArray[Any], boxes: dict[int, tuple[slice, ...]]
) -> tuple[int, ...]:
    """Return the labels that are large enough to be prompted, sorted.

    Parameters
    ----------
    labels_syx : ndarray of int, shape (S, Y, X)
        Slices first.
    boxes : dict of int to tuple of slice
        What `label_boxes` says of them.
    """
    min_area = MIN_PLANE_SHARE * labels_syx.shape[1] * labels_syx.shape[2]
    found = []
    for label, box in boxes.items():
        areas = np.count_nonzero(labels_syx[box] == label, axis=(1, 2))
        runs, n_runs = ndimage.label(areas > min_area)
        if n_runs and np.bincount(runs)[1:].max() >= MIN_SLICES:
            found.append(label)
    return tuple(found)


def evenly_chosen(ids: tuple[int, ...], limit: int | None) -> tuple[int, ...]:
    """Return at most ``limit`` of the ids, spread evenly over their order."""
    if limit is None or limit >= len(ids):
        return ids
    return tuple(ids[int((i + 0.5) * len(ids) / limit)] for i in range(limit))


def label_boxes(labels: NDArray[Any]) -> dict[int, tuple[slice, ...]]:
    """Return each positive label's bounding box, in the order of the labels.

    Parameters
    ----------
    labels : ndarray of int, any shape
        0 and negative values are background.
    """
    if labels.size == 0:
        return {}
    values: NDArray[Any] | None = None
    if labels.max() > _LARGEST_DENSE_LABEL:  # find_objects makes a list as long as the largest
        values, inverse = np.unique(labels, return_inverse=True)
        labels = inverse.reshape(labels.shape) + 1
    dense = np.maximum(labels, 0).astype(np.int32)
    boxes = enumerate(ndimage.find_objects(dense), start=1)
    named = ((int(values[i - 1]) if values is not None else i, box) for i, box in boxes)
    return {label: box for label, box in named if box is not None and label > 0}


def _folder_case(folder: Path) -> CaseFiles:
    meta = _read_meta(folder / "meta.json")
    object_ids = _object_ids(folder, meta)
    files = folder_files(folder)
    image, labels = files.image, files.labels
    if image is None or labels is None:
        if object_ids == ():  # a label map alone, or an image without labels
            return CaseFiles(folder.name, folder, folder, object_ids=())
        paths = {"image": image, "labels": labels}
        missing = " and ".join(f"{stem}.nii.gz" for stem, path in paths.items() if path is None)
        raise EvaluationError(
            f"{folder} has no {missing}. Each labelled volume is a folder with image.nii.gz and "
            f"labels.nii.gz; known endings are {', '.join(SUFFIXES)}."
        )
    axis_xyz = meta.get("slice_axis_xyz", 2)
    if axis_xyz not in (0, 1, 2):
        raise EvaluationError(f"{folder}: slice_axis_xyz is 0, 1 or 2; got {axis_xyz!r}.")
    modality = str(meta.get("modality", ""))
    return CaseFiles(folder.name, image, labels, 2 - axis_xyz, object_ids, modality)


def _read_meta(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} is not readable JSON: {error}. Correct it.") from error
    if not isinstance(meta, dict):
        raise EvaluationError(f"{path}: expected a JSON object; got {type(meta).__name__}.")
    return meta


def _object_ids(folder: Path, meta: dict[str, Any]) -> tuple[int, ...] | None:
    ids = meta.get("objects")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(i, int) and i > 0 for i in ids):
        raise EvaluationError(
            f"{folder}: objects is a list of positive label values; got {ids!r}. Leave it out to "
            "have every large enough label used."
        )
    return tuple(ids)


def _nnunet_cases(folder: Path) -> tuple[CaseFiles, ...]:
    cases = []
    for files in nnunet_files(folder):
        if files.image is None or files.labels is None:
            raise EvaluationError(
                f"{files.labels} has no image: expected {IMAGES_TR}/{files.name}{FIRST_CHANNEL} "
                f"with a known ending in {folder}: {', '.join(SUFFIXES)}."
            )
        cases.append(CaseFiles(files.name, files.image, files.labels))
    return tuple(cases)
