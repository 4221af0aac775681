"""Runs: objects that wait, one propagation at a time, and what it yields."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_slidesam.engine.propagation import propagate
from napari_slidesam.errors import PromptError, SessionError, SlideSamError, VolumeError
from napari_slidesam.gui.decisions import check_z_range, listed, run_config
from napari_slidesam.gui.state import ProgressState

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from napari_slidesam.engine.results import SliceResult
    from napari_slidesam.engine.session import Session
    from napari_slidesam.engine.session_state import RunRecord
    from napari_slidesam.geometry import Region
    from napari_slidesam.gui.network import Network
    from napari_slidesam.gui.state import SegmentSettings
    from napari_slidesam.gui.stream import LabelsStream
    from napari_slidesam.gui.worker import Job, Worker
    from napari_slidesam.gui.workspace import Workspace
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.volume import Volume

Leading = tuple[int, ...]


@dataclass(slots=True, eq=False)
class _Run:
    """The propagation under way; its session's operation is open."""

    workspace: Workspace
    leading: Leading
    session: Session
    object_ids: frozenset[int]
    job: Job | None = None
    started: float = field(default_factory=time.perf_counter)
    slices: set[tuple[int, int]] = field(default_factory=set)
    is_over: bool = False


class Runs:
    """Takes objects whose prompts changed, and grows them, all that wait together.

    A run is one step to undo: objects drawn for it enter the session with it. What is drawn
    while it goes on waits for the next one.

    Parameters
    ----------
    worker : Worker
    network : Network
    stream : LabelsStream
    settings : callable
        Returns the settings as they are.
    on_changed : callable
        Called when the session changed, and with True when a run ended.
    on_message : callable
        Takes a text and whether it is an error.
    """

    def __init__(
        self,
        worker: Worker,
        network: Network,
        stream: LabelsStream,
        *,
        settings: Callable[[], SegmentSettings],
        on_changed: Callable[[bool], None],
        on_message: Callable[[str, bool], None],
    ) -> None:
        self._worker, self._network, self._stream = worker, network, stream
        self._settings, self._on_changed, self._on_message = settings, on_changed, on_message
        self._waiting: dict[Leading, dict[int, ObjectPrompts]] = {}
        self._workspace: Workspace | None = None
        self._run: _Run | None = None
        self._afterwards: list[Callable[[], None]] = []

    @property
    def is_running(self) -> bool:
        """Whether a run goes on."""
        return self._run is not None

    @property
    def progress(self) -> ProgressState:
        """How far the runs are."""
        queued = sum(len(objects) for objects in self._waiting.values())
        run = self._run
        if run is None:
            return ProgressState(queued=queued)
        seconds = max(time.perf_counter() - run.started, 1e-3)
        return ProgressState(True, len(run.slices), len(run.slices) / seconds, queued)

    def running(self, leading: Leading) -> frozenset[int]:
        """Return the objects that grow at a leading position."""
        run = self._run
        return run.object_ids if run is not None and run.leading == leading else frozenset()

    def waiting(self, leading: Leading) -> Mapping[int, ObjectPrompts]:
        """Return the prompts of the objects that wait at a leading position."""
        return self._waiting.get(leading, {})

    def set_workspace(self, workspace: Workspace | None) -> None:
        """Work on another image; a run of the one before is given up."""
        if workspace is self._workspace:
            return
        self.abandon()
        self._workspace = workspace

    def request(self, leading: Leading, prompts: ObjectPrompts) -> None:
        """Put an object in the queue; where it grows already and alone, start it over."""
        self._waiting.setdefault(leading, {})[prompts.object_id] = prompts
        run = self._run
        if run is not None and run.leading == leading and run.job is not None:
            if run.object_ids <= set(self._waiting[leading]):
                run.job.cancel()

    def forget(self, leading: Leading, object_id: int) -> None:
        """Take an object out of the queue; cancel the run where it grows alone."""
        self._waiting.get(leading, {}).pop(object_id, None)
        run = self._run
        if run is not None and run.leading == leading and run.object_ids == {object_id}:
            self.cancel_current()

    def cancel(self) -> None:
        """Stop the run after the slice it is at; what waits becomes objects that are not grown."""
        workspace, waiting = self._workspace, self._waiting
        self._waiting = {}
        for leading, objects in waiting.items() if workspace is not None else ():
            assert workspace is not None
            for prompts in objects.values():
                self._enter(workspace.session(leading), prompts, self._settings())
        self.cancel_current()

    def cancel_current(self) -> None:
        """Stop the run under way after the slice it is at."""
        if self._run is not None and self._run.job is not None:
            self._run.job.cancel()

    def when_idle(self, action: Callable[[], None]) -> None:
        """Stop the run, then do something; at once where there is none."""
        if self._run is None:
            action()
            return
        self._afterwards.append(action)
        self.cancel()

    def abandon(self) -> None:
        """Give the run up at once: what it has yielded stays, what comes later is ignored."""
        self._waiting.clear()
        self._afterwards.clear()
        run, self._run = self._run, None
        if run is not None:
            run.is_over = True
            if run.job is not None:
                run.job.cancel()
            run.session.end_operation()
            self._on_changed(True)

    def start(self) -> bool:
        """Start the next run where none goes on; whether one did."""
        workspace = self._workspace
        if self._run is not None or workspace is None:
            return False
        while self._waiting:
            leading = next(iter(self._waiting))
            objects = self._waiting.pop(leading)
            if objects and self._begin(workspace, leading, objects):
                return True
        return False

    def _begin(
        self, workspace: Workspace, leading: Leading, objects: Mapping[int, ObjectPrompts]
    ) -> bool:
        settings = self._settings()
        try:
            session, volume = workspace.session(leading), workspace.volume(leading)
        except VolumeError as error:
            self._on_message(str(error), True)
            return False
        before = session.state
        session.configure(model_name=self._network.name or settings.model)
        session.begin_operation(f"segment {listed(objects)}")
        ids = [i for i, prompts in objects.items() if self._enter(session, prompts, settings)]
        try:
            record = session.begin_run(
                ids,
                config=run_config(settings, _contrast_limits(workspace)),
                edits_as_prompts=settings.edits_as_prompts,
            )
        except SlideSamError as error:
            if ids:
                self._on_message(str(error), True)
            session.end_operation()
            self._on_changed(True)
            return False
        run = _Run(workspace, leading, session, frozenset(ids))
        self._run = run
        self._stream.mark_changes(leading, before, session.changed_since(before))
        run.job = self._worker.submit(
            self._work(volume, record, settings),
            lambda result: self._take(run, result),
            lambda error: self._end(run, error),
        )
        self._on_changed(False)
        return True

    def _enter(self, session: Session, prompts: ObjectPrompts, settings: SegmentSettings) -> bool:
        """Put prompts into the session; False, with a message, where they cannot be used."""
        try:
            check_z_range(prompts, settings.z_range)
            if prompts.object_id in session.object_ids:
                session.set_prompts(prompts.object_id, prompts)
            else:
                session.add_object(prompts)
        except (PromptError, SessionError) as error:
            self._on_message(str(error), True)
            return False
        return True

    def _work(
        self, volume: Volume, record: RunRecord, settings: SegmentSettings
    ) -> Callable[[threading.Event], Iterator[SliceResult]]:
        network = self._network

        def work(cancelled: threading.Event) -> Iterator[SliceResult]:
            predictor = network.predictor(settings)
            yield from propagate(predictor, volume, record.prompts, record.config, cancel=cancelled)

        return work

    def _take(self, run: _Run, result: SliceResult) -> None:
        if run.is_over:
            return
        state = run.session.state.objects.get(result.object_id)
        patch = None
        if state is not None and state.axis == result.axis:
            patch = state.slices.get(result.slice_index)
        try:
            is_merged = run.session.apply(result)
        except SessionError as error:
            self._on_message(str(error), True)
            self.cancel_current()
            return
        if not is_merged:
            return
        region: Region = result.region
        if patch is not None and patch.n_voxels:
            region = patch.region if min(region.shape_yx) < 1 else region.union(patch.region)
        self._stream.mark(run.leading, result.axis, result.slice_index, region)
        run.slices.add((result.object_id, result.slice_index))
        self._on_changed(False)

    def _end(self, run: _Run, error: SlideSamError | None) -> None:
        if run.is_over:
            return
        run.is_over = True
        self._run = None
        run.session.end_operation()
        if error is not None:
            self._on_message(str(error), True)
        afterwards, self._afterwards = self._afterwards, []
        for action in afterwards:
            action()
        self._on_changed(True)


def _contrast_limits(workspace: Workspace) -> tuple[float, float] | None:
    image = workspace.image
    if image is None:
        return None
    low, high = image.contrast_limits
    return (float(low), float(high))
