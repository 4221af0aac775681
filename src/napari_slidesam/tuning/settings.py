"""Changing one setting of a training run by its name, as the command line gives it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from napari_slidesam.errors import TuningError

if TYPE_CHECKING:
    from napari_slidesam.tuning.click_config import ClickTraining
    from napari_slidesam.tuning.coarse_config import CoarseTraining
    from napari_slidesam.tuning.coarse_crops import DrawConfig
    from napari_slidesam.tuning.embedded_config import EmbeddedConfig
    from napari_slidesam.tuning.outline_config import OutlineTraining

Config = TypeVar("Config", "EmbeddedConfig", "CoarseTraining", "ClickTraining", "OutlineTraining")
Settings = TypeVar(
    "Settings",
    "EmbeddedConfig",
    "CoarseTraining",
    "ClickTraining",
    "OutlineTraining",
    "DrawConfig",
)


def changed(config: Settings, setting: str) -> Settings:
    """Return the config with one setting changed.

    Parameters
    ----------
    config : EmbeddedConfig, CoarseTraining, ClickTraining, OutlineTraining or DrawConfig
    setting : str
        ``name=value``, or ``part.name=value`` for settings that have parts, such as ``augment``;
        the value is JSON.

    Raises
    ------
    TuningError
        There is no such setting, or the value is no JSON.
    """
    name, _, text = setting.partition("=")
    try:
        value = json.loads(text)
        value = tuple(value) if isinstance(value, list) else value
        part, dot, inner = name.partition(".")
        if dot:
            value = replace(getattr(config, part), **{inner: value})
        return replace(config, **{part: value})
    except (ValueError, TypeError, AttributeError) as error:
        raise TuningError(f"{setting!r} is no setting of the training: {error}.") from error
