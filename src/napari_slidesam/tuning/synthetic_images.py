"""Whole synthetic volumes with an image: something to train on where there are no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.tuning.appearance import degrade, paint
from napari_slidesam.tuning.synthetic import SyntheticVolumes

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticImage:
    """A made-up volume with its labels.

    Parameters
    ----------
    name : str
        Kind and number.
    image : ndarray of float32, shape (Z, Y, X)
        Intensities of about 0 to 1, with textures, blur, bias field and noise.
    labels : ndarray of uint16, shape (Z, Y, X)
        Only the objects; walls and what fills gaps are 0.
    spacing_zyx : tuple of 3 floats
        Up to six times as large along z as in plane.
    """

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint16]
    spacing_zyx: tuple[float, float, float]


def synthetic_image(
    seed: int, number: int, side: int = 96, strength: float = 1.0
) -> SyntheticImage:
    """Return one volume of a series that its seed fixes.

    Parameters
    ----------
    seed : int
    number : int
        Kinds of volumes take turns.
    side : int
        Voxels along each side of an isotropic volume; others have about as many in all.
    strength : float
        Multiplies bias, noise and shifts between slices.
    """
    volume = SyntheticVolumes(seed, side).make(number)
    rng = np.random.default_rng((seed, number, 1))
    labels = np.asarray(volume.labels)
    target = labels == volume.object_ids[int(rng.integers(len(volume.object_ids)))]
    image = degrade(paint(labels, target, rng), rng, strength)
    objects = np.where(np.isin(labels, volume.object_ids), labels, 0).astype(np.uint16)
    return SyntheticImage(
        name=f"{volume.name}-{number}",
        image=np.ascontiguousarray(image, dtype=np.float32),
        labels=objects,
        spacing_zyx=volume.spacing_zyx,
    )
