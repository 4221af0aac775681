"""Measure how well the network knows itself: ``measure_scores.py FOLDER [LIMIT]``.

The folder holds labelled volumes, as ``napari-slidesam evaluate`` takes them; LIMIT objects of
each (8 without it) are grown from one box. Of every window that sliding asks for on the way, the
predicted IoU is compared with the true one of its three slices, and each presence score with
whether the object is there. The figures of ``docs/models.md`` are what it prints: the
correlation over all windows, and the mean of those of each volume, in which volumes differ from
one another no more.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_slidesam.engine.predictor import CENTRE, Predictor
from napari_slidesam.engine.propagation import propagate
from napari_slidesam.engine.proposal import Proposal
from napari_slidesam.evaluation.cases import find_cases
from napari_slidesam.evaluation.protocols import make_prompts
from napari_slidesam.metrics import iou
from napari_slidesam.model.protocol import CoarseModel
from napari_slidesam.model.registry import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.engine.predictor import PlanePrediction, WindowRequest
    from napari_slidesam.evaluation.cases import Case, TrueObject
    from napari_slidesam.prompts import BoxPrompt

Pair = tuple[float, float]
"""A score and what is true."""


class Listening(Predictor):
    """A predictor that keeps what it was asked and what it answered."""

    heard: list[tuple[WindowRequest, PlanePrediction]]

    def predict(
        self, requests: Sequence[WindowRequest], ahead: Sequence[WindowRequest] = ()
    ) -> Iterator[tuple[int, PlanePrediction]]:
        """Predict, and note."""
        for i, prediction in super().predict(requests, ahead):
            self.heard.append((requests[i], prediction))
            yield i, prediction


@dataclass(slots=True)
class Scores:
    """Pairs of one volume."""

    finished: list[Pair] = field(default_factory=list)
    score: list[Pair] = field(default_factory=list)
    iou: list[Pair] = field(default_factory=list)
    presence: list[Pair] = field(default_factory=list)
    coarse: list[Pair] = field(default_factory=list)


def measure(folder: Path, limit: int = 8, model: str = "embedded") -> dict[str, Scores]:
    """Return the pairs of each volume."""
    predictor = Listening(load_model(model))
    found: dict[str, Scores] = {}
    for files in find_cases(folder):
        case = files.load()
        scores = found.setdefault(case.name, Scores())
        for truth in case.objects(limit):
            _listen(predictor, case, truth, scores)
    return found


def _listen(predictor: Listening, case: Case, truth: TrueObject, scores: Scores) -> None:
    prompts = make_prompts(
        "1-box",
        truth.mask,
        volume_name=case.name,
        object_id=truth.object_id,
        axis=case.axis,
        plane_shape_yx=case.plane_shape_yx,
    )
    predictor.heard = []
    results = [r for r in propagate(predictor, case.volume, [prompts]) if r.is_final]
    true = truth.mask.to_array(case.volume.shape_zyx, case.axis)
    planes = np.moveaxis(true, case.axis, 0)
    for result in results:
        mask = np.zeros(planes.shape[1:], dtype=bool)
        mask[result.region.slices] = result.mask
        true_iou = iou(mask, planes[result.slice_index])
        scores.finished.append((result.quality.predicted_iou, true_iou))
        scores.score.append((result.quality.score, true_iou))
    for request, prediction in predictor.heard:
        both = either = 0
        for offset, patch, presence in zip(
            (-1, 0, 1), prediction.patches, prediction.presence, strict=True
        ):
            index = int(request.position) + offset
            if not 0 <= index < len(planes):
                continue
            scores.presence.append((presence, float(planes[index].any())))
            there = planes[index][patch.region.slices]
            both += int((patch.mask & there).sum())
            either += int(patch.mask.sum() + planes[index].sum()) - int((patch.mask & there).sum())
        scores.iou.append((prediction.predicted_iou, both / max(1, either)))
    scores.coarse += _looked(predictor, prompts.boxes[0], planes)


def _looked(predictor: Listening, prompt: BoxPrompt, planes: NDArray[np.bool_]) -> list[Pair]:
    """Return what a look from the prompted slice says of the slices around it."""
    model = predictor.model
    answers = [p for r, p in predictor.heard if r.position == prompt.slice_index]
    if not isinstance(model, CoarseModel):
        return []
    known = {prompt.slice_index: answers[-1].patches[CENTRE]}
    slices = predictor.heard[0][0].slices
    proposal = Proposal.of(
        model.coarse, slices, prompt.slice_index, prompt.box, known, lambda: False
    )
    assert proposal is not None, "nobody cancels it"
    return [
        (proposal.presence_on(i), float(plane.any()))
        for i, plane in enumerate(planes)
        if proposal.covers(i)
    ]


def correlation(pairs: Sequence[Pair]) -> float:
    """Return Pearson's correlation; NaN where either side is always the same."""
    scores, truths = np.array(pairs, dtype=float).reshape(-1, 2).T
    if len(pairs) < 2 or np.ptp(scores) == 0 or np.ptp(truths) == 0:
        return float("nan")
    return float(np.corrcoef(scores, truths)[0, 1])


def table(found: dict[str, Scores]) -> str:
    """Return the correlations as Markdown."""
    lines = ["| score | pairs | over all | mean over volumes |", "|---|---|---|---|"]
    for name, part in (
        ("predicted IoU of a finished slice", "finished"),
        ("score of a finished slice", "score"),
        ("predicted IoU of a window, network alone", "iou"),
        ("presence on a slice of a window", "presence"),
        ("presence, coarse look", "coarse"),
    ):
        each = [getattr(scores, part) for scores in found.values()]
        everything = [pair for pairs in each for pair in pairs]
        of_volumes = np.nanmean([correlation(pairs) for pairs in each])
        overall = correlation(everything)
        lines.append(f"| {name} | {len(everything)} | {overall:.2f} | {of_volumes:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    limit_objects = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    print(table(measure(Path(sys.argv[1]), limit_objects)))  # noqa: T201
