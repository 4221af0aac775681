"""One object's travel through the slices: where it starts, where it goes, what it asks for.

::

      outer track       inner tracks        outer track
    <-------------- a ---------><--------- b -------------->
                 anchor                 anchor

Anchors are the slices with a box or a mask, or, without any, those with a positive point. Other
slices with points are way-points: a track takes their points along as it passes, and does not
stop before a positive one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from napari_slidesam.engine.ballot import Ballot
from napari_slidesam.engine.between import shape_between
from napari_slidesam.engine.compat import opened_patch
from napari_slidesam.engine.fusion import Vote
from napari_slidesam.engine.guards import next_box
from napari_slidesam.engine.predictor import CENTRE, PlanePrediction, WindowRequest
from napari_slidesam.errors import PromptError
from napari_slidesam.geometry import Box
from napari_slidesam.metrics import stability_score
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.sliding import MAX_GROWTH

if TYPE_CHECKING:
    from napari_slidesam.engine.appearance import Appearance
    from napari_slidesam.engine.config import PropagationConfig
    from napari_slidesam.engine.proposal import Proposal
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.slice_cache import SliceCache

LOOK_SHARE = 0.5
"""Share of a coarse look's cube after which the next one is taken."""

ABSENT_LOGIT = -1.0
"""Most that a window says for the object on a slice where it doubts the object's presence."""

LEAST_WEIGHT = 1e-6
"""Weight of a vote that counts only where there is no other."""


class ObjectRun:
    """One object's prompts on a volume: anchors, way-points, votes.

    Positions count in parts of a slice: ``substeps`` of them make one slice.

    Raises
    ------
    PromptError
        A prompt lies outside the volume or outside ``config.z_range``.
    """

    def __init__(
        self, prompts: ObjectPrompts, slices: SliceCache, config: PropagationConfig
    ) -> None:
        stack = slices.stack
        prompts.check_against(stack.n_slices, stack.plane_shape_yx)
        self.prompts, self.slices, self.config = prompts, slices, config
        start, stop = config.z_range if config.z_range is not None else (0, stack.n_slices)
        self.start, self.stop = max(0, start), min(stack.n_slices, stop)
        outside = [i for i in prompts.slice_indices if not self.start <= i < self.stop]
        if outside:
            raise PromptError(
                f"Object {prompts.object_id} has a prompt on slice {outside[0]}, outside the "
                f"z-range [{self.start}, {self.stop}). Widen the range or remove the prompt."
            )
        drawn = {p.slice_index for p in prompts.boxes} | {p.slice_index for p in prompts.masks}
        self.anchors = tuple(sorted(drawn)) or prompts.anchor_slices
        self.substeps = config.slice_parts(stack)
        self.growth = min(MAX_GROWTH, max(1.0, stack.step_ratio / self.substeps))
        self.low_high = config.intensity.fixed_range(stack, self.anchors[0])
        self.ballot = Ballot(prompts, config)
        self.anchor_boxes: dict[int, Box] = {}
        self.anchor_patches: dict[int, LogitPatch] = {}
        self.appearances: dict[int, Appearance] = {}

    def anchor_request(self, anchor: int, box: Box | None = None) -> WindowRequest:
        """Return the window of an anchor; ``box`` where it carries only points."""
        given = self.prompts.mask_on(anchor)
        known = None if given is None else LogitPatch.from_mask(given)
        drawn = self.prompts.box_on(anchor)
        return WindowRequest(
            slices=self.slices,
            position=anchor,
            step=Fraction(1, self.substeps),
            box=drawn if drawn is not None else box,
            points=self.prompts.points_on(anchor),
            masks=(None, known, None),
            reference=known,
            consistency_weight=self.config.consistency_weight,
            box_weight=self.config.box_weight if drawn is not None else 0.0,
            sharpness=self.config.candidate_sharpness,
            low_high=self.low_high,
            quirks=self.config.quirks,
        )

    @property
    def centres(self) -> range:
        """The slices that a window may be centred on."""
        n_slices = self.slices.stack.n_slices
        return range(1, n_slices - 1) if self.config.quirks.inner_windows else range(n_slices)

    def settled(self, prediction: PlanePrediction) -> PlanePrediction:
        """Return a prediction that is trusted as it is handed on and voted with."""
        if not self.config.quirks.opened_masks:
            return prediction
        top, centre, bottom = (opened_patch(patch) for patch in prediction.patches)
        return replace(prediction, patches=(top, centre, bottom))

    @property
    def doubt(self) -> float:
        """What going beyond the expected depth costs; see `PropagationConfig.gap_doubt`."""
        return self.config.gap_doubt if len(self.anchors) > 1 else self.config.depth_doubt

    def expected_depth(self, anchor: int) -> float:
        """Return how many slices an object is expected to go on beyond an outer anchor.

        Half of the box's longer side, as of a ball, or half of the distance to the next anchor
        where that is shorter: who prompts slices evenly has covered the object.
        """
        stack = self.slices.stack
        box = self.anchor_boxes.get(anchor)
        depth = 1.0
        if box is not None:
            height_spacing, width_spacing = stack.spacing_yx
            side = max(box.height * height_spacing, box.width * width_spacing)
            depth = max(depth, side / (2 * stack.step))
        gaps = [abs(other - anchor) / 2 for other in self.anchors if other != anchor]
        return float(min([depth, *gaps]))

    def vote(self, position: int, prediction: PlanePrediction, track: Track | None) -> None:
        """Cast the votes of a window for the whole slices it holds."""
        if self.config.quirks.union:
            self._vote_for_union(position, prediction, track)
            return
        for offset, patch in zip((-1, 0, 1), prediction.patches, strict=True):
            index, rest = divmod(position + offset, self.substeps)
            if rest or not self.start <= index < self.stop:
                continue
            if track is not None and track.partner is not None:
                low, high = sorted((track.anchor, track.partner))
                if not low <= index <= high:
                    continue
            weight = 1.0 if offset == 0 else self.config.side_weight
            is_neighbour = offset != 0 or (track is not None and index in self.anchors)
            if is_neighbour and index in self.prompts.slice_indices:
                continue  # a person's own prompt is not outvoted by its neighbours
            is_prompted = index in self.anchors
            absent = prediction.presence[CENTRE + offset] < self.config.min_presence
            if absent and not is_prompted:
                patch = LogitPatch(patch.region, patch.logits.clip(max=ABSENT_LOGIT))
            weight *= self._nearness(index, track)
            self.ballot.cast(index, Vote(patch, weight, prediction.predicted_iou))

    def _vote_for_union(
        self, position: int, prediction: PlanePrediction, track: Track | None
    ) -> None:
        """Cast votes that weigh what the published predictor's merging of prompts is told.

        The stability of the window centred on a slice, twice for a prompted slice; next to
        nothing for a slice seen only at a window's end.
        """
        anchor = position // self.substeps if track is None else track.anchor
        centre = prediction.patches[CENTRE]
        stability = stability_score(centre.logits, self.config.stability_offset)
        patches = self.settled(prediction).patches
        for offset, patch in zip((-1, 0, 1), patches, strict=True):
            index, rest = divmod(position + offset, self.substeps)
            if rest or not self.start <= index < self.stop:
                continue
            weight = stability * (2 if track is None else 1) if offset == 0 else 0.0
            source = anchor if self.config.quirks.lone_prompts else 0
            vote = Vote(patch, max(weight, LEAST_WEIGHT), prediction.predicted_iou, source)
            self.ballot.cast(index, vote)

    def _nearness(self, index: int, track: Track | None) -> float:
        """Between two anchors the nearer one's windows count more."""
        if track is None or track.partner is None:
            return 1.0
        share = abs(track.partner - index) / abs(track.partner - track.anchor)
        return max(self.config.far_weight, share)


@dataclass(slots=True)
class Track:
    """One direction of travel from an anchor.

    Parameters
    ----------
    run : ObjectRun
    anchor : int
    direction : int
        -1 or +1.
    partner : int, optional
        The anchor travelled to; None for an outer track, which ends with the object.
    position : int
        Centre of the last window accepted, in parts of a slice.
    last : PlanePrediction
        That window's prediction.
    last_box : Box, optional
        The last prompt.
    proposal : Proposal, optional
        What the last coarse look said.
    """

    run: ObjectRun
    anchor: int
    direction: int
    partner: int | None
    position: int
    last: PlanePrediction
    last_box: Box | None = None
    proposal: Proposal | None = None

    @property
    def next_position(self) -> int:
        """Centre of the next window, in parts of a slice."""
        return self.position + self.direction

    @property
    def next_slice(self) -> int | None:
        """The slice that ``next_position`` is, or None where it lies between two slices."""
        index, rest = divmod(self.next_position, self.run.substeps)
        return None if rest else index

    @property
    def place_ahead(self) -> float:
        """Centre of the next window, in slices."""
        return self.next_position / self.run.substeps

    @property
    def proposal_ahead(self) -> Proposal | None:
        """What a coarse look says of the next window's slice; None beyond what it saw."""
        proposal = self.proposal
        return proposal if proposal is not None and proposal.covers(self.place_ahead) else None

    @property
    def looks_again(self) -> bool:
        """Whether the object goes on where the coarse look ends, so that another is due."""
        proposal = self.proposal
        if proposal is None or self.last_slice * self.run.substeps != self.position:
            return False
        off_centre = abs(
            proposal.grid.place_of_slice(self.place_ahead) / len(proposal.logits) - 0.5
        )
        if off_centre < LOOK_SHARE / 2 or not self.last.patches[CENTRE].mask.any():
            return False
        return proposal.presence_on(self.place_ahead) > self.run.config.coarse_present

    @property
    def next_depth(self) -> float:
        """Distance of the next window from the anchor over the depth expected there."""
        distance = abs(self.next_position / self.run.substeps - self.anchor)
        return distance / self.run.expected_depth(self.anchor)

    @property
    def last_slice(self) -> int:
        """The last whole slice accepted."""
        done = abs(self.position - self.anchor * self.run.substeps) // self.run.substeps
        return self.anchor + self.direction * done

    @property
    def must_go_on(self) -> bool:
        """Whether the next slice is known to hold the object: prompts lie beyond it."""
        if self.partner is not None:
            return True
        ahead = [
            p.slice_index
            for p in self.run.prompts.points
            if p.positive
            and (p.slice_index * self.run.substeps - self.next_position) * self.direction >= 0
        ]
        return bool(ahead)

    def may_vote_on(self, index: int) -> bool:
        """Whether a window still to come may say something about a slice."""
        ahead = (index * self.run.substeps - self.next_position) * self.direction
        if self.partner is None:
            return ahead >= -1
        beyond = (index - self.partner) * self.direction
        return ahead >= -1 and beyond <= 0

    def next_request(self) -> WindowRequest | None:
        """Return the next window, or None where the last mask gives no box to prompt it."""
        run, outer = self.run, self.last.patches[CENTRE + self.direction]
        box = next_box(outer, run.config, run.growth)
        if self.last.presence[CENTRE + self.direction] < run.config.min_presence:
            box = None
        proposal = self.proposal_ahead
        if proposal is not None:
            box = self._with_proposal(box, proposal)
        if box is not None:
            box = box.clipped(run.slices.stack.plane_shape_yx)
        box = self._with_interpolation(box)
        if box is None and self.must_go_on:
            box = self.last_box or run.anchor_boxes.get(self.anchor)
        index = self.next_slice
        points = () if index is None else run.prompts.points_on(index)
        for point in points:
            if point.positive:
                click = Box(point.y, point.x, point.y + 1, point.x + 1)
                box = click.enlarged(2.0) if box is None else box.union(click)
        if box is None:
            return None
        self.last_box = box
        masks: list[LogitPatch | None] = [None, None, None]
        between = self._shape_between() if run.config.interpolate_shapes else None
        if between is not None:
            masks[CENTRE] = between
        elif run.config.carry_masks:
            confidence = run.config.carried_confidence
            known = {CENTRE - self.direction: self.last.patches[CENTRE], CENTRE: outer}
            for place, patch in known.items():
                if proposal is None:
                    masks[place] = patch.scaled(confidence)
                else:
                    where = self.place_ahead + (place - CENTRE) / run.substeps
                    weight = run.config.coarse_weight
                    masks[place] = proposal.combined(where, patch, weight, confidence)
        return WindowRequest(
            slices=run.slices,
            position=Fraction(self.next_position, run.substeps),
            step=Fraction(1, run.substeps),
            box=box,
            points=points,
            masks=(masks[0], masks[1], masks[2]),
            reference=outer,
            consistency_weight=run.config.consistency_weight,
            sharpness=run.config.candidate_sharpness,
            low_high=run.low_high,
            quirks=run.config.quirks,
            is_handed_on=True,
            look_margin=run.config.box_margin if run.config.quirks.lopsided_margin else 0.0,
        )

    def request_after(self, request: WindowRequest) -> WindowRequest | None:
        """Return what is likely to be asked for when this track's next request is answered."""
        position = request.position + self.direction * request.step
        if not 0 <= position <= self.run.slices.stack.n_slices - 1:
            return None
        return replace(request, position=position)

    def _shape_between(self) -> LogitPatch | None:
        """Return the shape to expect between two anchors; None on an outer track."""
        run = self.run
        if self.partner is None or not {self.anchor, self.partner} <= set(run.anchor_boxes):
            return None
        here = Fraction(self.next_position, run.substeps)
        ends = [(run.anchor_patches[i], run.anchor_boxes[i]) for i in (self.anchor, self.partner)]
        share = float((here - self.anchor) / (self.partner - self.anchor))
        return shape_between(ends[0], ends[1], share, run.slices.stack.plane_shape_yx)

    def _with_proposal(self, box: Box | None, proposal: Proposal) -> Box | None:
        """Return a box that holds what a coarse look proposes, too, where it is sure of it."""
        run, outer = self.run, self.last.patches[CENTRE + self.direction]
        if box is None and proposal.presence_on(self.place_ahead) <= run.config.coarse_present:
            return None
        patch = proposal.combined(
            self.place_ahead, outer, run.config.coarse_weight, run.config.carried_confidence
        )
        proposed = next_box(patch, run.config, run.growth)
        if proposed is None or box is None:
            return box if proposed is None else proposed
        return box.union(proposed)

    def _with_interpolation(self, box: Box | None) -> Box | None:
        """Between two anchors, pull the travelling box towards the interpolated one."""
        if self.partner is None:
            return box
        boxes = self.run.anchor_boxes
        if self.anchor not in boxes or self.partner not in boxes:
            return box
        here = Fraction(self.next_position, self.run.substeps)
        share = float((here - self.anchor) / (self.partner - self.anchor))
        between = boxes[self.anchor].interpolated(boxes[self.partner], share)
        if box is None:
            return between
        return box.interpolated(between, self.run.config.prompt_interpolation)


def tracks_of(run: ObjectRun, found: dict[int, PlanePrediction]) -> list[Track]:
    """Return the tracks that leave an object's anchors, given the anchors' predictions."""
    tracks = []
    for i, anchor in enumerate(run.anchors):
        before = run.anchors[i - 1] if i > 0 else None
        after = run.anchors[i + 1] if i + 1 < len(run.anchors) else None
        if run.config.quirks.lone_prompts:
            before = after = None
        for direction, partner in ((-1, before), (1, after)):
            if partner is not None and abs(partner - anchor) * run.substeps < 2:
                continue
            position = anchor * run.substeps
            tracks.append(Track(run, anchor, direction, partner, position, found[anchor]))
    return tracks
