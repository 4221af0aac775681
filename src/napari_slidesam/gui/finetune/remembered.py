"""The settings of the next job, remembered from one start of napari to the next."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import platformdirs

from napari_slidesam.errors import FileFormatError
from napari_slidesam.gui.settings import PLUGIN
from napari_slidesam.io.atomic import replacing_file
from napari_slidesam.jobs.spec import FinetuneJob

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

_KEPT = (
    "model",
    "rank",
    "dropout",
    "train_encoder",
    "train_decoder",
    "epochs",
    "minutes",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "accumulate",
    "axes",
    "validation_share",
    "validation_boxes",
    "patience",
    "device",
    "precision",
    "gradient_checkpointing",
    "seed",
)
"""Name, pairs, labels and which slices are labelled are not: they belong to the data at hand."""


@dataclass(frozen=True, slots=True)
class RememberedJob:
    """A job's settings in a file of their own."""

    path: Path

    @classmethod
    def of_user(cls) -> RememberedJob:
        """Return the file in the user's folder of settings."""
        return cls(platformdirs.user_config_path(PLUGIN, appauthor=False) / "finetune.json")

    def load(self) -> FinetuneJob:
        """Return the settings; defaults for what is missing or cannot be used."""
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return FinetuneJob("")
        except (OSError, ValueError) as error:
            logger.warning("The settings in %s cannot be read: %s", self.path, error)
            return FinetuneJob("")
        if not isinstance(values, dict):
            logger.warning("The settings in %s are no table of names and values.", self.path)
            return FinetuneJob("")
        return _job_of(values)

    def save(self, job: FinetuneJob) -> None:
        """Keep settings; what fails costs a line in the log."""
        values = {name: value for name, value in asdict(job).items() if name in _KEPT}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing_file(self.path, overwrite=True) as temporary:
                temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
        except (OSError, FileFormatError) as error:
            logger.warning("The settings cannot be kept in %s: %s", self.path, error)


def _job_of(values: Mapping[str, Any]) -> FinetuneJob:
    """Return a job with each value that can be used."""
    defaults = asdict(FinetuneJob(""))
    used: dict[str, Any] = {}
    for name in _KEPT:
        value = values.get(name, defaults[name])
        if _is_usable(name, value, defaults[name]):
            used[name] = tuple(value) if name == "axes" else value
        else:
            logger.warning("The setting %s cannot be %r.", name, value)
    return replace(FinetuneJob(""), **used)


def _is_usable(name: str, value: Any, default: Any) -> bool:
    if name == "axes":
        is_list = isinstance(value, (list, tuple)) and bool(value)
        return is_list and all(axis in (0, 1, 2) for axis in value)
    if name == "minutes":
        return value is None or (_is_number(value) and value > 0)
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, str):
        return isinstance(value, str) and bool(value)
    if isinstance(default, int) and not isinstance(value, int):
        return False
    return _is_number(value) and value >= 0


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
