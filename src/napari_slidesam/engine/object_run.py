"""One object of a run: what its prompts anchor, what is known of it, where its votes go."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from napari_slidesam.engine.ballot import Ballot
from napari_slidesam.engine.compat import opened_patch
from napari_slidesam.engine.fusion import Vote
from napari_slidesam.engine.predictor import CENTRE, PlanePrediction, WindowRequest
from napari_slidesam.errors import PromptError
from napari_slidesam.metrics import stability_score
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.sliding import MAX_GROWTH

if TYPE_CHECKING:
    from napari_slidesam.engine.appearance import Appearance
    from napari_slidesam.engine.config import PropagationConfig
    from napari_slidesam.engine.tracks import Track
    from napari_slidesam.geometry import Box
    from napari_slidesam.prompts import ObjectPrompts
    from napari_slidesam.slice_cache import SliceCache

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
        self.anchor_ious: dict[int, float] = {}
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

    @property
    def even_reach(self) -> float | None:
        """How many slices an object goes on beyond evenly spaced anchors that cover it.

        Half of their distance; of the largest where they are not even. None for fewer than three:
        a second prompt repairs an object as often as it says where it ends.
        """
        if len(self.anchors) < 3:
            return None
        return max(b - a for a, b in pairwise(self.anchors)) / 2

    def pulled_box(self, box: Box | None, first: int, second: int, place: Fraction | int) -> Box:
        """Return a box between two anchors with boxes, pulled to the one interpolated there.

        As far as `PropagationConfig.prompt_interpolation` says; without a box that one itself.
        """
        share = float(Fraction(place - first) / (second - first))
        between = self.anchor_boxes[first].interpolated(self.anchor_boxes[second], share)
        if box is None:
            return between
        return box.interpolated(between, self.config.prompt_interpolation)

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
