"""Any network behind the protocol, asked many prompts on one slice of a volume."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_slidesam.errors import InferenceError
from napari_slidesam.geometry import Region
from napari_slidesam.model.protocol import EmbeddingModel, WindowPrompt
from napari_slidesam.model.views import put_back, resized

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.geometry import Viewport
    from napari_slidesam.model.protocol import WindowModel, WindowPrediction
    from napari_slidesam.tuning.superpixels import SuperpixelPrompt

logger = logging.getLogger(__name__)

CENTRE = 1
"""Place of the prompted slice in a window."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One candidate mask of one prompt, sure enough of itself.

    Parameters
    ----------
    prompt : SuperpixelPrompt
    region : Region
        The part of the plane that the network saw.
    mask : ndarray of bool, shape ``region.shape_yx``
    predicted_iou, stability : float
    is_cut : bool
        It touches the end of the view inside the plane: more of it may lie outside.
    """

    prompt: SuperpixelPrompt
    region: Region
    mask: NDArray[np.bool_]
    predicted_iou: float
    stability: float
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Sureness:
    """Which candidates are kept.

    Parameters
    ----------
    min_iou, min_stability : float
    stability_offset : float
        In logits.
    """

    min_iou: float
    min_stability: float
    stability_offset: float


@dataclass(frozen=True, slots=True)
class _Look:
    """A prompt, and the square in which the network wants to see it."""

    view: Viewport
    prompt: SuperpixelPrompt

    def window_prompt(self) -> WindowPrompt:
        box, point = self.prompt.box, self.prompt.point_yx
        return WindowPrompt(
            None if box is None else self.view.box_xyxy_model(box),
            () if point is None else (self.view.point_xy_model(*point),),
            () if point is None else (1,),
        )


class PlaneNetwork:
    """Asks a network about one slice after the other, on whatever memory there is.

    Parameters
    ----------
    model : WindowModel
        With embeddings, each view of a slice is embedded once for all its prompts.
    batch_size : int
        Prompts at once; halved for good where the device's memory is too small.
    """

    def __init__(self, model: WindowModel, batch_size: int = 16) -> None:
        self.model = model
        self.batch_size = batch_size

    def candidates(
        self, planes: NDArray[np.float32], prompts: Sequence[SuperpixelPrompt], sureness: Sureness
    ) -> Iterator[tuple[list[Candidate], dict[str, int]]]:
        """Yield, for batch after batch, the sure candidates and how many were not, by reason.

        Parameters
        ----------
        planes : ndarray of float32, shape (3, Y, X), range [0, 1]
        prompts : sequence of SuperpixelPrompt
        sureness : Sureness

        Raises
        ------
        InferenceError
            The network failed.
        """
        shape = (planes.shape[1], planes.shape[2])
        looks = [look for prompt in prompts for look in self._looks(prompt, shape)]
        if not isinstance(self.model, EmbeddingModel):
            yield from self._batches(planes, looks, sureness, None)
            return
        looks.sort(key=lambda look: _corner(look.view))
        for _, group in groupby(looks, key=lambda look: look.view):
            same = list(group)
            embedding = self._embedded(planes, same[0].view)
            yield from self._batches(planes, same, sureness, embedding)

    def _looks(self, prompt: SuperpixelPrompt, shape_yx: tuple[int, int]) -> list[_Look]:
        points = [] if prompt.point_yx is None else [prompt.point_yx]
        views = self.model.viewports(prompt.box, points, shape_yx)
        return [_Look(view, prompt) for view in views]

    def _batches(
        self,
        planes: NDArray[np.float32],
        looks: Sequence[_Look],
        sureness: Sureness,
        embedding: torch.Tensor | None,
    ) -> Iterator[tuple[list[Candidate], dict[str, int]]]:
        start = 0
        shape = (planes.shape[1], planes.shape[2])
        while start < len(looks):
            part = looks[start : start + self.batch_size]
            found = self._predicted(planes, part, embedding)
            if found is None:
                continue  # with a smaller batch
            start += len(part)
            yield _sure_ones(found, part, shape, sureness)

    def _predicted(
        self, planes: NDArray[np.float32], part: Sequence[_Look], embedding: torch.Tensor | None
    ) -> WindowPrediction | None:
        """Return the prediction of a batch, or None where it did not fit into memory."""
        prompts = [look.window_prompt() for look in part]
        device = self.model.device
        try:
            with torch.inference_mode():
                if embedding is not None and isinstance(self.model, EmbeddingModel):
                    shared = embedding.expand(len(part), -1, -1, -1)
                    return self.model.predict_embedded(shared, prompts)
                windows = torch.cat([_pixels(planes, look.view) for look in part]).to(device)
                return self.model.predict_windows(windows, prompts)
        except torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0] if str(error) else "out of memory"
        except RuntimeError as error:
            raise self._failure(error) from error
        # Outside of the except clause, so that the failed attempt's tensors are freed.
        if len(part) == 1:
            raise InferenceError(
                f"One window does not fit into memory ({reason}). Close other programs, or use "
                "the device 'cpu' or the embedded network."
            )
        self.batch_size = len(part) // 2
        logger.warning("%s: going on with %d prompts at a time", reason, self.batch_size)
        return None

    def _embedded(self, planes: NDArray[np.float32], view: Viewport) -> torch.Tensor:
        assert isinstance(self.model, EmbeddingModel)
        try:
            with torch.inference_mode():
                return self.model.embed_windows(_pixels(planes, view).to(self.model.device))
        except RuntimeError as error:
            raise self._failure(error) from error

    def _failure(self, error: RuntimeError) -> InferenceError:
        return InferenceError(
            f"The network {self.model.name} failed on {self.model.device}: {error}"
        )


def _corner(view: Viewport) -> tuple[int, int, int]:
    return (view.y0, view.x0, view.side)


def _pixels(planes: NDArray[np.float32], view: Viewport) -> torch.Tensor:
    """Return what a view shows, shape (1, 3, size, size); the border is repeated beyond it."""
    height, width = planes.shape[1:]
    rows = np.clip(np.arange(view.y0, view.y0 + view.side), 0, height - 1)
    cols = np.clip(np.arange(view.x0, view.x0 + view.side), 0, width - 1)
    crop = np.ascontiguousarray(planes[:, rows[:, None], cols])
    return torch.from_numpy(resized(crop, view.size)).unsqueeze(0)


def _sure_ones(
    out: WindowPrediction, part: Sequence[_Look], shape_yx: tuple[int, int], sureness: Sureness
) -> tuple[list[Candidate], dict[str, int]]:
    """Put the candidates that are sure of themselves back onto the plane."""
    logits = out.mask_logits[:, :, CENTRE].float().cpu()
    trust = out.predicted_iou.float().cpu()
    offset = sureness.stability_offset
    larger = (logits > -offset).sum((-2, -1))
    stability = (logits > offset).sum((-2, -1)) / larger.clamp(min=1)
    is_there = (logits > 0).any(-1).any(-1)
    is_trusted = trust >= sureness.min_iou
    is_stable = stability >= sureness.min_stability
    kept = is_there & is_trusted & is_stable
    dropped = {
        "empty": int((~is_there).sum()),
        "unsure": int((is_there & ~is_trusted).sum()),
        "unstable": int((is_there & is_trusted & ~is_stable).sum()),
    }
    found = []
    for row, column in kept.nonzero().tolist():
        region, mask, is_cut = _on_plane(logits[row, column], part[row].view, shape_yx)
        scores = (float(trust[row, column]), float(stability[row, column]))
        found.append(Candidate(part[row].prompt, region, mask, *scores, is_cut))
    return found, dropped


def _on_plane(
    logits: torch.Tensor, view: Viewport, shape_yx: tuple[int, int]
) -> tuple[Region, NDArray[np.bool_], bool]:
    """Return the part of the plane in view, the mask there, and whether the view cuts it."""
    region = view.region(shape_yx)
    assert region is not None, "prompts lie on the plane"
    seen = put_back(logits[None], (view.side, view.side))[0]
    rows, cols = region.within(Region(view.y0, view.x0, view.y0 + view.side, view.x0 + view.side))
    mask: NDArray[np.bool_] = seen[rows, cols] > 0
    height, width = shape_yx
    is_cut = (
        (region.y0 > 0 and mask[0].any())
        or (region.x0 > 0 and mask[:, 0].any())
        or (region.y1 < height and mask[-1].any())
        or (region.x1 < width and mask[:, -1].any())
    )
    return region, mask, bool(is_cut)
