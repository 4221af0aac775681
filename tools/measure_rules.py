"""Measure what each rule of propagation gives: ``measure_rules.py FOLDER [--seed S] [--limit N]``.

The folder holds labelled volumes, as ``napari-slidesam evaluate`` takes them. N objects a volume
(4) are grown with the embedded network as it is and with one rule left out at a time (all of
them, or those of ``--rules NAME...``); the boxes' noise is drawn from the seed. A is every other
object of a volume, from the first, B the rest. The figures of ``docs/research.md`` are what it
prints, once for each seed.
"""

from __future__ import annotations

import argparse
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
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from napari_slidesam.evaluation.scores import ObjectScore

RULES: Mapping[str, PropagationConfig] = {
    "as it is": PropagationConfig(),
    "no outline look": PropagationConfig(outline_look=False),
    "outlines of prompted slices alone": PropagationConfig(slid_outline_weight=0.0),
    "no coarse look": PropagationConfig(coarse_look=False),
    "prompted slices seen once": PropagationConfig(refine_prompted=False),
    "no shapes interpolated": PropagationConfig(interpolate_shapes=False),
    "no masks handed on": PropagationConfig(carry_masks=False),
    "masks handed on at full confidence": PropagationConfig(carried_confidence=1.0),
    "best candidate alone": PropagationConfig(
        candidate_sharpness=1e6, consistency_weight=0.0, box_weight=0.0
    ),
    "ends beyond several prompts as certain": PropagationConfig(coarse_gap_doubt=0.0),
    "box margin 0.10": PropagationConfig(box_margin=0.10),
    "no presence of windows": PropagationConfig(min_presence=0.0, depth_doubt=0.0, gap_doubt=0.0),
}


def measure(
    folder: Path, rules: Sequence[str], protocols: Sequence[str], seed: int, limit_objects: int
) -> list[ObjectScore]:
    """Return the scores of some of `RULES`."""
    network = load_model("embedded")
    methods = [ModelMethod(Predictor(network), RULES[name], name) for name in rules]
    options = EvaluationOptions(limit_objects=limit_objects, seed=seed)
    return list(evaluate(find_cases(folder), methods, protocols, options))


def table(scores: Iterable[ObjectScore]) -> str:
    """Return means over volumes of each volume's mean Dice, of all objects and of both halves."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for score in scores:
        found[score.method, score.protocol][score.volume].append(score.dice)
    protocols = list(dict.fromkeys(protocol for _, protocol in found))
    head = [f"{protocol}{part}" for protocol in protocols for part in ("", ", A", ", B")]
    lines = [f"| | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    parts: tuple[Callable[[list[float]], list[float]], ...] = (
        lambda dice: dice,
        lambda dice: dice[::2],
        lambda dice: dice[1::2],
    )
    for name in dict.fromkeys(name for name, _ in found):
        cells = []
        for protocol in protocols:
            volumes = found[name, protocol].values()
            for part in parts:
                chosen = [part(dice) for dice in volumes if part(dice)]
                cells.append(f"{np.mean([np.mean(dice) for dice in chosen]):.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--protocols", nargs="*", default=["1-box", "5-box"])
    parser.add_argument("--rules", nargs="*", choices=list(RULES), default=list(RULES))
    given = parser.parse_args()
    scores = measure(given.folder, given.rules, given.protocols, given.seed, given.limit)
    print(table(scores))  # noqa: T201


if __name__ == "__main__":
    main()
