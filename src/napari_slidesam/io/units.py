"""Names of length units in the file formats, and how long they are."""

from __future__ import annotations

UNKNOWN_UNIT = "px"
"""The unit of a spacing that no file gives."""

_NANOMETRES = {
    "angstrom": 0.1,
    "nm": 1.0,
    "um": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "inch": 2.54e7,
    "m": 1e9,
}

_NAMES = {
    "": UNKNOWN_UNIT,
    "none": UNKNOWN_UNIT,
    "pixel": UNKNOWN_UNIT,
    "pixels": UNKNOWN_UNIT,
    "voxel": UNKNOWN_UNIT,
    "voxels": UNKNOWN_UNIT,
    "unknown": UNKNOWN_UNIT,
    "a": "angstrom",
    "å": "angstrom",
    "nanometer": "nm",
    "nanometre": "nm",
    "\N{MICRO SIGN}m": "um",
    "\N{GREEK SMALL LETTER MU}m": "um",
    "\\u00b5m": "um",  # ImageJ escapes it in its description
    "micron": "um",
    "microns": "um",
    "micrometer": "um",
    "micrometre": "um",
    "millimeter": "mm",
    "millimetre": "mm",
    "centimeter": "cm",
    "centimetre": "cm",
    "meter": "m",
    "metre": "m",
    "in": "inch",
    '"': "inch",
}

_NGFF_NAMES = {
    "angstrom": "angstrom",
    "nm": "nanometer",
    "um": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "inch": "inch",
    "m": "meter",
}

_OME_NAMES = {"angstrom": "Å", "um": "\N{MICRO SIGN}m", "inch": "in"}


def canonical_unit(name: str | None) -> str:
    """Return the short name of a unit (``"um"`` for micron, µm, micrometer), else as given."""
    lower = (name or "").strip().lower()
    return _NAMES.get(lower, lower)


def conversion(unit: str, to: str) -> float | None:
    """Return how many ``to`` one ``unit`` is long, or None where one of them has no length."""
    if unit not in _NANOMETRES or to not in _NANOMETRES:
        return None
    return _NANOMETRES[unit] / _NANOMETRES[to]


def ngff_unit(unit: str) -> str | None:
    """Return the name that OME-Zarr uses, or None for a unit without a length."""
    return _NGFF_NAMES.get(unit)


def ome_unit(unit: str) -> str | None:
    """Return the name that OME-XML uses, or None for a unit without a length."""
    return _OME_NAMES.get(unit, unit) if unit in _NANOMETRES else None
