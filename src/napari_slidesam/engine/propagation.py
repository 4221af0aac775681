"""Sliding the window through a volume: from prompts to masks, slice by slice.

Slide-SAM 2.4 and C.1: the prompted slice's window is predicted, then the window slides one slice
at a time in both directions; each end slice's mask, opened, gives the box that prompts the next
window, whose centre is that slice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_slidesam.engine.appearance import Appearance
from napari_slidesam.engine.clicks import clicked_box
from napari_slidesam.engine.config import PropagationConfig
from napari_slidesam.engine.guards import distrust, overruled
from napari_slidesam.engine.object_run import ObjectRun
from napari_slidesam.engine.outlines import outlined_slices, with_outline
from napari_slidesam.engine.predictor import CENTRE
from napari_slidesam.engine.proposal import Proposal
from napari_slidesam.engine.results import StopReason
from napari_slidesam.engine.tracks import Track, tracks_of
from napari_slidesam.errors import PromptError
from napari_slidesam.geometry import mask_to_box
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.protocol import CoarseModel
from napari_slidesam.slice_cache import SliceCache

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from napari_slidesam.engine.predictor import PlanePrediction, Predictor
    from napari_slidesam.engine.results import SliceResult
    from napari_slidesam.geometry import Box
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.volume import Volume


def propagate(
    predictor: Predictor,
    volume: Volume,
    prompts: Sequence[ObjectPrompts],
    config: PropagationConfig | None = None,
    *,
    cancel: threading.Event | None = None,
) -> Iterator[SliceResult]:
    """Grow the masks of all prompted objects through a volume.

    The windows of one step, all objects and directions together, are predicted as one batch.
    Each prompted slice comes first as a preview; every slice comes once as final, when no window
    can change it any more.

    Parameters
    ----------
    predictor : Predictor
    volume : Volume
        Only the slices that the objects reach are read, and those that a coarse look sees.
    prompts : sequence of ObjectPrompts
        One entry an object, with different ids; their axes may differ.
    config : PropagationConfig, optional
    cancel : threading.Event, optional
        Once set, no further window is predicted and what is known comes as final.

    Yields
    ------
    SliceResult

    Raises
    ------
    PromptError
        No prompts, an object twice, or a prompt outside the volume or the z-range. Raised
        before anything is predicted.
    InferenceError
        The network failed; results yielded before stay valid.
    VolumeError
        A slice cannot be read.
    """
    config = (config or PropagationConfig()).resolved()
    predictor.limit_embeddings(config.embedding_cache_bytes)
    runs = _prepare(volume, prompts, config)
    walk = _Walk(predictor, runs, cancel)
    yield from walk.anchors()
    yield from walk.slide()


def _prepare(
    volume: Volume, prompts: Sequence[ObjectPrompts], config: PropagationConfig
) -> list[ObjectRun]:
    if not prompts:
        raise PromptError("There is nothing to segment: give the prompts of at least one object.")
    ids = [p.object_id for p in prompts]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise PromptError(f"Object {twice[0]} is given twice: put all its prompts into one entry.")
    axes = {p.axis for p in prompts}
    budget = config.cache_bytes // len(axes)
    caches = {axis: SliceCache(volume.along(axis), budget) for axis in axes}
    return [ObjectRun(p, caches[p.axis], config) for p in prompts]


class _Walk:
    """The state of one run: which tracks are under way, which slices are still open."""

    def __init__(
        self, predictor: Predictor, runs: list[ObjectRun], cancel: threading.Event | None
    ) -> None:
        self._predictor, self._runs, self._cancel = predictor, runs, cancel
        self._tracks: list[Track] = []

    @property
    def _is_cancelled(self) -> bool:
        return self._cancel is not None and self._cancel.is_set()

    def anchors(self) -> Iterator[SliceResult]:
        """Predict the prompted slices; each comes as a preview at once."""
        wanted = [(run, anchor) for run in self._runs for anchor in run.anchors]
        requests = [run.anchor_request(a, self._clicked_box(run, a)) for run, a in wanted]
        found: dict[int, dict[int, PlanePrediction]] = {id(run): {} for run in self._runs}
        for i, prediction in self._predictor.predict(requests):
            if self._is_cancelled:
                break
            run, anchor = wanted[i]
            if not run.config.quirks.single_look:
                if requests[i].box is None:
                    prediction = self._second_look(run, anchor, prediction)
                if run.prompts.mask_on(anchor) is None:
                    prediction = self._refined(run, anchor, requests[i].box, prediction)
            found[id(run)][anchor] = run.settled(prediction)
            self._note_anchor(run, anchor, prediction)
            yield run.ballot.preview(anchor)
        for run in self._runs:
            if len(found[id(run)]) == len(run.anchors):
                self._tracks += tracks_of(run, found[id(run)])
                self._look_first(run)
                self._stop_where_empty(run, found[id(run)])
            else:
                for anchor in found[id(run)]:
                    run.ballot.stop(anchor, -1, StopReason.CANCELLED)
                    run.ballot.stop(anchor, 1, StopReason.CANCELLED)

    def _clicked_box(self, run: ObjectRun, anchor: int) -> Box | None:
        """Return the size of what the points of a slice mean; None where nobody can tell."""
        return None if self._is_cancelled else clicked_box(self._predictor.model, run, anchor)

    def _look(self, run: ObjectRun, anchor: int, box: Box, patch: LogitPatch) -> Proposal | None:
        """Ask where an object lies around a slice; None where nobody can tell."""
        model = self._predictor.model
        if not isinstance(model, CoarseModel):
            return None
        known = {**run.anchor_patches, anchor: patch}
        return Proposal.of(model.coarse, run.slices, anchor, box, known, lambda: self._is_cancelled)

    def _look_first(self, run: ObjectRun) -> None:
        """Look around each prompted slice."""
        if not run.config.coarse_look:
            return
        for anchor in run.anchors:
            tracks = [t for t in self._tracks if t.run is run and t.anchor == anchor]
            box, patch = run.anchor_boxes.get(anchor), run.anchor_patches[anchor]
            if not tracks or box is None or not patch.mask.any():
                continue
            proposal = self._look(run, anchor, box, patch)
            for track in tracks:
                track.proposal = proposal

    def _look_again(self, track: Track) -> None:
        """Look at a long object from where the last look ends."""
        centre = track.last.patches[CENTRE]
        box = mask_to_box(centre.mask, centre.region)
        if box is not None:
            track.proposal = self._look(track.run, track.last_slice, box, centre)

    def _second_look(self, run: ObjectRun, anchor: int, first: PlanePrediction) -> PlanePrediction:
        """Look again with the first mask's box: a point says nothing about size."""
        centre = first.patches[CENTRE]
        box = mask_to_box(centre.mask, centre.region)
        if box is None:
            return first
        request = run.anchor_request(anchor, box.enlarged(run.config.box_margin))
        ((_, second),) = self._predictor.predict([request])
        return second if second.patches[CENTRE].mask.any() else first

    def _refined(
        self, run: ObjectRun, anchor: int, box: Box | None, first: PlanePrediction
    ) -> PlanePrediction:
        """Look again with the first mask as mask prompt, then at the outline alone."""
        centre = first.patches[CENTRE]
        around = mask_to_box(centre.mask, centre.region)
        if around is None:
            return first
        best = first
        if run.config.refine_prompted:
            request = run.anchor_request(anchor, run.prompts.box_on(anchor) or around)
            masked = replace(request, masks=(None, centre, None))
            ((_, second),) = self._predictor.predict([masked])
            best = second if second.patches[CENTRE].mask.any() else first
        return with_outline(self._predictor.model, run, anchor, box or around, best)

    def _note_anchor(self, run: ObjectRun, anchor: int, prediction: PlanePrediction) -> None:
        run.vote(anchor * run.substeps, prediction, None)
        centre = prediction.patches[CENTRE]
        box = run.prompts.box_on(anchor) or mask_to_box(centre.mask, centre.region)
        if box is not None:
            run.anchor_boxes[anchor] = box
        given = run.prompts.mask_on(anchor)
        run.anchor_patches[anchor] = centre if given is None else LogitPatch.from_mask(given)
        run.anchor_ious[anchor] = prediction.predicted_iou if given is None else 1.0
        mask = centre.mask if given is None else given[centre.region.slices]
        look = Appearance.of(prediction.centre_values, mask)
        if look is not None:
            run.appearances[anchor] = look

    def _stop_where_empty(self, run: ObjectRun, found: dict[int, PlanePrediction]) -> None:
        """Outer tracks do not leave an anchor on which nothing was found."""
        for track in [t for t in self._tracks if t.run is run and t.partner is None]:
            if not found[track.anchor].patches[CENTRE].mask.any() and not track.must_go_on:
                self._end(track, StopReason.EMPTY)

    def slide(self) -> Iterator[SliceResult]:
        """Move all tracks, one window each a step, until none is left."""
        while True:
            for track in list(self._tracks):
                self._end_at_limit(track)
            yield from self._close()
            if not self._tracks:
                return
            if self._is_cancelled:
                for track in list(self._tracks):
                    self._end(track, StopReason.CANCELLED)
                yield from self._close()
                return
            yield from self._step()

    def _step(self) -> Iterator[SliceResult]:
        asked: list[Track] = []
        requests = []
        for track in list(self._tracks):
            if track.looks_again:
                self._look_again(track)
            request = track.next_request()
            if request is None:
                self._end(track, StopReason.EMPTY)
            else:
                asked.append(track)
                requests.append(request)
        ahead = []
        if self._predictor.looks_ahead:
            following = (t.request_after(r) for t, r in zip(asked, requests, strict=True))
            ahead = [request for request in following if request is not None]
        for i, prediction in self._predictor.predict(requests, ahead):
            track = asked[i]
            before = track.last.patches[CENTRE]
            run = track.run
            look = run.appearances.get(track.anchor)
            reason = distrust(prediction, before, run.config, track.next_depth, look, run.doubt)
            presence = track.presence_ahead
            if presence is not None:
                reason = overruled(reason, presence, prediction, run.config)
            if reason is not None and not track.must_go_on:
                self._end(track, reason)
                continue
            prediction = track.judged(prediction)
            track.position, track.last = track.next_position, run.settled(prediction)
            track.run.vote(track.position, prediction, track)
            if track.partner is not None and track.position % track.run.substeps == 0:
                yield track.run.ballot.preview(track.last_slice)
            if self._is_cancelled:
                return

    def _end_at_limit(self, track: Track) -> None:
        """Stop a track whose next window would leave what it may enter."""
        run = track.run
        following = track.last_slice + track.direction
        if track.partner is not None:
            if following == track.partner:
                self._end(track, StopReason.MET_PROMPT)
            return
        if following not in run.centres:
            self._end(track, StopReason.END_OF_VOLUME)
        elif not run.start <= following < run.stop:
            self._end(track, StopReason.Z_RANGE)
        elif run.config.max_extent_slices is not None:
            if abs(following - track.anchor) > run.config.max_extent_slices:
                self._end(track, StopReason.Z_RANGE)

    def _end(self, track: Track, reason: StopReason) -> None:
        self._tracks.remove(track)
        ballot = track.run.ballot
        ballot.stop(track.last_slice, track.direction, reason)
        if track.partner is None and not track.run.config.quirks.union:
            for index in ballot.open_slices:
                if (index - track.last_slice) * track.direction > 0:
                    ballot.drop(index)

    def _close(self) -> Iterator[SliceResult]:
        """Yield the slices on which every vote is in."""
        model = self._predictor.model
        for run in self._runs:
            tracks = [t for t in self._tracks if t.run is run]
            closing = [
                index
                for index in run.ballot.open_slices
                if not any(t.may_vote_on(index) for t in tracks)
            ]
            outlined = {} if self._is_cancelled else outlined_slices(model, run, closing)
            for index in closing:
                yield run.ballot.close(index, outlined.get(index))
