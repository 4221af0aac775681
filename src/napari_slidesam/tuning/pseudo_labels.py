"""Masks for volumes without labels, by a network that is asked everywhere.

Slide-SAM, appendix B: several truncations of the same slice let a network tell apart what has
nearly the same grey; superpixels make the prompts; dark ones are taken for background. What
comes is 2D: a mask counts on its own slice only::

    slice -> mean +- 3, 2, 1, 0.5 sd -> superpixels -> boxes, points -> network
          -> predicted IoU, stability, background, size -> duplicates
          -> edges, asked again -> masks
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_slidesam.errors import ConfigError, VolumeError
from napari_slidesam.intensity import normalise
from napari_slidesam.tuning.outline_support import outline_support
from napari_slidesam.tuning.plane_network import PlaneNetwork, Sureness
from napari_slidesam.tuning.pseudo_masks import DistinctMasks, PseudoMask, PseudoSlice, overlap
from napari_slidesam.tuning.superpixels import (
    SuperpixelConfig,
    SuperpixelPrompt,
    superpixel_prompts,
)
from napari_slidesam.volume import SliceCache

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Iterable, Iterator

    from numpy.typing import NDArray

    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.tuning.plane_network import Candidate
    from napari_slidesam.volume import Volume

MIN_SIDE_PX = 8
"""Planes with a shorter side show nothing that could be outlined."""

RANGE_PERCENTILES = (1.0, 99.0)
"""Of a slice: where background begins, and what it is measured by."""

MIN_MAIN_PART = 0.8
"""Masks whose largest part is a smaller share of them are several objects, or noise."""

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, slots=True)
class PseudoConfig:
    """What is asked, and which answers are kept.

    Parameters
    ----------
    sd_factors : tuple of float
        Truncation windows: mean +- so many standard deviations of the slice (appendix B).
    superpixels : SuperpixelConfig
    min_iou, min_stability : float, range [0, 1]
        Least predicted IoU and stability score of a mask.
    stability_offset : float
        Interval of the stability score, in logits.
    background : float, range [0, 1]
        Superpixels and masks whose mean is below this share of the slice's range (its
        percentiles 1 to 99) are left out; 0 keeps all, for dark objects on bright ground.
    min_share, max_share : float
        Least and largest share of the plane of a mask (Slide-SAM, 3.1: at least 0.14 %).
    duplicate_iou : float
        Masks that overlap by this IoU are one.
    min_votes : int
        Predictions that must give a mask, over truncation windows, prompts and candidates.
    min_outline : float, range [0, 1]
        Least share of a mask's outline that lies on an edge of the image; 0 asks for none.
    looser_box : float
        Share of each side by which a mask's box is enlarged to ask for the mask again. A
        mask that only fills the box it was asked with then changes (D.1: that of an object
        hardly does).
    min_agreement : float, range [0, 1]
        Least IoU of the two answers; 0 asks once.
    max_masks : int
        Masks a slice at most, the best ones.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    sd_factors: tuple[float, ...] = (3.0, 2.0, 1.0, 0.5)
    superpixels: SuperpixelConfig = field(default_factory=SuperpixelConfig)
    min_iou: float = 0.6
    min_stability: float = 0.75
    stability_offset: float = 1.0
    background: float = 0.1
    min_share: float = 0.0014
    max_share: float = 0.5
    duplicate_iou: float = 0.7
    min_votes: int = 2
    min_outline: float = 0.8
    looser_box: float = 0.25
    min_agreement: float = 0.6
    max_masks: int = 100

    def __post_init__(self) -> None:
        if not self.sd_factors or not all(f > 0 for f in self.sd_factors):
            raise ConfigError(
                "Truncation windows need positive multiples of the standard deviation; got "
                f"{self.sd_factors}."
            )
        for name in (
            "min_iou", "min_stability", "background", "duplicate_iou", "min_outline",
            "looser_box", "min_agreement",
        ):  # fmt: skip
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} lies between 0 and 1; got {getattr(self, name)}.")
        if not 0 <= self.min_share < self.max_share <= 1:
            raise ConfigError(
                "Shares of the plane need 0 <= min_share < max_share <= 1; got "
                f"{self.min_share} and {self.max_share}."
            )
        if not (self.stability_offset >= 0 and self.min_votes >= 1 and self.max_masks >= 1):
            raise ConfigError(
                "stability_offset is 0 or more, min_votes and max_masks are 1 or more; got "
                f"{self.stability_offset}, {self.min_votes} and {self.max_masks}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def plan_slices(
    volume: Volume, axes: Iterable[int] = (0,), every: int = 1
) -> list[tuple[int, int]]:
    """Return axis and index of the slices to label: every so many, the first half as far in.

    Raises
    ------
    ConfigError
        ``every`` is below 1.
    VolumeError
        There is no such axis, or its slices are too narrow.
    """
    if every < 1:
        raise ConfigError(f"Every slice is 1, every second 2, and so on; got {every}.")
    planned = []
    for axis in dict.fromkeys(axes):
        stack = volume.along(axis)
        if min(stack.plane_shape_yx) < MIN_SIDE_PX:
            raise VolumeError(
                f"Pseudo-labels need slices of at least {MIN_SIDE_PX} x {MIN_SIDE_PX} pixels; "
                f"along {'zyx'[axis]} they are {stack.plane_shape_yx}. Choose another axis."
            )
        first = min(every // 2, (stack.n_slices - 1) // 2)
        planned += [(axis, index) for index in range(first, stack.n_slices, every)]
    return planned


def pseudo_labels(
    model: WindowModel,
    volume: Volume,
    slices: Iterable[tuple[int, int]],
    config: PseudoConfig | None = None,
    *,
    done: Collection[tuple[int, int]] = (),
    batch_size: int = 16,
    cancel: threading.Event | None = None,
) -> Iterator[PseudoSlice]:
    """Yield the pseudo-labels of slice after slice.

    Three slices are read at a time; what memory holds does not depend on the volume.

    Parameters
    ----------
    model : WindowModel
    volume : Volume
    slices : iterable of (axis, slice index)
        As `plan_slices` gives them.
    config : PseudoConfig, optional
    done : collection of (axis, slice index)
        Slices that are left out: those of an earlier run.
    batch_size : int
        Prompts that the network is asked at once.
    cancel : threading.Event, optional
        Ends it before the next slice.

    Raises
    ------
    VolumeError
        A slice does not exist or cannot be read.
    InferenceError
        The network failed.
    """
    config = PseudoConfig() if config is None else config
    network = PlaneNetwork(model, batch_size)
    caches: dict[int, SliceCache] = {}
    for axis, index in slices:
        if cancel is not None and cancel.is_set():
            return
        if (axis, index) in done:
            continue
        if axis not in caches:
            caches.clear()
            caches[axis] = SliceCache(volume.along(axis))
        yield _label_slice(network, caches[axis], index, config)


def truncated(
    planes: NDArray[np.float32], centre: NDArray[np.float32], sd_factor: float
) -> NDArray[np.float32] | None:
    """Return planes with the centre's mean +- so many standard deviations as 0 to 1.

    None where the centre is constant or holds no finite value.
    """
    values = centre[np.isfinite(centre)].astype(np.float64)
    if values.size == 0:
        return None
    mean, sd = float(values.mean()), float(values.std())
    if not sd > 1e-6 * max(abs(mean), 1e-30):
        return None
    return normalise(planes, (mean - sd_factor * sd, mean + sd_factor * sd))


def _label_slice(
    network: PlaneNetwork, slices: SliceCache, index: int, config: PseudoConfig
) -> PseudoSlice:
    started = time.perf_counter()
    planes = slices.window(index)
    grey = _share_of_range(planes[1])
    sureness = Sureness(config.min_iou, config.min_stability, config.stability_offset)
    found = DistinctMasks(config.duplicate_iou)
    dropped: Counter[str] = Counter()
    n_prompts = 0
    for factor in config.sd_factors:
        shown = truncated(planes, planes[1], factor)
        if shown is None:
            break
        prompts = _prompts(shown[1], grey, config, dropped)
        n_prompts += len(prompts)
        for candidates, unsure in network.candidates(shown, prompts, sureness):
            dropped.update(unsure)
            sure = (_pseudo_mask(c, grey, factor, config, dropped) for c in candidates)
            found.add(mask for mask in sure if mask is not None)
    masks = found.best(min_votes=config.min_votes, limit=config.max_masks)
    on_edges = tuple(m for m in masks if outline_support(m, grey) >= config.min_outline)
    dropped["not on edges"] += len(masks) - len(on_edges)
    masks = on_edges
    if config.min_agreement > 0:
        n_prompts += len(masks)
        masks = _found_again(network, planes, masks, config, dropped)
    dropped["duplicate"] += found.n_duplicates
    dropped["few votes"] += sum(m.votes < config.min_votes for m in found.masks)
    return PseudoSlice(
        axis=slices.stack.axis,
        slice_index=index,
        plane_shape_yx=slices.stack.plane_shape_yx,
        masks=masks,
        prompts=n_prompts,
        dropped={reason: n for reason, n in sorted(dropped.items()) if n},
        seconds=time.perf_counter() - started,
    )


def _prompts(
    shown: NDArray[np.float32],
    grey: NDArray[np.float32],
    config: PseudoConfig,
    dropped: Counter[str],
) -> list[SuperpixelPrompt]:
    """Return the superpixels' prompts that do not lie on background."""
    prompts = superpixel_prompts(
        shown, grey, config.superpixels, min_share=config.min_share, max_share=config.max_share
    )
    kept = [prompt for prompt in prompts if prompt.value >= config.background]
    dropped["background superpixel"] += len(prompts) - len(kept)
    return kept


def _found_again(
    network: PlaneNetwork,
    planes: NDArray[np.float32],
    masks: tuple[PseudoMask, ...],
    config: PseudoConfig,
    dropped: Counter[str],
) -> tuple[PseudoMask, ...]:
    """Return the masks that the network answers to a looser box, too."""
    kept = []
    for factor in config.sd_factors:
        asked = {
            SuperpixelPrompt(m.box.enlarged(config.looser_box), None, number): m
            for number, m in enumerate(masks)
            if m.sd_factor == factor
        }
        shown = truncated(planes, planes[1], factor) if asked else None
        if shown is None:
            continue
        anything = Sureness(0.0, 0.0, config.stability_offset)
        answers: dict[SuperpixelPrompt, Candidate] = {}
        for candidates, _ in network.candidates(shown, list(asked), anything):
            for one in candidates:
                known = answers.setdefault(one.prompt, one)
                if one.predicted_iou > known.predicted_iou:
                    answers[one.prompt] = one
        kept += [asked[p] for p, a in answers.items() if _agree(asked[p], a, config.min_agreement)]
    dropped["not found again"] += len(masks) - len(kept)
    return tuple(sorted(kept, key=lambda mask: -mask.score))


def _agree(mask: PseudoMask, answer: Candidate, least: float) -> bool:
    """Whether an answer to a looser box is the same mask."""
    if not answer.mask.any():
        return False
    origin = (answer.region.y0, answer.region.x0)
    other = PseudoMask.cut(answer.mask, origin, predicted_iou=0, stability=0, sd_factor=1)
    return overlap(mask, other) >= least


def _pseudo_mask(
    candidate: Candidate,
    grey: NDArray[np.float32],
    sd_factor: float,
    config: PseudoConfig,
    dropped: Counter[str],
) -> PseudoMask | None:
    """Return a candidate as a mask without islands, or None with the reason noted."""
    if candidate.is_cut:
        dropped["cut by the view"] += 1
        return None
    mask = _main_part(candidate.mask)
    if mask is None:
        dropped["in parts"] += 1
        return None
    share = np.count_nonzero(mask) / grey.size
    if not config.min_share <= share <= config.max_share:
        dropped["too small" if share < config.min_share else "too large"] += 1
        return None
    region = candidate.region
    if float(grey[region.slices][mask].mean()) < config.background:
        dropped["background"] += 1
        return None
    return PseudoMask.cut(
        mask,
        (region.y0, region.x0),
        predicted_iou=candidate.predicted_iou,
        stability=candidate.stability,
        sd_factor=sd_factor,
    )


def _main_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Return the largest part, or None where it is not most of the mask."""
    parts, count = ndimage.label(mask, EIGHT_CONNECTED)
    if count == 0:
        return None
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    largest = int(np.argmax(areas))
    if areas[largest] < MIN_MAIN_PART * areas.sum():
        return None
    kept: NDArray[np.bool_] = parts == largest
    return kept


def _share_of_range(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a slice's values between its percentiles 1 and 99 as 0 to 1."""
    values = plane[np.isfinite(plane)]
    if values.size == 0:
        return np.zeros(plane.shape, dtype=np.float32)
    low, high = (float(v) for v in np.percentile(values, RANGE_PERCENTILES))
    return normalise(
        plane, (low, high) if high > low else (float(values.min()), float(values.max()))
    )
