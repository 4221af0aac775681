"""Running methods over labelled volumes: a generator of scores, and a resumable folder run."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.cases import Case, CaseFiles, TrueObject, evenly_chosen, find_cases
from napari_slidesam.evaluation.methods import (
    BaselineMethod,
    Method,
    ModelSpec,
    Prediction,
    middle_slice,
)
from napari_slidesam.evaluation.plots import write_plots
from napari_slidesam.evaluation.protocols import BOX_JITTER, check_protocol, make_prompts
from napari_slidesam.evaluation.report import Summary, summarise, to_markdown
from napari_slidesam.evaluation.scores import ObjectScore, ScoreFile, agreement
from napari_slidesam.evaluation.settings import EvaluationOptions, check_settings
from napari_slidesam.io import replacing_file

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from napari_slidesam.prompts import ObjectPrompts

SCORES_NAME = "scores.csv"
REPORT_NAME = "report.md"
SETTINGS_NAME = "settings.json"


@dataclass(frozen=True, slots=True)
class _Task:
    """One method on one volume by one protocol: what one process does at a time."""

    files: CaseFiles
    method: Method | ModelSpec
    protocol: str
    options: EvaluationOptions
    done: frozenset[tuple[str, int, str, str, int]]


def evaluate(
    cases: Iterable[Case | CaseFiles],
    methods: Sequence[Method],
    protocols: Sequence[str],
    options: EvaluationOptions | None = None,
    done: Collection[tuple[str, int, str, str, int]] = (),
) -> Iterator[ObjectScore]:
    """Yield a score for each object, by each method and protocol that fit each other.

    Baselines need boxes, so they give no score by a protocol without any.

    Parameters
    ----------
    cases : iterable of Case or CaseFiles
        Files are read when their turn comes, one volume at a time.
    methods : sequence of Method
    protocols : sequence of str
    options : EvaluationOptions, optional
    done : collection of ObjectScore.key
        Scores that are there already and are not made again.

    Raises
    ------
    EvaluationError
        A protocol is unknown or a volume does not fit its labels.
    """
    options = options or EvaluationOptions()
    for protocol in protocols:
        check_protocol(protocol)
    for item in cases:
        case = item.load() if isinstance(item, CaseFiles) else item
        for protocol in protocols:
            for method in methods:
                yield from _scores(case, method, protocol, options, done)


def _scores(
    case: Case,
    method: Method,
    protocol: str,
    options: EvaluationOptions,
    done: Collection[tuple[str, int, str, str, int]],
) -> Iterator[ObjectScore]:
    asked: dict[int, tuple[TrueObject, ObjectPrompts]] = {}
    for truth in case.objects(options.limit_objects):
        if (case.name, truth.object_id, protocol, method.name, options.seed) in done:
            continue
        prompts = make_prompts(
            protocol,
            truth.mask,
            volume_name=case.name,
            object_id=truth.object_id,
            axis=case.axis,
            plane_shape_yx=case.plane_shape_yx,
            seed=options.seed,
            jitter=options.jitter,
        )
        if method.accepts(prompts):
            asked[truth.object_id] = (truth, prompts)
    if not asked:
        return
    for prediction in method.predict(case, [prompts for _, prompts in asked.values()]):
        truth, prompts = asked[prediction.object_id]
        yield _score(case, method.name, protocol, options, truth, prompts, prediction)


def _score(
    case: Case,
    method_name: str,
    protocol: str,
    options: EvaluationOptions,
    truth: TrueObject,
    prompts: ObjectPrompts,
    prediction: Prediction,
) -> ObjectScore:
    found = agreement(
        prediction.mask,
        truth.mask,
        spacing_syx=case.spacing_syx,
        middle_slice=middle_slice(prompts),
        tolerance=options.surface_tolerance,
    )
    return ObjectScore(
        volume=case.name,
        object=truth.object_id,
        protocol=protocol,
        method=method_name,
        seed=options.seed,
        modality=case.modality,
        seconds=prediction.seconds,
        predicted_quality=prediction.quality,
        stop_reasons=prediction.stop_reasons,
        **asdict(found),
    )


@lru_cache(maxsize=1)
def _loaded(files: CaseFiles) -> Case:
    return files.load()


def _run_task(task: _Task) -> list[ObjectScore]:
    return list(_stream_task(task))


def _stream_task(task: _Task) -> Iterator[ObjectScore]:
    method = task.method.build() if isinstance(task.method, ModelSpec) else task.method
    yield from _scores(_loaded(task.files), method, task.protocol, task.options, task.done)


class FolderEvaluation:
    """A run over a folder of labelled volumes that can be interrupted and taken up again.

    ``out_dir`` gets ``scores.csv``, one row as soon as it is known, and in the end
    ``report.md`` and plots. Rows that are in the file already are not made again.

    Parameters
    ----------
    folder : Path
        See `find_cases`.
    protocols : sequence of str
        See `PROTOCOLS`.
    methods : sequence of str
        Names of baselines.
    model : ModelSpec, optional
        The network to evaluate beside them.
    out_dir : Path
        Made where it is not there.
    seed, jitter, limit_objects, surface_tolerance
        See `EvaluationOptions`.
    workers : int
        Processes, each with a volume, a protocol and a method at a time.

    Raises
    ------
    EvaluationError
        The folder has no labelled volume, a name is unknown, an optional package is missing,
        or ``out_dir`` holds scores that were made otherwise.
    """

    def __init__(
        self,
        folder: Path,
        protocols: Sequence[str],
        methods: Sequence[str] = (),
        model: ModelSpec | None = None,
        *,
        out_dir: Path,
        seed: int = 0,
        jitter: float = BOX_JITTER,
        limit_objects: int | None = None,
        surface_tolerance: float | None = None,
        workers: int = 1,
    ) -> None:
        self.options = EvaluationOptions(seed, jitter, limit_objects, surface_tolerance)
        self.workers = workers
        self.out_dir = out_dir
        for protocol in protocols:
            check_protocol(protocol)
        self.protocols = tuple(dict.fromkeys(protocols))
        self._methods: list[Method | ModelSpec] = [
            BaselineMethod(name) for name in dict.fromkeys(methods)
        ]
        if model is not None:
            self._methods.append(model)
        if not self._methods or not self.protocols or workers < 1:
            raise EvaluationError(
                "An evaluation needs at least one method or model, one protocol and one worker; "
                f"got {list(methods)}, {model}, {list(protocols)} and {workers}."
            )
        self.cases = find_cases(folder)
        self._file = ScoreFile(out_dir / SCORES_NAME)
        has_scores = bool(self._file.scores)
        check_settings(out_dir / SETTINGS_NAME, self.options, model, has_scores)

    @property
    def n_objects(self) -> int | None:
        """Objects of all volumes; None where it is not known before reading the labels."""
        counts = [
            None if c.object_ids is None else len(evenly_chosen(c.object_ids, self._limit))
            for c in self.cases
        ]
        known = [n for n in counts if n is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def n_scores(self) -> int | None:
        """Scores that the whole run gives at most; None where it is not known yet.

        Baselines give none by a protocol without boxes.
        """
        count = self.n_objects
        return None if count is None else count * len(self._methods) * len(self.protocols)

    @property
    def finished(self) -> tuple[ObjectScore, ...]:
        """All rows of ``scores.csv`` so far."""
        return tuple(self._file.scores)

    @property
    def _limit(self) -> int | None:
        return self.options.limit_objects

    def scores(self) -> Iterator[ObjectScore]:
        """Yield the scores that are still missing, each already on disk."""
        done = frozenset(score.key for score in self._file.scores)
        tasks = [
            _Task(files, method, protocol, self.options, done)
            for files in self.cases
            for protocol in self.protocols
            for method in self._methods
        ]
        for score in self._run(tasks):
            self._file.append(score)
            yield score

    def finish(self) -> Summary:
        """Write report and plots of all rows so far and return their summary.

        Raises
        ------
        EvaluationError
            There is no row.
        FileFormatError
            A file cannot be written.
        """
        summary = summarise(self._file.scores)
        with replacing_file(self.out_dir / REPORT_NAME, overwrite=True) as partial:
            partial.write_text(to_markdown(summary), encoding="utf-8")
        write_plots(self._file.scores, summary, self.out_dir)
        return summary

    def _run(self, tasks: list[_Task]) -> Iterator[ObjectScore]:
        if self.workers == 1:
            for task in tasks:
                yield from _stream_task(task)
            return
        # Spawned: a forked process must not use the threads or the CUDA context of its parent.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(min(self.workers, len(tasks)), mp_context=context)
        try:
            for future in as_completed([executor.submit(_run_task, task) for task in tasks]):
                yield from future.result()
        finally:
            executor.shutdown(cancel_futures=True)


def evaluate_folder(
    folder: Path,
    protocols: Sequence[str],
    methods: Sequence[str] = (),
    model: ModelSpec | None = None,
    *,
    out_dir: Path,
    seed: int = 0,
    jitter: float = BOX_JITTER,
    limit_objects: int | None = None,
    surface_tolerance: float | None = None,
    workers: int = 1,
) -> Summary:
    """Evaluate a folder, write ``scores.csv``, ``report.md`` and plots, return the summary.

    The parameters are those of `FolderEvaluation`, which yields the scores as they come.
    """
    run = FolderEvaluation(
        folder,
        protocols,
        methods,
        model,
        out_dir=out_dir,
        seed=seed,
        jitter=jitter,
        limit_objects=limit_objects,
        surface_tolerance=surface_tolerance,
        workers=workers,
    )
    for _ in run.scores():
        pass
    return run.finish()
