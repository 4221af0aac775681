"""Predicting windows of a volume: crop, normalise, run the network, put the logits back.

The network sees a viewport of each window in its own frame; everything above the predictor
speaks plane pixels.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from napari_slidesam.engine.config import CANDIDATE_SHARPNESS
from napari_slidesam.engine.fusion import LOGIT_LIMIT, LogitPatch
from napari_slidesam.errors import InferenceError, PromptError
from napari_slidesam.geometry import Box, Region, Viewport, mask_to_box
from napari_slidesam.intensity import normalise
from napari_slidesam.model.protocol import WINDOW_SLICES, WindowPrediction, WindowPrompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction

    from numpy.typing import NDArray

    from napari_slidesam.model.protocol import WindowModel
    from napari_slidesam.prompts import PointPrompt
    from napari_slidesam.slice_cache import SliceCache

logger = logging.getLogger(__name__)

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

    Parameters
    ----------
    model : WindowModel
    max_batch : int
        Windows predicted at once. Halved for good where the device's memory is too small; at
        one window the network moves to the CPU.
    """

    def __init__(self, model: WindowModel, *, max_batch: int = 4) -> None:
        self.model = model
        self.max_batch = max_batch

    def predict(self, requests: Sequence[WindowRequest]) -> Iterator[tuple[int, PlanePrediction]]:
        """Yield (index of the request, its prediction) as batches are done.

        Raises
        ------
        PromptError
            A request has neither a box nor a point.
        InferenceError
            The network failed.
        VolumeError
            A slice cannot be read.
        """
        looks = [(i, view) for i, r in enumerate(requests) for view in self._viewports(r)]
        waiting: dict[int, list[tuple[float, PlanePrediction]]] = {}
        start = 0
        while start < len(looks):
            # A request's views are compared with each other; they may fall into two batches.
            chunk = looks[start : start + self.max_batch]
            start += len(chunk)
            for (i, view), found in zip(chunk, self._predict_views(requests, chunk), strict=True):
                waiting.setdefault(i, []).append((_trust(found, view), found))
            open_index = looks[start][0] if start < len(looks) else -1
            for i in [i for i in waiting if i != open_index]:
                yield i, max(waiting.pop(i), key=lambda pair: pair[0])[1]

    def _viewports(self, request: WindowRequest) -> tuple[Viewport, ...]:
        if request.box is None and not request.points:
            raise PromptError("A window needs a box or a point on its centre slice; got neither.")
        shape = request.slices.stack.plane_shape_yx
        ordered = sorted(request.points, key=lambda p: not p.positive)
        points = [(p.y, p.x) for p in ordered]
        return self.model.viewports(request.box, points, shape)

    def _predict_views(
        self, requests: Sequence[WindowRequest], chunk: Sequence[tuple[int, Viewport]]
    ) -> list[PlanePrediction]:
        crops = [_window_crops(requests[i], view) for i, view in chunk]
        windows = [
            _resized(normalise(crop, requests[i].low_high), view.size)
            for crop, (i, view) in zip(crops, chunk, strict=True)
        ]
        prompts = [_window_prompt(requests[i], view) for i, view in chunk]
        raw = self._forward(torch.from_numpy(np.stack(windows)), prompts)
        return [
            _blend(requests[i], view, raw, row, crops[row][CENTRE])
            for row, (i, view) in enumerate(chunk)
        ]

    def _forward(self, windows: torch.Tensor, prompts: Sequence[WindowPrompt]) -> WindowPrediction:
        """Run the network; halve the batch, then leave the device, where memory runs out."""
        try:
            with torch.inference_mode():
                out = self.model.predict_windows(windows.to(self.model.device), prompts)
                presence = None if out.presence is None else out.presence.float().cpu()
                return WindowPrediction(
                    out.mask_logits.float().cpu(), out.predicted_iou.float().cpu(), presence
                )
        except torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0] if str(error) else "out of memory"
        except RuntimeError as error:
            raise InferenceError(
                f"The network {self.model.name} failed on {len(prompts)} windows of "
                f"{tuple(windows.shape[1:])} on {self.model.device}: {error}"
            ) from error
        # Outside of the except clause, so that the failed attempt's tensors are freed.
        if len(prompts) > 1:
            self.max_batch = max(1, len(prompts) // 2)
            self._warn(f"{reason}: going on with {self.max_batch} windows at a time.")
            half = self.max_batch
            first = self._forward(windows[:half], prompts[:half])
            second = self._forward(windows[half:], prompts[half:])
            return _joined(first, second)
        if self.model.device.type == "cpu":
            raise InferenceError(
                f"One window does not fit into memory ({reason}). Close other programs or use "
                "the embedded network."
            )
        self._warn(f"{reason}: one window does not fit on the device; going on with the CPU.")
        self.model.to_device(torch.device("cpu"))
        return self._forward(windows, prompts)

    @staticmethod
    def _warn(message: str) -> None:
        logger.warning(message)
        warnings.warn(message, UserWarning, stacklevel=4)


def _joined(first: WindowPrediction, second: WindowPrediction) -> WindowPrediction:
    presence = None
    if first.presence is not None and second.presence is not None:
        presence = torch.cat([first.presence, second.presence])
    return WindowPrediction(
        torch.cat([first.mask_logits, second.mask_logits]),
        torch.cat([first.predicted_iou, second.predicted_iou]),
        presence,
    )


def _crop(slices: SliceCache, position: int | Fraction, view: Viewport) -> NDArray[np.float32]:
    """Cut the viewport out of a plane, its border pixels repeated beyond the edge."""
    height, width = slices.stack.plane_shape_yx
    rows = np.clip(np.arange(view.y0, view.y0 + view.side), 0, height - 1)
    cols = np.clip(np.arange(view.x0, view.x0 + view.side), 0, width - 1)
    region = Region(int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1)
    inside = slices.read_at(position, region)
    if inside.shape == (view.side, view.side):
        return inside
    out: NDArray[np.float32] = inside[np.ix_(rows - rows[0], cols - cols[0])]
    return out


def _resized(images: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Resample square images (S, n, n) to (S, size, size), averaged where they shrink."""
    side = images.shape[-1]
    if side == size:
        return np.ascontiguousarray(images)
    tensor = torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(0)
    out = F.interpolate(
        tensor, size=(size, size), mode="bilinear", align_corners=False, antialias=side > size
    )
    resampled: NDArray[np.float32] = out[0].numpy()
    return resampled


def _window_crops(request: WindowRequest, view: Viewport) -> NDArray[np.float32]:
    """Return the stored values inside the viewport; float32, shape (3, side, side)."""
    positions = [request.position + k * request.step for k in (-1, 0, 1)]
    return np.stack([_crop(request.slices, p, view) for p in positions])


def _window_prompt(request: WindowRequest, view: Viewport) -> WindowPrompt:
    masks = None
    if any(mask is not None for mask in request.masks):
        layers = np.zeros((WINDOW_SLICES, view.side, view.side), dtype=np.float32)
        for layer, patch in zip(layers, request.masks, strict=True):
            if patch is not None:
                layer[:] = patch.on(_square(view), -LOGIT_LIMIT)
        masks = _resized(np.tanh(layers / 2), view.size)
    return WindowPrompt(
        box_xyxy_model=None if request.box is None else view.box_xyxy_model(request.box),
        points_xy_model=tuple(view.point_xy_model(p.y, p.x) for p in request.points),
        point_labels=tuple(int(p.positive) for p in request.points),
        mask_logits_model=masks,
    )


def _square(view: Viewport) -> Region:
    return Region(view.y0, view.x0, view.y0 + view.side, view.x0 + view.side)


def _blend(
    request: WindowRequest,
    view: Viewport,
    raw: WindowPrediction,
    row: int,
    centre_values: NDArray[np.float32],
) -> PlanePrediction:
    """Blend the candidates by their scores and put the logits back onto the plane."""
    logits, trust = raw.mask_logits[row], raw.predicted_iou[row]
    score = trust
    if request.reference is not None:
        small = torch.from_numpy(request.reference.on(_square(view)))
        small = F.adaptive_max_pool2d(small[None], logits.shape[-2:])[0] > 0
        masks = logits[:, CENTRE] > 0
        union = (masks | small).sum((-2, -1)).clamp(min=1)
        score = trust + request.consistency_weight * (masks & small).sum((-2, -1)) / union
    if request.box is not None and request.box_weight > 0:
        fit = [_box_fit(masks, request.box, view) for masks in logits[:, CENTRE] > 0]
        score = score + request.box_weight * torch.tensor(fit)
    shares = (request.sharpness * score).softmax(0)
    blended = (shares[:, None, None, None] * logits).sum(0)
    region = view.region(request.slices.stack.plane_shape_yx)
    assert region is not None, "prompts are checked to touch the plane"
    on_square = F.interpolate(
        blended[None],
        size=(view.side, view.side),
        mode="bilinear",
        align_corners=False,
        antialias=view.side < blended.shape[-1],
    )[0].numpy()
    cut = on_square[(slice(None), *region.within(_square(view)))]
    top, centre, bottom = (LogitPatch(region, layer) for layer in cut)
    scores = (1.0, 1.0, 1.0)
    if raw.presence is not None:
        first, second, third = (float(v) for v in raw.presence[row])
        scores = (first, second, third)
    values = centre_values[region.within(_square(view))]
    return PlanePrediction((top, centre, bottom), float((shares * trust).sum()), scores, values)


def _box_fit(mask: torch.Tensor, box: Box, view: Viewport) -> float:
    """Return the IoU of a mask's bounding box, in a square frame of any size, with a plane box."""
    found = mask_to_box(mask.numpy())
    if found is None:
        return 0.0
    scale = view.side / mask.shape[-1]
    y0, x0, y1, x1 = (v * scale for v in found.yxyx)
    height = min(y1, box.y1 - view.y0) - max(y0, box.y0 - view.y0)
    width = min(x1, box.x1 - view.x0) - max(x0, box.x0 - view.x0)
    common = max(0.0, height) * max(0.0, width)
    return common / ((y1 - y0) * (x1 - x0) + box.height * box.width - common)


def _trust(found: PlanePrediction, view: Viewport) -> float:
    """Rank the same prompt's looks: sure of itself, and the object not cut by the view's edge."""
    mask = found.patches[CENTRE].mask
    if not mask.any():
        return -1.0
    rim = max(1, view.side // 32)
    inner = mask[rim:-rim, rim:-rim].sum() if min(mask.shape) > 2 * rim else 0
    return found.predicted_iou - 2.0 * (1.0 - float(inner) / float(mask.sum()))
