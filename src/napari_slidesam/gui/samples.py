"""Real volumes for napari's menu ``File > Open Sample``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam import sample_data

if TYPE_CHECKING:
    from napari_slidesam.sample_data import Sample

LayerData = tuple[Any, dict[str, Any], str]


def nuclei() -> list[LayerData]:
    """Return the fluorescence nuclei and their labels as layers."""
    return sample_layers(sample_data.nuclei())


def mni152_head() -> list[LayerData]:
    """Return the MNI152 head and its brain mask as layers."""
    return sample_layers(sample_data.mni152_head())


def sample_layers(sample: Sample) -> list[LayerData]:
    """Return a sample as an Image and a hidden Labels layer, both at its spacing."""
    volume = sample.image
    unit = "pixel" if volume.unit == "px" else volume.unit
    grid = {"scale": volume.spacing_zyx, "units": (unit,) * 3, "axis_labels": ("z", "y", "x")}
    origin = {"source": sample.source, "licence": sample.licence}
    image = {"name": sample.name, "metadata": origin, **grid}
    layers: list[LayerData] = [(volume.data, image, "image")]
    if sample.labels is not None:
        labels = {"name": f"{sample.name} labels", "metadata": origin, "visible": False, **grid}
        layers.append((np.asarray(sample.labels), labels, "labels"))
    return layers
