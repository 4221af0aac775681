"""Predicting windows of a volume: show them to the network, put the logits back.

The network sees a viewport of each window in its own frame; everything above the predictor
speaks plane pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from napari_slidesam.engine.compat import NO_QUIRKS, Quirks
from napari_slidesam.engine.embeddings import EmbeddingNetwork
from napari_slidesam.engine.networks import network_for
from napari_slidesam.engine.windows import Frame, Window, to_plane, window_prompt
from napari_slidesam.errors import PromptError
from napari_slidesam.model.candidates import blended, candidate_scores
from napari_slidesam.model.patches import LogitPatch
from napari_slidesam.model.sliding import CANDIDATE_SHARPNESS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction

    import numpy as np
    from numpy.typing import NDArray

    from napari_slidesam.engine.embedding_store import EmbeddingStore
    from napari_slidesam.geometry import Box
    from napari_slidesam.model.protocol import WindowModel, WindowPrediction
    from napari_slidesam.prompts import PointPrompt
    from napari_slidesam.slice_cache import SliceCache

CENTRE = 1
"""Place of the prompted slice in a window."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowRequest:
    """One window to predict, in plane pixels.

    Parameters
    ----------
    slices : SliceCache
    position, step : int or Fraction
        Centre of the window along the slice axis and the distance of its neighbours.
    box : Box, optional
    points : tuple of PointPrompt
        All on the centre slice.
    masks : tuple of 3 LogitPatch or None
        What is known of top, centre and bottom; a mask prompt for the network.
    reference : LogitPatch, optional
        The mask expected on the centre slice: of the candidates, one like it is preferred.
    consistency_weight : float
        Weight of a candidate's IoU with ``reference``, beside its predicted IoU.
    box_weight : float
        Weight of the IoU of a candidate's bounding box with ``box``: a user draws it around
        the object.
    sharpness : float
        How strongly the best candidate outweighs the others when their logits are blended.
    low_high : tuple of 2 floats, optional
        Stored values that become 0 and 1; None: each viewport by its own percentiles.
    quirks : Quirks
        Ways of the published predictor that are asked for.
    is_handed_on : bool
        The box comes from the window before, not from a person.
    look_margin : float
        Share of each side by which ``box`` is enlarged, only to choose the viewport.
    """

    slices: SliceCache
    position: int | Fraction
    step: int | Fraction = 1
    box: Box | None = None
    points: tuple[PointPrompt, ...] = ()
    masks: tuple[LogitPatch | None, LogitPatch | None, LogitPatch | None] = (None, None, None)
    reference: LogitPatch | None = None
    consistency_weight: float = 0.0
    box_weight: float = 0.0
    sharpness: float = CANDIDATE_SHARPNESS
    low_high: tuple[float, float] | None = None
    quirks: Quirks = NO_QUIRKS
    is_handed_on: bool = False
    look_margin: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PlanePrediction:
    """One window's candidates, blended by their scores, in plane pixels.

    Parameters
    ----------
    patches : tuple of 3 LogitPatch
        Top, centre and bottom, on the viewport's part of the plane.
    predicted_iou : float
    presence : tuple of 3 floats
        1 for networks without a presence score.
    centre_values : ndarray of float32, shape of the patches' region
        Stored values of the centre slice.
    """

    patches: tuple[LogitPatch, LogitPatch, LogitPatch]
    predicted_iou: float
    presence: tuple[float, float, float]
    centre_values: NDArray[np.float32]


class Predictor:
    """A network that answers window requests, some at a time, on whatever memory there is.

    A network with embeddings embeds each window once: they are shared by all prompts, objects
    and directions, and by later runs of this predictor.

    Parameters
    ----------
    model : WindowModel
    max_batch : int
        Windows predicted at once. Halved for good where the device's memory is too small; at
        one window the network moves to the CPU.
    store : EmbeddingStore, optional
        Keeps embeddings on disk, too; without effect on networks without embeddings.
    """

    def __init__(
        self, model: WindowModel, *, max_batch: int = 4, store: EmbeddingStore | None = None
    ) -> None:
        self.model = model
        self._network = network_for(model, max_batch, store)

    @property
    def max_batch(self) -> int:
        """Windows predicted at once."""
        return self._network.decoding.size

    @property
    def embeddings(self) -> EmbeddingNetwork | None:
        """The network's embeddings; None where it has none."""
        return self._network if isinstance(self._network, EmbeddingNetwork) else None

    @property
    def looks_ahead(self) -> bool:
        """Whether `predict` does anything with the requests that come next."""
        return self._network.looks_ahead

    def limit_embeddings(self, max_bytes: int) -> None:
        """Keep embeddings of at most so many bytes in memory."""
        if self.embeddings is not None:
            self.embeddings.cache.max_bytes = max_bytes

    def predict(
        self, requests: Sequence[WindowRequest], ahead: Sequence[WindowRequest] = ()
    ) -> Iterator[tuple[int, PlanePrediction]]:
        """Yield (index of the request, its prediction) as batches are done.

        Parameters
        ----------
        requests : sequence of WindowRequest
        ahead : sequence of WindowRequest
            What is likely to be asked next; on a GPU its windows are embedded meanwhile.

        Raises
        ------
        PromptError
            A request has neither a box nor a point.
        InferenceError
            The network failed.
        VolumeError
            A slice cannot be read.
        """
        looks = [(i, frame) for i, r in enumerate(requests) for frame in self.frames(r)]
        waiting: dict[int, list[tuple[float, PlanePrediction]]] = {}
        start = 0
        while start < len(looks):
            # A request's views are compared with each other; they may fall into two batches.
            chunk = looks[start : start + self.max_batch]
            start += len(chunk)
            following = ahead if start == len(looks) else ()
            found_ones = self._predict_looks(requests, chunk, following)
            for (i, frame), found in zip(chunk, found_ones, strict=True):
                waiting.setdefault(i, []).append((_trust(found, frame), found))
            open_index = looks[start][0] if start < len(looks) else -1
            for i in [i for i in waiting if i != open_index]:
                yield i, max(waiting.pop(i), key=lambda pair: pair[0])[1]

    def frames(self, request: WindowRequest) -> tuple[Frame, ...]:
        """Return the frames that the network wants to see for a request, best guess first.

        Raises
        ------
        PromptError
            The request has neither a box nor a point.
        """
        if request.box is None and not request.points:
            raise PromptError("A window needs a box or a point on its centre slice; got neither.")
        shape = request.slices.stack.plane_shape_yx
        ordered = sorted(request.points, key=lambda p: not p.positive)
        points = [(p.y, p.x) for p in ordered]
        box = request.box
        if box is not None and request.look_margin:
            box = box.enlarged(request.look_margin)
        views = self.model.viewports(box, points, shape)
        return tuple(Frame.of(view, shape, request.quirks) for view in views)

    def _predict_looks(
        self,
        requests: Sequence[WindowRequest],
        chunk: Sequence[tuple[int, Frame]],
        ahead: Sequence[WindowRequest],
    ) -> list[PlanePrediction]:
        windows = [Window.read(requests[i], frame) for i, frame in chunk]
        prompts = [window_prompt(requests[i], frame) for i, frame in chunk]
        following = [
            partial(Window.read, request, frame)
            for request in ahead
            for frame in self.frames(request)
        ]
        raw = self._network.predict(windows, prompts, following)
        return [
            _blend(requests[i], frame, raw, row, windows[row].crops[CENTRE])
            for row, (i, frame) in enumerate(chunk)
        ]


def _blend(
    request: WindowRequest,
    frame: Frame,
    raw: WindowPrediction,
    row: int,
    centre_values: NDArray[np.float32],
) -> PlanePrediction:
    """Blend the candidates by their scores and put the logits back onto the plane."""
    logits, trust = raw.mask_logits[row], raw.predicted_iou[row]
    scores = candidate_scores(
        logits,
        trust,
        frame.outer,
        reference=request.reference,
        consistency_weight=request.consistency_weight,
        box=request.box,
        box_weight=request.box_weight,
    )
    mask_logits, shares = blended(logits, scores, request.sharpness)
    region = frame.inner(request.slices.stack.plane_shape_yx)
    on_frame = to_plane(mask_logits, frame, request.quirks)
    cut = on_frame[(slice(None), *region.within(frame.outer))]
    top, centre, bottom = (LogitPatch(region, layer) for layer in cut)
    presence = (1.0, 1.0, 1.0)
    if raw.presence is not None:
        first, second, third = (float(v) for v in raw.presence[row])
        presence = (first, second, third)
    values = centre_values[region.within(frame.outer)]
    return PlanePrediction((top, centre, bottom), float((shares * trust).sum()), presence, values)


def _trust(found: PlanePrediction, frame: Frame) -> float:
    """Rank the same prompt's looks: sure of itself, and the object not cut by the view's edge."""
    mask = found.patches[CENTRE].mask
    if not mask.any():
        return -1.0
    rim = max(1, min(frame.shape_yx) // 32)
    inner = mask[rim:-rim, rim:-rim].sum() if min(mask.shape) > 2 * rim else 0
    return found.predicted_iou - 2.0 * (1.0 - float(inner) / float(mask.sum()))
