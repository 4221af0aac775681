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

from napari_slidesam.engine.between import shape_between
from napari_slidesam.engine.guards import next_box
from napari_slidesam.engine.predictor import CENTRE, PlanePrediction, WindowRequest
from napari_slidesam.geometry import Box

if TYPE_CHECKING:
    from napari_slidesam.engine.object_run import ObjectRun
    from napari_slidesam.engine.proposal import Proposal
    from napari_slidesam.model.patches import LogitPatch

LOOK_SHARE = 0.5
"""Share of a coarse look's cube after which the next one is taken."""

DISTANCE_DOUBT = 0.25
"""What a prompted slice's predicted IoU loses on the way to where the object is expected to end."""


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
    def presence_ahead(self) -> float | None:
        """How sure a coarse look is of the object on the next window's slice.

        Less beyond three prompts or more, the further the slice is: see
        `PropagationConfig.coarse_gap_doubt`.
        """
        proposal = self.proposal_ahead
        if proposal is None:
            return None
        presence = proposal.presence_on(self.place_ahead)
        reach = self.run.even_reach
        if self.partner is None and reach is not None:
            depth = abs(self.place_ahead - self.anchor) / reach
            presence -= self.run.config.coarse_gap_doubt * max(0.0, depth - 1.0)
        return presence

    def judged(self, prediction: PlanePrediction) -> PlanePrediction:
        """Return the next window's prediction as far as a coarse look and the prompt trust it."""
        proposal = self.proposal_ahead
        if proposal is not None:
            prediction = proposal.judged(self.place_ahead, 1 / self.run.substeps, prediction)
        share = self.run.config.prompt_trust
        if share == 0:
            return prediction
        start = self.run.anchor_ious[self.anchor] - DISTANCE_DOUBT * min(1.0, self.next_depth)
        trust = (1 - share) * prediction.predicted_iou + share * max(0.0, start)
        return replace(prediction, predicted_iou=trust)

    @property
    def _is_beyond_several(self) -> bool:
        """Whether it leaves the outermost of several prompted slices."""
        return self.partner is None and len(self.run.anchors) > 1

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
        proposal = None if self._is_beyond_several else self.proposal_ahead
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
        if between is not None and proposal is not None:
            weight = run.config.coarse_weight
            masks[CENTRE] = proposal.combined(self.place_ahead, between, weight, 1.0)
        elif between is not None:
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
        return self.run.pulled_box(box, self.anchor, self.partner, here)


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
