"""The panel's settings, remembered from one start of napari to the next.

They are a category of napari's own preferences where napari has them (0.9 and later): declared in
the manifest as ``configurations: segment``, kept in napari's folder of settings. Older napari gets
a small file in the user's folder of settings. Both hold the same flat values.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import napari.settings
import platformdirs

from napari_slidesam.engine.planes import OverlapRule
from napari_slidesam.errors import ConfigError, FileFormatError
from napari_slidesam.gui.state import SegmentSettings
from napari_slidesam.intensity import Intensity
from napari_slidesam.io.atomic import replacing_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

PLUGIN = "napari-slidesam"
CATEGORY = "segment"
"""Key of the settings in the manifest's ``configurations``."""
NO_LIMIT = -1
"""Stands for "as far as it goes" where a number is kept."""

FlatValue = str | int | float | bool


class SettingsStore(Protocol):
    """Where settings are kept; neither method raises."""

    def load(self) -> SegmentSettings:
        """Return the settings; defaults for what is missing or cannot be used."""

    def save(self, settings: SegmentSettings) -> None:
        """Keep settings; what fails costs a line in the log."""


def flat_values(settings: SegmentSettings) -> dict[str, FlatValue]:
    """Return settings as the texts, numbers and switches that are kept.

    ``z_range`` and ``only_this_slice`` are left out: they belong to the image at hand, and would
    surprise with the next one.
    """
    intensity = settings.intensity
    extent = settings.max_extent_slices
    return {
        "model": settings.model,
        "adapter": settings.adapter or "",
        "device": settings.device,
        "intensity": intensity.kind,
        "intensity_lower": 0.0 if intensity.lower is None else intensity.lower,
        "intensity_upper": 0.0 if intensity.upper is None else intensity.upper,
        "use_contrast_limits": settings.use_contrast_limits,
        "max_extent_slices": NO_LIMIT if extent is None else extent,
        "auto_run": settings.auto_run,
        "edits_as_prompts": settings.edits_as_prompts,
        "overlap_rule": str(settings.overlap_rule),
        "keep_embeddings": settings.keep_embeddings,
    }


def settings_of(values: Mapping[str, Any]) -> SegmentSettings:
    """Return the settings that `flat_values` gave.

    Each value that is missing or cannot be used is its default, the latter with a warning.
    """
    defaults = flat_values(SegmentSettings())
    used = {name: _checked(name, values, default) for name, default in defaults.items()}
    extent = used["max_extent_slices"]
    return replace(
        SegmentSettings(),
        model=used["model"],
        adapter=used["adapter"] or None,
        device=used["device"],
        intensity=_intensity(used),
        use_contrast_limits=used["use_contrast_limits"],
        max_extent_slices=extent if extent >= 0 else None,
        auto_run=used["auto_run"],
        edits_as_prompts=used["edits_as_prompts"],
        overlap_rule=_overlap_rule(used["overlap_rule"]),
        keep_embeddings=used["keep_embeddings"],
    )


def _checked(name: str, values: Mapping[str, Any], default: FlatValue) -> Any:
    """Return a value if it is of its default's type; a whole number may stand for a decimal."""
    value = values.get(name, default)
    wanted = (int, float) if isinstance(default, float) else (type(default),)
    is_number_for_switch = isinstance(value, bool) and not isinstance(default, bool)
    if isinstance(value, wanted) and not is_number_for_switch and value != "":
        return value
    if value != default:
        logger.warning("The setting %s cannot be %r; %r is used.", name, value, default)
    return default


def _intensity(used: Mapping[str, Any]) -> Intensity:
    kind, limits = used["intensity"], (used["intensity_lower"], used["intensity_upper"])
    try:
        return Intensity(kind, *limits) if kind in ("percentiles", "limits") else Intensity(kind)
    except ConfigError as error:
        logger.warning("The setting intensity is not used: %s", error)
        return SegmentSettings().intensity


def _overlap_rule(name: str) -> OverlapRule:
    try:
        return OverlapRule(name)
    except ValueError:
        logger.warning("The setting overlap_rule cannot be %r.", name)
        return SegmentSettings().overlap_rule


@dataclass(frozen=True, slots=True)
class FileStore:
    """Settings in a file of their own."""

    path: Path

    @classmethod
    def of_user(cls) -> FileStore:
        """Return the file in the user's folder of settings."""
        return cls(platformdirs.user_config_path(PLUGIN, appauthor=False) / "segment.json")

    def load(self) -> SegmentSettings:
        """Return the settings; defaults for what is missing or cannot be used."""
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return SegmentSettings()
        except (OSError, ValueError) as error:
            logger.warning("The settings in %s cannot be read: %s", self.path, error)
            return SegmentSettings()
        if not isinstance(values, dict):
            logger.warning("The settings in %s are no table of names and values.", self.path)
            return SegmentSettings()
        return settings_of(values)

    def save(self, settings: SegmentSettings) -> None:
        """Keep settings; what fails costs a line in the log."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(self.path, overwrite=True) as temporary:
                temporary.write_text(json.dumps(flat_values(settings), indent=1), encoding="utf-8")
        except (OSError, FileFormatError) as error:
            logger.warning("The settings cannot be kept in %s: %s", self.path, error)


@dataclass(frozen=True, slots=True)
class NapariStore:
    """Settings among napari's preferences.

    Parameters
    ----------
    category : EventedModel
        ``get_plugin_settings(PLUGIN).segment``; napari writes its file when a value changes.
    """

    category: Any

    def load(self) -> SegmentSettings:
        """Return the settings; defaults for what is missing or cannot be used."""
        return settings_of(self.category.model_dump())

    def save(self, settings: SegmentSettings) -> None:
        """Keep settings; what fails costs a line in the log."""
        try:
            self.category.update(flat_values(settings))  # one event, and one writing
        except (OSError, ValueError) as error:
            logger.warning("The settings cannot be kept in napari's preferences: %s", error)


def settings_store() -> SettingsStore:
    """Return where this napari keeps the settings of plugins."""
    get_plugin_settings = getattr(napari.settings, "get_plugin_settings", None)
    if get_plugin_settings is None:
        return FileStore.of_user()
    try:
        return NapariStore(getattr(get_plugin_settings(PLUGIN), CATEGORY))
    except (KeyError, AttributeError):  # not installed with its manifest, or disabled
        logger.info("%s is no plugin of this napari; its settings have their own file.", PLUGIN)
    except (AssertionError, OSError, ValueError) as error:  # a settings file that is no table
        logger.warning("napari's settings of plugins cannot be read: %s", error)
    return FileStore.of_user()
