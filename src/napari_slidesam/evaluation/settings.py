"""How an evaluation is made, and the note of it beside the scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.protocols import BOX_JITTER
from napari_slidesam.io import replacing_file

if TYPE_CHECKING:
    from pathlib import Path

    from napari_slidesam.evaluation.methods import ModelSpec


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How prompts are made and masks are compared.

    Parameters
    ----------
    seed : int
        Of the box jitter; not negative.
    jitter : float
        Standard deviation of each box coordinate, as a share of the box's side.
    limit_objects : int, optional
        At most so many objects a volume, evenly chosen.
    surface_tolerance : float, optional
        Of the surface Dice, in the unit of the spacing; the volume's largest spacing without.

    Raises
    ------
    EvaluationError
        A value is out of its range.
    """

    seed: int = 0
    jitter: float = BOX_JITTER
    limit_objects: int | None = None
    surface_tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise EvaluationError(f"seed is not negative; got {self.seed}.")
        if not 0 <= self.jitter <= 1:
            raise EvaluationError(f"jitter is a share between 0 and 1; got {self.jitter}.")
        if self.limit_objects is not None and self.limit_objects < 1:
            raise EvaluationError(f"limit_objects is at least 1; got {self.limit_objects}.")
        if self.surface_tolerance is not None and not self.surface_tolerance >= 0:
            raise EvaluationError(
                f"surface_tolerance is not negative; got {self.surface_tolerance}."
            )


def check_settings(
    path: Path, options: EvaluationOptions, model: ModelSpec | None, has_scores: bool
) -> None:
    """Note how scores are made; refuse to mix them with scores made otherwise.

    Parameters
    ----------
    path : Path
        The JSON file of settings.
    options : EvaluationOptions
    model : ModelSpec, optional
    has_scores : bool
        There are scores already, made with what the file says.

    Raises
    ------
    EvaluationError
        The settings differ from the file's, or it cannot be read.
    FileFormatError
        It cannot be written.
    """
    now = _settings(options, model)
    before = _read(path) if has_scores and path.exists() else {}
    for name, value in now.items():
        if before.get(name, value) != value:
            raise EvaluationError(
                f"{path.parent} holds scores made with {name} = {before[name]!r}, now it is "
                f"{value!r}. Choose another output folder, or remove the scores from this one."
            )
    with replacing_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps({**before, **now}, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"{path} cannot be read: {error}. Choose another output folder."
        ) from error


def _settings(options: EvaluationOptions, model: ModelSpec | None) -> dict[str, Any]:
    """Return what two runs must share for their rows to stand in one table."""
    settings: dict[str, Any] = {
        "jitter": options.jitter,
        "surface_tolerance": options.surface_tolerance,
    }
    if model is not None:
        settings[f"model {model.name}"] = model.fingerprint()
    return settings
