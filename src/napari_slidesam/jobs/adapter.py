"""The adapter of a finished job: what peft reads, with settings, figures and a card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_slidesam.jobs.pseudo import REAL_SHARE
from napari_slidesam.tuning.adapter_card import AdapterFacts, save_described_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from napari_slidesam.jobs.data import JobData
    from napari_slidesam.jobs.events import Finished
    from napari_slidesam.jobs.spec import FinetuneJob

_NOT_SETTINGS = {"name", "pairs", "data", "seed", "device"}
_UNCHANGED = (
    "No step was better on what was held out than the untouched network, so this adapter changes "
    "nothing."
)


def save_finetuned(
    model: nn.Module,
    folder: Path,
    job: FinetuneJob,
    data: JobData,
    finished: Finished,
    seconds: float,
) -> None:
    """Write the adapter that a job has trained, in place of one that is there.

    Parameters
    ----------
    model : SlideSam or SlideSamLite
        With the adapter.
    folder : Path
    job : FinetuneJob
    data : JobData
    finished : Finished
    seconds : float
        Of training.

    Raises
    ------
    FileFormatError
        It cannot be written.
    """
    report = data.report
    trained = {region.pair for region in data.parts.train}
    facts = AdapterFacts(
        name=job.name,
        volumes=tuple(data.pairs[i].name for i in sorted(trained)),
        windows=report.windows,
        windows_by_label={str(label): n for label, n in report.windows_by_label.items()},
        settings={k: v for k, v in job.to_dict().items() if k not in _NOT_SETTINGS},
        seed=job.seed,
        steps=finished.kept_step,
        seconds=seconds,
        dice_before=finished.before,
        dice_after=finished.after,
        held_out=tuple(data.region_text(region) for region in data.parts.validation),
        device=str(next(model.parameters()).device),
        note=" ".join(_notes(data, finished)),
    )
    save_described_adapter(model, folder, facts, overwrite=True)


def _notes(data: JobData, finished: Finished) -> Iterator[str]:
    if finished.kept_step == 0:
        yield _UNCHANGED
    if data.pseudo.masks:
        yield (
            f"{data.pseudo.masks} pseudo-labels of {data.pseudo.volumes} volumes were mixed into "
            f"training, {1 - REAL_SHARE:.0%} of the windows drawn; none was validated on."
        )
