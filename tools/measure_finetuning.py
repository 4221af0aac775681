"""Measure what a short fine-tuning on a CPU gives: ``measure_finetuning.py FOLDER -o RUNS``.

The folder holds labelled volumes, as ``napari-slidesam evaluate`` takes them. The slices of each
that hold an object worth a box are cut in three: the network is fine-tuned on two thirds, and
Dice from one box an object is measured on the last third before and after. What is kept is chosen
on a slab inside the two thirds; the last third is looked at only in the end. A volume that is in
RUNS already is not trained on again. The table goes to standard output, and with ``--docs`` into a
document between the lines ``<!-- measured -->`` and ``<!-- /measured -->``.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.cases import Case, find_cases
from napari_slidesam.evaluation.methods import ModelMethod
from napari_slidesam.evaluation.run import evaluate
from napari_slidesam.evaluation.settings import EvaluationOptions
from napari_slidesam.jobs.events import DataChecked, Finished, Stepped
from napari_slidesam.jobs.run import run_job
from napari_slidesam.jobs.spec import ADAPTER_FOLDER, DATA_FOLDER, FinetuneJob, PairSpec
from napari_slidesam.jobs.validation import held_out
from napari_slidesam.model.registry import load_model
from napari_slidesam.tuning.pairs import pair_from_arrays
from napari_slidesam.tuning.splits import Region, region_arrays, slab_split
from napari_slidesam.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.tuning.pairs import TrainingPair

logger = logging.getLogger(__name__)

TEST_THIRD = (2 / 3, 1.0)
LIMIT_OBJECTS = 24
"""Of the last third of a volume, evenly chosen."""

RESULT_FILE = "result.json"
_MARKS = ("<!-- measured -->", "<!-- /measured -->")


@dataclass(frozen=True, slots=True)
class Row:
    """What a fine-tuning on one volume gave.

    Parameters
    ----------
    volume, modality : str
    windows : int
        Trained on.
    objects : int
        Measured on the last third.
    before, after : float
        Mean Dice there from one box an object.
    better : int
        Objects whose Dice rose.
    steps, kept_step : int
    seconds : float
        Of the whole job: data, probe, validations and training.
    """

    volume: str
    modality: str
    windows: int
    objects: int
    before: float
    after: float
    better: int
    steps: int
    kept_step: int
    seconds: float


def measure(case: Case, folder: Path, settings: FinetuneJob) -> Row:
    """Fine-tune on two thirds of a volume and measure on the last.

    Parameters
    ----------
    case : Case
    folder : Path
        Gets the job. Where it holds one that was not finished, that one goes on.
    settings : FinetuneJob
        Without data; the volume's own axis is put first.
    """
    pair = pair_from_arrays(case.name, case.volume, case.labels_zyx)
    parts = slab_split([_worth_a_box(case)], case.axis, TEST_THIRD)
    (train_region, *_), (test_region,) = parts.train, parts.validation
    axes = (case.axis, *(a for a in settings.axes if a != case.axis))
    job = _job(pair, train_region, folder, replace(settings, axes=axes))
    started = time.perf_counter()
    events = list(run_job(folder, raises=True))
    seconds = time.perf_counter() - started
    test = _test_case(case, pair, test_region)
    before = _dice(test, load_model(job.model, job.device))
    after = _dice(test, load_model(job.model, job.device, adapter=folder / ADAPTER_FOLDER))
    (checked,) = (e for e in events if isinstance(e, DataChecked))
    (finished,) = (e for e in events if isinstance(e, Finished))
    steps = [e.step for e in events if isinstance(e, Stepped)]
    return Row(
        volume=case.name,
        modality=case.modality,
        windows=checked.windows,
        objects=len(before),
        before=float(np.mean(list(before.values()))),
        after=float(np.mean(list(after.values()))),
        better=int(sum(after[i] > before[i] for i in before)),
        steps=max(steps, default=0),
        kept_step=finished.kept_step,
        seconds=seconds,
    )


def measure_folder(
    folder: Path, runs: Path, settings: FinetuneJob, volumes: Sequence[str] = ()
) -> list[Row]:
    """Measure the volumes of a folder, or some of them; those measured before are read."""
    files = [c for c in find_cases(folder) if not volumes or c.name in volumes]
    missing = set(volumes) - {c.name for c in files}
    if missing:
        raise EvaluationError(f"{folder} holds no volume named {', '.join(sorted(missing))}.")
    rows = []
    for one in files:
        result = runs / one.name / RESULT_FILE
        if result.exists():
            rows.append(Row(**json.loads(result.read_text())))
            continue
        row = measure(one.load(), runs / one.name, settings)
        result.write_text(json.dumps(asdict(row), indent=1))
        logger.info("%s", row)
        rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| volume | image | windows | objects | Dice before | after | gain | better | s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.volume} | {r.modality} | {r.windows} | {r.objects} | {r.before:.3f} | "
        f"{r.after:.3f} | {r.after - r.before:+.3f} | {r.better} of {r.objects} | {r.seconds:.0f} |"
        for r in rows
    ]
    return "\n".join(lines)


def write_into(document: Path, text: str) -> None:
    """Replace what is between the marks of a document."""
    before, mark, rest = document.read_text(encoding="utf-8").partition(_MARKS[0])
    _, end, after = rest.partition(_MARKS[1])
    if not mark or not end:
        raise EvaluationError(f"{document} lacks the lines {' and '.join(_MARKS)}.")
    document.write_text(f"{before}{mark}\n{text}\n{end}{after}", encoding="utf-8")


def _worth_a_box(case: Case) -> TrainingPair:
    """Return the volume with only the objects that are measured, to find where to cut it."""
    measured = np.isin(case.labels_zyx, case.object_ids or ())
    return pair_from_arrays(case.name, case.volume, np.where(measured, case.labels_zyx, 0))


def _job(pair: TrainingPair, region: Region, folder: Path, settings: FinetuneJob) -> FinetuneJob:
    """Write the job with its part of the volume as arrays, as the dock does with layers."""
    (folder / DATA_FOLDER).mkdir(parents=True, exist_ok=True)
    paths = [f"{DATA_FOLDER}/image.npy", f"{DATA_FOLDER}/labels.npy"]
    for path, array in zip(paths, region_arrays(pair, region), strict=True):
        np.save(folder / path, np.asarray(array[:]))
    spec = PairSpec(pair.name, *paths, spacing_zyx=pair.spacing_zyx)
    job = replace(settings, name=pair.name, pairs=(spec,))
    job.save(folder)
    return job


def _test_case(case: Case, pair: TrainingPair, region: Region) -> Case:
    image, labels = region_arrays(pair, region)
    volume = Volume(np.asarray(image[:]), pair.spacing_zyx)
    return held_out(case.name, volume, np.asarray(labels[:]), case.axis, case.object_ids).case


def _dice(case: Case, model: WindowModel) -> dict[int, float]:
    options = EvaluationOptions(limit_objects=LIMIT_OBJECTS)
    scores = evaluate([case], [ModelMethod(Predictor(model))], ["1-box"], options)
    return {s.object: float(s.dice) for s in scores}


def main() -> None:
    """Run from the command line; see the module's docstring."""
    defaults = FinetuneJob("", minutes=9.0, epochs=1000, device="cpu")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", "-o", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--minutes", type=float, default=defaults.minutes)
    parser.add_argument("--volumes", nargs="*", default=[], help="names; all without")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--rank", type=int, default=defaults.rank)
    parser.add_argument("--validation-share", type=float, default=defaults.validation_share)
    parser.add_argument("--docs", type=Path, help="document that gets the table")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.threads:
        torch.set_num_threads(given.threads)
    settings = replace(
        defaults,
        minutes=given.minutes,
        learning_rate=given.learning_rate,
        batch_size=given.batch_size,
        rank=given.rank,
        validation_share=given.validation_share,
    )
    text = table(measure_folder(given.folder, given.out, settings, given.volumes))
    if given.docs is not None:
        write_into(given.docs, text)
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
