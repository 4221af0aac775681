"""Validation of a network in training: real propagation from boxes on what is held out.

The protocol is that of `napari_slidesam.evaluation`: boxes with the same jitter on the same
slices, so Dice here and in an evaluation mean the same. So that a validation takes seconds, only
some objects are taken, and of a long one only the slices near its boxes. Where there are few
objects chance would decide, so each is segmented three times, from boxes in different places.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.evaluation.cases import MIN_PLANE_SHARE, MIN_SLICES, Case, label_boxes
from napari_slidesam.evaluation.methods import ModelMethod
from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.evaluation.protocols import check_protocol, make_prompts
from napari_slidesam.evaluation.scores import ERROR_PREFIX
from napari_slidesam.metrics import dice
from napari_slidesam.tuning.task import ValidationReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from napari_slidesam.evaluation.methods import Prediction
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.volume import Volume

logger = logging.getLogger(__name__)

MAX_OBJECTS = 8
"""Objects of one validation; with the embedded network about 10 s on one core."""

FEW_OBJECTS = 3
"""So many, or fewer, are looked at three times each."""

REACH_SLICES = 24
"""Slices beyond the outer boxes that are grown and compared."""

_FEWEST_SLICES = 3

_LOOKS = ((0.0, 1.0), (0.0, 0.5), (0.5, 1.0))
"""The parts of an object's slices that its boxes are spread over: the first is the evaluation's;
one box is in the middle, then at a quarter and at three quarters."""


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """One slice of what is held out, as the network sees it now.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X)
        Stored values.
    truth, found : ndarray of bool, shape (Y, X)
        The objects that are validated, together.
    title : str
    """

    image: NDArray[np.float32]
    truth: NDArray[np.bool_]
    found: NDArray[np.bool_]
    title: str


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What is not trained on, in memory; made by `held_out`.

    Parameters
    ----------
    case : Case
        Its objects are those worth a box. Two may share a name: parts of one volume.
    labelled : ndarray of bool, shape (Z,)
        Which slices along z are compared.
    """

    case: Case
    labelled: NDArray[np.bool_]

    def compared(self, mask: PlacedMask, reach: tuple[int, int]) -> PlacedMask:
        """Return the part of a mask on labelled slices within a range of the sliding axis."""
        part = _cut(mask, reach)
        if not part.mask.size or self.labelled.all():
            return part
        axis_of_z = 0 if self.case.axis == 0 else 1
        start = part.start_syx[axis_of_z]
        flags = self.labelled[start : start + part.mask.shape[axis_of_z]]
        shape = (-1, 1, 1) if axis_of_z == 0 else (1, -1, 1)
        return PlacedMask.from_array(part.mask & flags.reshape(shape), start_syx=part.start_syx)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """An object of a case with its prompts and the slices that are compared."""

    source: HeldOut
    object_id: int
    look: int
    truth: PlacedMask
    prompts: ObjectPrompts
    reach: tuple[int, int]

    @property
    def case(self) -> Case:
        return self.source.case

    @property
    def key(self) -> str:
        return f"{self.case.name}/{self.object_id}"


class PropagationValidator:
    """Validates a network on what is held out; see `napari_slidesam.tuning.task.Validate`.

    Parameters
    ----------
    sources : sequence of HeldOut
    boxes : int
        Prompted slices an object: 1, 3 or 5.
    seed : int
        Of the box jitter.
    config : PropagationConfig, optional
    max_objects : int
        Evenly chosen among all objects.
    reach_slices : int
        Slices beyond the outer boxes that are grown and compared.
    few_objects : int
        So many, or fewer, are segmented three times each; 0: never.

    Raises
    ------
    EvaluationError
        There is no protocol with so many boxes.
    """

    def __init__(
        self,
        sources: Sequence[HeldOut],
        *,
        boxes: int = 1,
        seed: int = 0,
        config: PropagationConfig | None = None,
        max_objects: int = MAX_OBJECTS,
        reach_slices: int = REACH_SLICES,
        few_objects: int = FEW_OBJECTS,
    ) -> None:
        self._protocol = f"{boxes}-box"
        check_protocol(self._protocol)
        self._config = replace(config or PropagationConfig(), max_extent_slices=reach_slices)
        self._asked = self._choose(sources, seed, max_objects, few_objects)
        self.preview: Preview | None = None
        """A slice as the last call found it; None before, or where there is no object."""

    @property
    def n_objects(self) -> int:
        """Objects of one validation; without any, there is nothing to validate on."""
        return sum(a.look == 0 for a in self._asked)

    @property
    def n_windows(self) -> int:
        """Windows that a network answers in one validation where it finds just the objects."""
        anchors = sum(len(a.prompts.anchor_slices) for a in self._asked)
        return anchors + sum(len(a.truth.slice_indices) for a in self._asked)

    def __call__(self, model: nn.Module, step: int) -> ValidationReport:
        """Return Dice by object and set `preview`."""
        started = time.perf_counter()
        was_training = model.training
        model.eval()
        try:
            found = self._predict(model)
        finally:
            model.train(was_training)
        scores: dict[str, list[float]] = defaultdict(list)
        for asked, prediction in zip(self._asked, found, strict=True):
            cut = asked.source.compared(prediction.mask, asked.reach)
            scores[asked.key].append(dice(*cut.on_common_grid(asked.truth)))
        by_label = {name: float(np.mean(values)) for name, values in scores.items()}
        mean = float(np.mean(list(by_label.values()))) if by_label else 0.0
        self.preview = self._preview(found)
        return ValidationReport(step, mean, by_label, time.perf_counter() - started)

    def _choose(self, sources: Sequence[HeldOut], seed: int, limit: int, few: int) -> list[_Asked]:
        candidates = [(k, i) for k, s in enumerate(sources) for i in s.case.object_ids or ()]
        n = min(limit, len(candidates))
        looks = range(len(_LOOKS) if n <= few else 1)
        chosen: dict[int, list[int]] = defaultdict(list)
        for k in range(n):
            place, object_id = candidates[int((k + 0.5) * len(candidates) / n)]
            chosen[place].append(object_id)
        asked = []
        for place, ids in chosen.items():
            case = replace(sources[place].case, object_ids=tuple(ids))
            asked += [
                self._ask(sources[place], one.object_id, one.mask, seed, look)
                for one in case.objects()
                for look in looks
            ]
        return asked

    def _ask(
        self, source: HeldOut, object_id: int, mask: PlacedMask, seed: int, look: int
    ) -> _Asked:
        case = source.case
        whole = source.compared(mask, (0, case.volume.shape_zyx[case.axis]))
        prompts = make_prompts(
            self._protocol,
            _cut(whole, _part(whole.slice_indices, _LOOKS[look])),
            volume_name=case.name,
            object_id=object_id,
            axis=case.axis,
            plane_shape_yx=case.plane_shape_yx,
            seed=seed,
        )
        slices, extent = prompts.anchor_slices, self._config.max_extent_slices
        assert extent is not None, "it is set above"
        reach = (slices[0] - extent, slices[-1] + extent + 1)
        return _Asked(source, object_id, look, source.compared(mask, reach), prompts, reach)

    def _predict(self, model: nn.Module) -> list[Prediction]:
        """Return the predictions in the order of what is asked."""
        # Anew each time: its embeddings are those of the weights as they are now.
        method = ModelMethod(Predictor(model), self._config)  # type: ignore[arg-type]
        found: dict[tuple[int, int, int], Prediction] = {}
        for case, look in {(id(a.case), a.look): (a.case, a.look) for a in self._asked}.values():
            prompts = [a.prompts for a in self._asked if a.case is case and a.look == look]
            for prediction in method.predict(case, prompts):
                if prediction.stop_reasons.startswith(ERROR_PREFIX):
                    logger.warning("validation of %s: %s", case.name, prediction.stop_reasons)
                found[id(case), look, prediction.object_id] = prediction
        return [found[id(a.case), a.look, a.object_id] for a in self._asked]

    def _preview(self, found: Sequence[Prediction]) -> Preview | None:
        if not self._asked:
            return None
        case, index = self._preview_slice()
        shape = case.plane_shape_yx
        truth, grown = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        for asked, prediction in zip(self._asked, found, strict=True):
            if asked.case is case and asked.look == 0:
                truth |= _full_plane(asked.truth, index, shape)
                grown |= _full_plane(prediction.mask, index, shape)
        image = case.volume.along(case.axis).read(index)
        return Preview(image, truth, grown, f"{case.name}, slice {index}")

    def _preview_slice(self) -> tuple[Case, int]:
        """Return the slice with most of the objects that no box is on, always the same."""
        case = self._asked[0].case
        here = [a for a in self._asked if a.case is case and a.look == 0]
        prompted = {i for a in here for i in a.prompts.anchor_slices}
        counts: dict[int, int] = defaultdict(int)
        for asked in here:
            for index in asked.truth.slice_indices:
                counts[index] += 1 if index in prompted else 2
        best = max(counts.values())
        tied = [i for i in sorted(counts) if counts[i] == best]
        return case, tied[len(tied) // 4]


def held_out(
    name: str,
    volume: Volume,
    labels_zyx: NDArray[Any],
    axis: int,
    labels: Sequence[int] | None = None,
    labelled: NDArray[np.bool_] | None = None,
) -> HeldOut:
    """Return what is held out, with the labels that are worth a box.

    They cover at least 0.14 % of the slice on 8 labelled slices, or on half of them where few
    are held out.

    Parameters
    ----------
    name : str
    volume : Volume
    labels_zyx : ndarray of int, shape of the volume
    axis : int
        The axis to slide along.
    labels : sequence of int, optional
        Those that are trained on; None: all.
    labelled : ndarray of bool, shape (Z,), optional
        Which slices along z are compared; None: all.
    """
    flags = np.ones(labels_zyx.shape[0], dtype=np.bool_) if labelled is None else labelled
    labels_zyx = np.where(flags[:, np.newaxis, np.newaxis], labels_zyx, 0)
    labels_syx = np.moveaxis(labels_zyx, axis, 0)
    n_slices = int(flags.sum()) if axis == 0 else len(labels_syx)
    needed = min(MIN_SLICES, max(_FEWEST_SLICES, n_slices // 2))
    least = MIN_PLANE_SHARE * labels_syx.shape[1] * labels_syx.shape[2]
    ids = []
    for label, box in label_boxes(labels_syx).items():
        if labels is not None and label not in labels:
            continue
        areas = np.count_nonzero(labels_syx[box] == label, axis=(1, 2))
        if np.count_nonzero(areas >= least) >= needed:
            ids.append(label)
    return HeldOut(Case(name, volume, labels_zyx, axis, tuple(ids)), flags)


def _cut(mask: PlacedMask, reach: tuple[int, int]) -> PlacedMask:
    """Return the part of a mask on the slices of a half-open range."""
    first = mask.start_syx[0]
    start, stop = max(reach[0] - first, 0), max(reach[1] - first, 0)
    part = mask.mask[start:stop]
    return PlacedMask.from_array(part, start_syx=(first + start, *mask.start_syx[1:]))


def _part(slices: tuple[int, ...], share: tuple[float, float]) -> tuple[int, int]:
    """Return the first and the stop of a part of an object's slices, at least one of them."""
    start, stop = (int(s * len(slices)) for s in share)
    return slices[start], slices[max(stop, start + 1) - 1] + 1


def _full_plane(mask: PlacedMask, index: int, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    plane = mask.plane(index)
    full = np.zeros(shape_yx, dtype=bool)
    if plane.mask.size:
        full[plane.box[1:]] = plane.mask[0]
    return full
