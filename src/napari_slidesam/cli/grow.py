"""Propagation with a progress bar, into a session; nothing done is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_slidesam.cli.outcome import cancel_on_interrupt, stderr_console
from napari_slidesam.cli.progress import RemainingSlices, SliceProgress
from napari_slidesam.errors import SlideSamError

if TYPE_CHECKING:
    from napari_slidesam.engine.config import PropagationConfig
    from napari_slidesam.engine.predictor import Predictor
    from napari_slidesam.engine.session import Session
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.volume import Volume


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """What a run gave, complete or not.

    Parameters
    ----------
    session : Session
    seconds : float
        Wall time of the propagation.
    seconds_to_first_mask : float, optional
        None where there was no mask at all.
    was_interrupted : bool
    failure : SlideSamError, optional
        What ended the run early; the session holds all that came before.
    """

    session: Session
    seconds: float
    seconds_to_first_mask: float | None
    was_interrupted: bool
    failure: SlideSamError | None


def grow(
    predictor: Predictor,
    volume: Volume,
    prompts: Sequence[ObjectPrompts],
    config: PropagationConfig,
    *,
    source: str,
    is_quiet: bool = False,
) -> Grown:
    """Segment the prompted objects, with a progress bar on stderr.

    The first Ctrl-C stops between two slices.

    Raises
    ------
    SlideSamError
        The run failed before it gave any mask.
    """
    # Before Ctrl-C has its own meaning: the imports take a second.
    from napari_slidesam.engine.propagation import propagate
    from napari_slidesam.engine.session import Session

    session = Session.for_volume(
        volume, config=config, model_name=predictor.model.name, source=source
    )
    for one in prompts:
        session.add_object(one)
    run = session.begin_run([p.object_id for p in prompts])
    remaining = RemainingSlices(run.prompts, _range(volume, run.prompts, config))
    bar = SliceProgress(stderr_console(), remaining, len(prompts), is_quiet)
    clock = _Clock()
    failure: SlideSamError | None = None
    with cancel_on_interrupt() as cancel, bar:
        logger.info("growing %d objects", len(run.prompts))
        results = propagate(predictor, volume, run.prompts, run.config, cancel=cancel)
        try:
            for result in results:
                session.apply(result)
                clock.note_mask()
                bar.show(result)
        except KeyboardInterrupt:
            cancel.set()
        except SlideSamError as error:
            if clock.first is None:
                raise
            failure = error
    return Grown(session, clock.now(), clock.first, cancel.is_set(), failure)


class _Clock:
    """Seconds since it was made, and when the first mask came."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.first: float | None = None

    def now(self) -> float:
        return time.perf_counter() - self._start

    def note_mask(self) -> None:
        if self.first is None:
            self.first = self.now()


def _range(
    volume: Volume, prompts: Sequence[ObjectPrompts], config: PropagationConfig
) -> tuple[int, int]:
    """Return the slices that the objects may enter, as far as it is known beforehand."""
    if config.z_range is not None:
        return config.z_range
    return (0, max(volume.shape_zyx[p.axis] for p in prompts))
