"""What is evaluated: baselines and models behind one interface."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.objects import PlaneMask
from napari_slidesam.errors import CheckpointError, SlideSamError
from napari_slidesam.evaluation.baselines import get_baseline
from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.evaluation.scores import ERROR_PREFIX, stops_text
from napari_slidesam.evaluation.tracing import BoxTask
from napari_slidesam.model.adapter_folder import WEIGHTS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_slidesam.engine.predictor import Predictor
    from napari_slidesam.engine.results import SliceResult
    from napari_slidesam.evaluation.cases import Case
    from napari_slidesam.prompts import ObjectPrompts


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a method made of one object's prompts.

    Parameters
    ----------
    object_id : int
    mask : PlacedMask
        Empty where the method failed.
    seconds : float
        Wall time.
    quality : float
        The method's own estimate on the middle prompted slice; NaN without one.
    stop_reasons : str
        As in `ObjectScore`.
    """

    object_id: int
    mask: PlacedMask
    seconds: float
    quality: float = math.nan
    stop_reasons: str = ""


class Method(Protocol):
    """Segments the objects of a labelled volume from prompts."""

    @property
    def name(self) -> str:
        """Names the method in reports."""

    def accepts(self, prompts: ObjectPrompts) -> bool:
        """Whether the method can start from these prompts."""

    def predict(self, case: Case, prompts: Sequence[ObjectPrompts]) -> Iterator[Prediction]:
        """Yield one prediction an object, in any order; errors become predictions."""


@dataclass(frozen=True, slots=True)
class BaselineMethod:
    """A baseline by name; it starts from boxes only.

    Raises
    ------
    EvaluationError
        There is no such baseline, or an optional package that it needs is missing.
    """

    name: str

    def __post_init__(self) -> None:
        get_baseline(self.name).check_available()

    def accepts(self, prompts: ObjectPrompts) -> bool:
        """Whether there is a box."""
        return bool(prompts.boxes)

    def predict(self, case: Case, prompts: Sequence[ObjectPrompts]) -> Iterator[Prediction]:
        """Yield one prediction an object."""
        baseline = get_baseline(self.name)
        image_zyx = case.image_zyx
        for one in prompts:
            start = time.perf_counter()
            try:
                task = BoxTask.from_prompts(image_zyx, case.volume.spacing_zyx, one)
                trace = baseline.trace(task)
            except SlideSamError as error:
                yield failed(one.object_id, error, time.perf_counter() - start)
                continue
            seconds = time.perf_counter() - start
            mask = PlacedMask.from_planes(trace.planes)
            yield Prediction(one.object_id, mask, seconds, stop_reasons=stops_text(trace.stops))


@dataclass(frozen=True, slots=True, eq=False)
class ModelMethod:
    """A network behind a predictor, propagated through the volume.

    Parameters
    ----------
    predictor : Predictor
    config : PropagationConfig
    name : str
        Names the method in reports.
    batch_objects : bool
        All objects of a volume in one run; each is given its share of the time. Where that
        run fails, the objects are run one by one, so that the others do not fail with it.
    """

    predictor: Predictor
    config: PropagationConfig = field(default_factory=PropagationConfig)
    name: str = "model"
    batch_objects: bool = True

    def accepts(self, prompts: ObjectPrompts) -> bool:
        """Any prompts will do."""
        return True

    def predict(self, case: Case, prompts: Sequence[ObjectPrompts]) -> Iterator[Prediction]:
        """Yield one prediction an object."""
        if self.batch_objects and len(prompts) > 1:
            try:
                together = self._run(case, prompts)
            except SlideSamError:
                together = None
            if together is not None:
                yield from together
                return
        for one in prompts:
            start = time.perf_counter()
            try:
                (prediction,) = self._run(case, [one])
            except SlideSamError as error:
                prediction = failed(one.object_id, error, time.perf_counter() - start)
            yield prediction

    def _run(self, case: Case, prompts: Sequence[ObjectPrompts]) -> list[Prediction]:
        from napari_slidesam.engine.propagation import propagate

        start = time.perf_counter()
        collected = {one.object_id: _Collected() for one in prompts}
        for result in propagate(self.predictor, case.volume, prompts, self.config):
            collected[result.object_id].add(result)
        seconds = (time.perf_counter() - start) / len(prompts)
        return [
            collected[one.object_id].prediction(one.object_id, middle_slice(one), seconds)
            for one in prompts
        ]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What makes a `ModelMethod`; unlike it, cheap to send to another process.

    Parameters
    ----------
    name_or_path : str
        A network's name, or the path of a weights file.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    config : PropagationConfig
    batch_objects : bool
        As for `ModelMethod`.
    adapter : Path, optional
        Folder of a LoRA adapter that is put on the network.
    """

    name_or_path: str = "embedded"
    device: str = "auto"
    config: PropagationConfig = field(default_factory=PropagationConfig)
    batch_objects: bool = True
    adapter: Path | None = None

    @property
    def name(self) -> str:
        """Names the method in reports: the network's name or the file's without its ending.

        With ``+`` and the adapter's folder where there is one.
        """
        network = Path(self.name_or_path).stem
        return network if self.adapter is None else f"{network}+{self.adapter.resolve().name}"

    def build(self) -> ModelMethod:
        """Load the network; the last one loaded is kept.

        Raises
        ------
        CheckpointError
            There is no such network, or its file is corrupt or foreign.
        DeviceError
            The device is not there.
        """
        return _built(self)

    def fingerprint(self) -> dict[str, Any]:
        """Return what its results depend on: the propagation options and the weights' digest.

        Raises
        ------
        CheckpointError
            There is no such network.
        """
        from napari_slidesam.model.library import ModelLibrary

        with ModelLibrary().resolve(self.name_or_path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        facts = {"config": self.config.to_dict(), "sha256": digest}
        if self.adapter is not None:
            weights = self.adapter / WEIGHTS_FILE
            try:
                facts["adapter sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
            except OSError as error:
                raise CheckpointError(
                    f"An adapter is a folder with {WEIGHTS_FILE}; {self.adapter} cannot be "
                    f"read ({error.strerror}). Give the folder that 'finetune' wrote."
                ) from error
        return facts


@lru_cache(maxsize=1)
def _built(spec: ModelSpec) -> ModelMethod:
    # Imported here: torch takes seconds to load and baselines do without.
    from napari_slidesam.engine.predictor import Predictor
    from napari_slidesam.model.registry import load_model

    model = load_model(spec.name_or_path, spec.device, adapter=spec.adapter)
    return ModelMethod(Predictor(model), spec.config, spec.name, spec.batch_objects)


@dataclass(slots=True)
class _Collected:
    """The last result of each slice of one object."""

    last: dict[int, SliceResult] = field(default_factory=dict)

    def add(self, result: SliceResult) -> None:
        self.last[result.slice_index] = result

    def prediction(self, object_id: int, middle: int, seconds: float) -> Prediction:
        planes = {
            index: PlaneMask(result.region, result.mask)
            for index, result in self.last.items()
            if result.mask.any()
        }
        there = self.last.get(middle)
        return Prediction(
            object_id,
            PlacedMask.from_planes(planes),
            seconds,
            there.quality.predicted_iou if there is not None else math.nan,
            stops_text(stop for result in self.last.values() for stop in result.stops),
        )


def middle_slice(prompts: ObjectPrompts) -> int:
    """Return the middle one of the slices with a positive prompt."""
    return prompts.anchor_slices[len(prompts.anchor_slices) // 2]


def failed(object_id: int, error: SlideSamError, seconds: float) -> Prediction:
    """Return the empty prediction of a method that raised an error."""
    return Prediction(
        object_id,
        PlacedMask.from_planes({}),
        seconds,
        stop_reasons=f"{ERROR_PREFIX}{type(error).__name__}: {error}",
    )
