"""Files: NIfTI, TIFF, NRRD, numpy and OME-Zarr volumes, and prompts as JSON."""

from __future__ import annotations

from napari_slidesam.io.atomic import replacing_file, replacing_folder
from napari_slidesam.io.files import read_labels, read_volume, write_labels
from napari_slidesam.io.prompts_json import (
    prompts_from_dict,
    prompts_to_dict,
    read_prompts,
    write_prompts,
)
from napari_slidesam.io.volume_file import Grid, VolumeFile

__all__ = [
    "Grid",
    "VolumeFile",
    "prompts_from_dict",
    "prompts_to_dict",
    "read_labels",
    "read_prompts",
    "read_volume",
    "replacing_file",
    "replacing_folder",
    "write_labels",
    "write_prompts",
]
