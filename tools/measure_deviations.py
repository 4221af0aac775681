"""Measure the published predictor's quirks: ``measure_deviations.py FOLDER [PROTOCOL ...]``.

The folder holds labelled volumes, as ``napari-slidesam evaluate`` takes them. Each quirk alone
and all together are measured with the embedded network, three objects a volume; the figures of
``docs/deviations.md`` are what it prints.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.evaluation.cases import find_cases
from napari_slidesam.evaluation.methods import ModelMethod
from napari_slidesam.evaluation.run import evaluate
from napari_slidesam.evaluation.settings import EvaluationOptions
from napari_slidesam.model.registry import load_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_slidesam.evaluation.scores import ObjectScore

UNGUARDED = PropagationConfig(
    min_presence=0.0,
    min_likeness=-9.0,
    depth_doubt=0.0,
    max_area_ratio=1e9,
    max_centroid_shift=1e9,
)

CONFIGS: Mapping[str, PropagationConfig] = {
    "default": PropagationConfig(),
    "published": PropagationConfig(compat="published"),
    "min-max": PropagationConfig(compat="min-max"),
    "nearest-resize": PropagationConfig(compat="nearest-resize"),
    "inclusive-boxes": PropagationConfig(compat="inclusive-boxes"),
    "lopsided-margin": PropagationConfig(compat="lopsided-margin"),
    "union": PropagationConfig(compat="union"),
    "opened-masks": PropagationConfig(compat="opened-masks"),
    "union, lone-prompts": PropagationConfig(compat="union,lone-prompts"),
    "thresholds, window-stability": PropagationConfig(
        min_predicted_iou=0.5, stability_offset=1.0, compat="window-stability"
    ),
    "best candidate alone": PropagationConfig(
        candidate_sharpness=1e6, consistency_weight=0.0, box_weight=0.0
    ),
    "no masks handed on": PropagationConfig(carry_masks=False),
    "no coarse look": PropagationConfig(coarse_look=False),
    "no other guards": UNGUARDED,
}


def measure(
    folder: Path,
    protocols: Sequence[str] = ("1-box", "5-box"),
    configs: Mapping[str, PropagationConfig] = CONFIGS,
    limit_objects: int | None = 3,
    model: str = "embedded",
) -> list[ObjectScore]:
    """Return the scores of all configs."""
    network = load_model(model)
    methods = [ModelMethod(Predictor(network), config, name) for name, config in configs.items()]
    options = EvaluationOptions(limit_objects=limit_objects)
    return list(evaluate(find_cases(folder), methods, protocols, options))


def table(scores: Iterable[ObjectScore]) -> str:
    """Return the mean over volumes of each volume's mean Dice, as Markdown."""
    dice: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for score in scores:
        dice[score.method][score.protocol][score.volume].append(score.dice)
    protocols = list(dict.fromkeys(p for found in dice.values() for p in found))
    lines = [f"| | {' | '.join(protocols)} |", "|---" * (1 + len(protocols)) + "|"]
    for method, found in dice.items():
        means = [np.mean([np.mean(d) for d in found[p].values()]) for p in protocols]
        lines.append(f"| {method} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(table(measure(Path(sys.argv[1]), sys.argv[2:] or ("1-box", "5-box"))))  # noqa: T201
