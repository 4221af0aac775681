"""Units of length in the words of each format."""

from __future__ import annotations

import pytest

from napari_slidesam.io.units import canonical_unit, conversion, ngff_unit, ome_unit


@pytest.mark.parametrize(
    "name", ["um", "micron", "Micrometer", "micrometre", "\u00b5m", "\u03bcm", "\\u00B5m", " um "]
)
def test_micrometres_by_any_name(name):
    assert canonical_unit(name) == "um"


@pytest.mark.parametrize("name", [None, "", "pixel", "unknown", "Voxels"])
def test_no_unit(name):
    assert canonical_unit(name) == "px"


def test_names_there_and_back():
    for unit in ("angstrom", "nm", "um", "mm", "cm", "m", "inch"):
        assert canonical_unit(ngff_unit(unit)) == unit
        assert canonical_unit(ome_unit(unit)) == unit
    assert ngff_unit("px") is None
    assert ome_unit("px") is None
    assert canonical_unit("furlong") == "furlong"


def test_conversion():
    assert conversion("um", "nm") == 1000
    assert conversion("inch", "mm") == pytest.approx(25.4)
    assert conversion("px", "mm") is None
