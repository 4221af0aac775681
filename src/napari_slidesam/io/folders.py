"""Where images and their labels lie in folders.

*nnU-Net's layout*: ``imagesTr/NAME_0000.*`` and ``labelsTr/NAME.*``; of several channels the
first is used. *One volume a folder*: ``image.*`` and ``labels.*`` side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".nii.gz", ".nii", ".ome.zarr", ".zarr", ".tiff", ".tif", ".nrrd", ".npy")
"""Ends of file names that are looked for, in this order."""

IMAGES_TR, LABELS_TR = "imagesTr", "labelsTr"
FIRST_CHANNEL = "_0000"
"""What nnU-Net adds to the name of an image's first channel."""


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Where an image and its labels lie; None where the one that belongs there is missing."""

    name: str
    image: Path | None
    labels: Path | None


def volume_stem(path: Path) -> str | None:
    """Return a volume's file name without its known end, None for other and hidden files."""
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None or path.name.startswith("."):
        return None
    return path.name[: -len(suffix)]


def find_volume(folder: Path, stem: str) -> Path | None:
    """Return the file of a folder with this stem and a known end, if there is one."""
    candidates = (folder / f"{stem}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.exists()), None)


def is_nnunet(folder: Path) -> bool:
    """Whether a folder has nnU-Net's layout."""
    return (folder / LABELS_TR).is_dir()


def nnunet_files(folder: Path) -> list[LabelledFiles]:
    """Return the labels of nnU-Net's layout with their images, sorted by file name."""
    found = []
    for labels in sorted((folder / LABELS_TR).iterdir()):
        name = volume_stem(labels)
        if name is not None:
            image = find_volume(folder / IMAGES_TR, f"{name}{FIRST_CHANNEL}")
            found.append(LabelledFiles(name, image, labels))
    return found


def folder_files(folder: Path) -> LabelledFiles:
    """Return ``image.*`` and ``labels.*`` of a folder."""
    return LabelledFiles(folder.name, find_volume(folder, "image"), find_volume(folder, "labels"))
