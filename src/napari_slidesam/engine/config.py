"""Every option of propagation, with its default and the paper's section."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from napari_slidesam.engine.compat import PUBLISHED, PUBLISHED_OPTIONS, Quirks, quirks_of
from napari_slidesam.errors import ConfigError
from napari_slidesam.model.sliding import (
    BOX_MARGIN,
    BOX_WEIGHT,
    CANDIDATE_SHARPNESS,
    CARRIED_CONFIDENCE,
    CONSISTENCY_WEIGHT,
    OPENING_RADIUS_PX,
)
from napari_slidesam.volume import Intensity

if TYPE_CHECKING:
    from napari_slidesam.volume import SliceStack

EMBEDDING_CACHE_BYTES = 2**30
"""See `PropagationConfig.embedding_cache_bytes`: 256 windows of the paper's network."""

MAX_REQUIRED_PRESENCE = 0.97
"""However deep a mask has grown, a network this sure of the object goes on."""


@dataclass(frozen=True, slots=True)
class PropagationConfig:
    """Options of `propagate`; the paper's values where it gives one.

    Parameters
    ----------
    min_predicted_iou : float
        Below it a mask is not trusted and its direction stops (C.1 a: 0.4).
    min_stability : float
        Likewise for the stability score (C.1 b: 0.6).
    stability_offset : float
        Logit offset of the stability score (C.1 b: 0.1).
    opening_radius_px : int
        Radius of the morphological opening that denoises the end slice's mask before its box
        is taken (2.4; the paper gives no radius). Halved until something is left.
    box_margin : float
        Share of each side by which the next window's box is enlarged on all four sides (D.1
        advises slightly larger boxes).
    max_area_ratio : float
        Drift: a mask larger or smaller than its neighbour by more than this factor stops.
    max_centroid_shift : float
        Drift: a centroid that moves by more than this share of the previous box's diagonal
        stops.
    min_presence : float
        A slice on which a network with a presence score is less sure than this of the object
        counts as empty.
    min_likeness : float
        Drift: below it the mask covers something that does not look like the object on its
        prompted slice (`Appearance`; 1 looks the same, 0 could be either, negative looks like
        the surroundings). Not in the paper.
    depth_doubt : float
        What is added to ``min_presence`` for each time that the distance from the only prompted
        slice exceeds the depth expected there: half of the box's longer side, as of a ball. At
        most `MAX_REQUIRED_PRESENCE` is required, so a long object that stays certain goes on.
        Without effect on networks that have no presence score.
    gap_doubt : float
        Likewise beyond the outermost of several prompted slices, where half of the distance to
        the next one is expected at most: who prompts slices evenly has covered the object.
    z_range : tuple of 2 ints, optional
        Half-open range of slice indices along the prompts' axis that may be entered.
    max_extent_slices : int, optional
        Slices to go at most in each direction from a prompted slice.
    consistency_weight : float
        How much a candidate mask that is like the one handed on is preferred, beside its
        predicted IoU (2.2 predicts three candidates; the paper chooses by predicted IoU alone).
    box_weight : float
        Likewise for a candidate whose bounding box is like the box that was drawn.
    candidate_sharpness : float
        Candidates' logits are blended by a softmax of their scores times this; a large value
        takes the best one alone, as the paper does.
    side_weight : float
        Weight of a window's vote for its top and bottom slice, beside 1 for its centre.
    far_weight : float
        Between two prompted slices the nearer one's votes count more; the least a vote counts.
    prompt_interpolation : float
        Between two prompted slices: share by which the travelling box is pulled towards the
        one interpolated between their boxes.
    cache_bytes : int
        Slices kept in memory at most.
    embedding_cache_bytes : int
        Embeddings kept in memory at most, for networks that have them.
    carry_masks : bool
        Give the two known slices' masks to the next window as its mask prompt (2.2), beside the
        box that the paper's sliding hands on (2.4).
    carried_confidence : float
        Factor of those masks' logits: of a mask less certain the network copies less.
    click_look : bool
        Let networks that come with a click look take it where a prompted slice has points but no
        box or mask: it says how large the object is. Not in the paper.
    coarse_look : bool
        Let networks that come with a coarse look in 3D take it around each prompted slice: it
        says how far the object goes and what it looks like between prompts. Not in the paper.
    coarse_weight : float
        Weight of its logits beside those handed on or interpolated, in the box and mask of the
        next window. Beyond the outermost of several prompted slices it only says where the object
        ends.
    coarse_absent, coarse_present : float, range [0, 1]
        On a slice where it is less sure of the object than the first, sliding stops; where it is
        surer than the second, no other guard stops it.
    coarse_gap_doubt : float
        What is taken from its sureness beyond the outermost of three prompted slices or more, for
        each time that the distance exceeds half of that between two of them. A second prompt
        repairs an object as often as it says where it ends: of two, nothing is taken.
    outline_look : bool
        Let networks that come with an outline look take it: a second opinion on the outline. Not
        in the paper.
    outline_weight : float, range [0, 1]
        Weight of its logits beside the window network's on slices with a box or points.
    slid_outline_weight : float, range [0, 1]
        Likewise on finished slices that sliding reached; 0: it is not taken there.
    prompt_trust : float, range [0, 1]
        Share of the prompted slice's predicted IoU in that of the windows that slide from it: what
        was drawn badly there is not followed well. Not in the paper.
    refine_prompted : bool
        Look at a prompted slice a second time, with the first mask as mask prompt. Not in the
        paper.
    interpolate_shapes : bool
        Between two prompted slices, give the network the shape interpolated between their masks
        as its mask prompt, instead of the masks handed on. Not in the paper.
    keep_prompt_masks : bool
        A slice with a mask prompt keeps that mask unchanged.
    max_step_ratio : float, optional
        Slices thicker than this many plane pixels get linearly interpolated slices between
        them (D.2: quality falls with large spacing). None: never.
    intensity : Intensity
        How stored values become [0, 1] (3.1, preprocessing).
    compat : str, optional
        ``"published"``: do as the published predictor does, where it differs from the paper;
        options left at their default take `PUBLISHED_OPTIONS`. Or some of its quirks by name,
        see `Quirks`. None: none of them.
    """

    min_predicted_iou: float = 0.4
    min_stability: float = 0.6
    stability_offset: float = 0.1
    opening_radius_px: int = OPENING_RADIUS_PX
    box_margin: float = BOX_MARGIN
    max_area_ratio: float = 2.5
    max_centroid_shift: float = 0.5
    min_presence: float = 0.5
    min_likeness: float = 0.0
    depth_doubt: float = 0.1
    gap_doubt: float = 1.0
    z_range: tuple[int, int] | None = None
    max_extent_slices: int | None = None
    consistency_weight: float = CONSISTENCY_WEIGHT
    box_weight: float = BOX_WEIGHT
    candidate_sharpness: float = CANDIDATE_SHARPNESS
    side_weight: float = 0.5
    far_weight: float = 0.2
    prompt_interpolation: float = 0.8
    cache_bytes: int = 256 * 2**20
    embedding_cache_bytes: int = EMBEDDING_CACHE_BYTES
    carry_masks: bool = True
    carried_confidence: float = CARRIED_CONFIDENCE
    click_look: bool = True
    coarse_look: bool = True
    coarse_weight: float = 2.0
    coarse_absent: float = 0.2
    coarse_present: float = 0.35
    coarse_gap_doubt: float = 2.0
    outline_look: bool = True
    outline_weight: float = 0.65
    slid_outline_weight: float = 0.5
    prompt_trust: float = 0.4
    refine_prompted: bool = True
    interpolate_shapes: bool = True
    keep_prompt_masks: bool = True
    max_step_ratio: float | None = None
    intensity: Intensity = field(default_factory=Intensity)
    compat: str | None = None

    def __post_init__(self) -> None:
        quirks_of(self.compat)
        for name in (
            "min_predicted_iou",
            "min_stability",
            "min_presence",
            "prompt_interpolation",
            "coarse_absent",
            "coarse_present",
            "outline_weight",
            "slid_outline_weight",
            "prompt_trust",
        ):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"{name} is a share between 0 and 1; got {value}.")
        for name in (
            "stability_offset",
            "box_margin",
            "opening_radius_px",
            "consistency_weight",
            "box_weight",
            "depth_doubt",
            "gap_doubt",
            "coarse_gap_doubt",
            "coarse_weight",
        ):
            value = getattr(self, name)
            if value < 0:
                raise ConfigError(f"{name} is not negative; got {value}.")
        if self.max_area_ratio <= 1:
            raise ConfigError(f"max_area_ratio is above 1; got {self.max_area_ratio}.")
        if self.max_centroid_shift <= 0:
            raise ConfigError(f"max_centroid_shift is positive; got {self.max_centroid_shift}.")
        for name in (
            "side_weight",
            "far_weight",
            "cache_bytes",
            "embedding_cache_bytes",
            "candidate_sharpness",
            "carried_confidence",
        ):
            value = getattr(self, name)
            if value <= 0:
                raise ConfigError(f"{name} is positive; got {value}.")
        if self.max_extent_slices is not None and self.max_extent_slices < 0:
            raise ConfigError(f"max_extent_slices is not negative; got {self.max_extent_slices}.")
        if self.max_step_ratio is not None and self.max_step_ratio <= 0:
            raise ConfigError(f"max_step_ratio is positive; got {self.max_step_ratio}.")
        if self.z_range is not None:
            object.__setattr__(self, "z_range", tuple(self.z_range))
            if self.z_range[1] <= self.z_range[0]:
                raise ConfigError(
                    f"z_range is half-open [start, stop) with stop > start; got {self.z_range}."
                )

    def slice_parts(self, stack: SliceStack) -> int:
        """Return into how many parts a slice's thickness is cut; windows lie a part apart."""
        if self.max_step_ratio is None:
            return 1
        return max(1, math.ceil(stack.step_ratio / self.max_step_ratio))

    @property
    def quirks(self) -> Quirks:
        """The quirks of the published predictor that are asked for."""
        return quirks_of(self.compat)

    def resolved(self) -> PropagationConfig:
        """Return the options that hold: published ones where they are asked for."""
        if self.compat != PUBLISHED:
            return self
        defaults = {f.name: f.default for f in fields(self)}
        left = {k: v for k, v in PUBLISHED_OPTIONS.items() if getattr(self, k) == defaults[k]}
        return replace(self, **left)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON-ready values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["intensity"] = self.intensity.to_dict()
        values["z_range"] = list(self.z_range) if self.z_range is not None else None
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PropagationConfig:
        """Return the config that `to_dict` wrote; unknown names raise `ConfigError`."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"Unknown options {unknown}; known are {sorted(known)}.")
        given = dict(values)
        if given.get("intensity") is not None:
            given["intensity"] = Intensity.from_dict(given["intensity"])
        else:
            given.pop("intensity", None)
        if given.get("z_range") is not None:
            given["z_range"] = tuple(given["z_range"])
        return cls(**given)
