"""Settings of the panel, kept from one start of napari to the next in a small file."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import platformdirs

from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.errors import FileFormatError, SlideSamError
from napari_slidesam.gui.state import SegmentSettings
from napari_slidesam.intensity import Intensity
from napari_slidesam.io.atomic import replacing_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

APPLICATION = "napari-slidesam"
_NOT_KEPT = ("z_range", "only_this_slice")
"""They belong to one image; remembered, they would surprise with the next one."""


def settings_file() -> Path:
    """Return where the settings are; the file need not exist."""
    return platformdirs.user_config_path(APPLICATION, appauthor=False) / "segment.json"


def load_settings(path: Path) -> SegmentSettings:
    """Return the settings in a file; defaults for what is missing or cannot be understood."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SegmentSettings()
    except (OSError, ValueError) as error:
        logger.warning("The settings in %s cannot be read: %s", path, error)
        return SegmentSettings()
    if not isinstance(values, dict):
        return SegmentSettings()
    given: dict[str, Any] = {}
    for field in fields(SegmentSettings):
        if field.name in values and field.name not in _NOT_KEPT:
            try:
                given[field.name] = _value(field.name, values[field.name])
            except (SlideSamError, TypeError, ValueError) as error:
                logger.warning("The setting %s in %s is not used: %s", field.name, path, error)
    return SegmentSettings(**given)


def save_settings(path: Path, settings: SegmentSettings) -> None:
    """Write settings; a disk that cannot be written to costs a warning, no work."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(_plain(settings), indent=1), encoding="utf-8")
    except (OSError, FileFormatError) as error:
        logger.warning("The settings cannot be saved in %s: %s", path, error)


def _plain(settings: SegmentSettings) -> Mapping[str, Any]:
    values = {f.name: getattr(settings, f.name) for f in fields(SegmentSettings)}
    values["intensity"] = settings.intensity.to_dict()
    values["overlap_rule"] = str(settings.overlap_rule)
    return {name: value for name, value in values.items() if name not in _NOT_KEPT}


def _value(name: str, value: Any) -> Any:
    if name == "intensity":
        return Intensity.from_dict(value)
    if name == "overlap_rule":
        return OverlapRule(value)
    expected = {"model": str, "device": str}.get(name)
    if name == "adapter":
        return None if value is None else str(value)
    if name == "max_extent_slices":
        return None if value is None else int(value)
    if expected is not None and not isinstance(value, expected):
        raise TypeError(f"expected {expected.__name__}, got {value!r}")
    return value if expected is not None else bool(value)
