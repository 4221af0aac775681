"""Look at a job's data and measure a few steps.

``python -m napari_slidesam.jobs.check_only FOLDER``

Nothing of the job is changed; what is found goes into ``checks.jsonl`` of its folder as events.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_slidesam.errors import SlideSamError
from napari_slidesam.jobs.entries import CHECKS_FILE
from napari_slidesam.jobs.events import StateChanged, to_line
from napari_slidesam.jobs.spec import FinetuneJob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_slidesam.jobs.events import JobEvent

logger = logging.getLogger(__name__)


def look(folder: Path) -> Iterator[JobEvent]:
    """Yield what a job would train on, then what that would take; or why it cannot be trained.

    Parameters
    ----------
    folder : Path
        Of the job.
    """
    # The imports take seconds; a folder without a job need not wait for them.
    from napari_slidesam.jobs.checks import describe
    from napari_slidesam.jobs.data import load_data
    from napari_slidesam.jobs.probe import probe
    from napari_slidesam.jobs.schedule import task_config, trainer_config
    from napari_slidesam.model.registry import load_model
    from napari_slidesam.tuning.finetune import FinetuneTask

    try:
        job = FinetuneJob.load(folder)
        data = load_data(job, folder)
        assert data is not None, "nobody cancels it here"
        yield describe(data, job)
        model: Any = load_model(job.model, job.device)  # both kinds can be trained
        task = FinetuneTask(model, data.windows, task_config(job))
        yield probe(task, trainer_config(job, None, str(folder)))
    except SlideSamError as error:
        yield StateChanged("failed", str(error))
    except Exception as error:
        logger.exception("The job in %s cannot be looked at.", folder)
        yield StateChanged("failed", f"The data cannot be used: {type(error).__name__}: {error}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at the job of the folder that is named; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_slidesam.jobs.check_only", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="of the job")
    folder = parser.parse_args(arguments).folder
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    failed = False
    with (folder / CHECKS_FILE).open("w", encoding="utf-8") as file:
        for event in look(folder):
            failed = failed or isinstance(event, StateChanged)
            file.write(to_line(event) + "\n")
            file.flush()
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
