"""Labelled volumes to train on, and how to read a folder of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_FILE = "image.nii.gz"
LABELS_FILE = "labels.nii.gz"
MIN_OBJECT_VOXELS = 120
"""Smaller objects are not worth a prompt: about 5 voxels across."""
INTENSITY_PERCENTILES = (0.1, 99.9)
MAX_VALUE = 65535
"""Of a scaled image. 8 bits would leave soft tissue in CT a dozen levels."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledVolume:
    """A volume whose objects are outlined; where the image is missing, it can be painted.

    Parameters
    ----------
    name : str
        Where the volume comes from.
    image : ndarray of uint16, shape (Z, Y, X), optional
        Intensities scaled robustly to 0-65535.
    labels : ndarray of uint16 or int32, shape (Z, Y, X)
        0 is background, every other integer an object.
    spacing_zyx : tuple of 3 floats
        Distance between voxel centres, any unit.
    object_ids : tuple of int
        The labels worth prompting.

    Raises
    ------
    TuningError
        The arrays do not fit each other, or the spacing is not positive.
    """

    name: str
    image: NDArray[np.uint16] | None
    labels: NDArray[Any]
    spacing_zyx: tuple[float, float, float]
    object_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.labels.ndim != 3 or self.labels.size == 0:
            raise TuningError(
                f"Labels of a volume need three axes and at least one voxel; {self.name!r} has "
                f"shape {self.labels.shape}. Give one 3D label volume."
            )
        if self.image is not None and self.image.shape != self.labels.shape:
            raise TuningError(
                f"Image and labels need the same shape; {self.name!r} has {self.image.shape} and "
                f"{self.labels.shape}. Resample one onto the other's grid."
            )
        if not all(0 < s < float("inf") for s in self.spacing_zyx):
            raise TuningError(
                f"Spacing needs three positive numbers; {self.name!r} has {self.spacing_zyx}. "
                "Correct the file's header."
            )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        image: NDArray[Any] | None,
        labels: NDArray[Any],
        spacing_zyx: tuple[float, float, float],
        min_object_voxels: int = MIN_OBJECT_VOXELS,
    ) -> LabelledVolume:
        """Return a volume with its image scaled and its objects listed.

        Raises
        ------
        TuningError
            The labels are not whole numbers from 0 up, or hold no object that is large enough.
        """
        compact = _as_label_type(name, labels)
        counts = np.bincount(compact.ravel())
        counts[:1] = 0
        object_ids = tuple(int(i) for i in np.flatnonzero(counts >= min_object_voxels))
        if not object_ids:
            raise TuningError(
                f"A labelled volume needs an object of at least {min_object_voxels} voxels; the "
                f"largest of {name!r} has {int(counts.max(initial=0))}. Leave the volume out."
            )
        scaled = None if image is None else scale_to_uint16(image)
        return cls(name, scaled, compact, spacing_zyx, object_ids)


def scale_to_uint16(image: NDArray[Any]) -> NDArray[np.uint16]:
    """Return intensities as 0-65535, clipped at the 0.1st and 99.9th percentile."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, INTENSITY_PERCENTILES)
    scale = MAX_VALUE / max(float(high - low), 1e-6)
    scaled: NDArray[np.uint16] = np.clip((values - low) * scale, 0, MAX_VALUE).astype(np.uint16)
    return scaled


def read_labelled_folder(folder: str | Path) -> list[LabelledVolume]:
    """Read every volume of a folder that holds one folder a volume.

    Each has ``labels.nii.gz`` and, unless it is a label map to be painted, ``image.nii.gz`` on
    the same grid. NIfTI's x, y, z become z, y, x.

    Raises
    ------
    TuningError
        There is no volume, or one lacks labels, cannot be read or does not fit its image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise TuningError(
            f"Training data needs a folder with one folder a volume; {root} is not a folder."
        )
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise TuningError(
            f"Training data needs a folder with one folder a volume; {root} holds none. "
            f"Give each volume a folder with {LABELS_FILE} and, where there is one, {IMAGE_FILE}."
        )
    return [_read_volume(path) for path in folders]


def _read_volume(path: Path) -> LabelledVolume:
    """Read the volume of one folder."""
    if not (path / LABELS_FILE).is_file():
        raise TuningError(
            f"A training volume needs {LABELS_FILE}; {path} has none. Add it or remove the folder."
        )
    labels, spacing_zyx = _read_nifti(path / LABELS_FILE)
    image = _read_nifti(path / IMAGE_FILE)[0] if (path / IMAGE_FILE).is_file() else None
    if image is not None and image.shape != labels.shape:
        raise TuningError(
            f"Image and labels need the same shape; in {path} they have {image.shape} and "
            f"{labels.shape} (zyx). Resample one onto the other's grid."
        )
    return LabelledVolume.from_arrays(path.name, image, labels, spacing_zyx)


def _read_nifti(path: Path) -> tuple[NDArray[Any], tuple[float, float, float]]:
    """Return a NIfTI file's values (Z, Y, X) and spacing."""
    try:
        nifti: Any = nib.load(path)
        values = np.asanyarray(nifti.dataobj)
        zooms = [float(z) for z in nifti.header.get_zooms()]
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise TuningError(
            f"A training volume needs readable NIfTI files; {path} cannot be read ({error}). "
            "Write it again."
        ) from error
    if values.ndim != 3:
        raise TuningError(
            f"A training volume needs three axes; {path} has shape {values.shape}. Split it."
        )
    return np.ascontiguousarray(values.T), (zooms[2], zooms[1], zooms[0])


def _as_label_type(name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as uint16, or as int32 where they do not fit."""
    if labels.size == 0:
        raise TuningError(f"Labels need at least one voxel; {name!r} is empty.")
    low, high = labels.min(), labels.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high >= 2**31:
        raise TuningError(
            f"Labels need whole numbers from 0 to 2^31 - 1; {name!r} has {low} to {high}. "
            "Renumber them."
        )
    compact = labels.astype(np.uint16 if high < 2**16 else np.int32)
    if labels.dtype.kind == "f" and not np.array_equal(compact, labels):
        raise TuningError(f"Labels need whole numbers; {name!r} has fractions. Threshold them.")
    return compact
