"""The baselines by name: what a box gives without a trained network.

They start from boxes alone. ``contour-interpolation`` draws nothing beyond the outer prompted
slices, as the tool of annotation programs that it stands for; with one box that is one slice.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_slidesam.engine.objects import PlaneMask
from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.placed import PlacedMask
from napari_slidesam.evaluation.planar import (
    PlanarSegmenter,
    grabcut_in_box,
    load_cv2,
    otsu_in_box,
    walker_in_box,
)
from napari_slidesam.evaluation.shapes import trace_box, trace_ellipse
from napari_slidesam.evaluation.sliding import trace_sliding
from napari_slidesam.evaluation.tracing import BoxTask, Trace
from napari_slidesam.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_slidesam.prompts import ObjectPrompts

_ITK_SLICE_AXIS = 2
"""ITK counts axes from the fastest: numpy's axis 0 of three is its axis 2."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A way from boxes to a mask.

    Parameters
    ----------
    name : str
    trace : callable
        Returns the `Trace` of a `BoxTask`.
    require : callable, optional
        Loads what the baseline needs beyond the package's own dependencies, or raises
        `EvaluationError`.
    """

    name: str
    trace: Callable[[BoxTask], Trace]
    require: Callable[[], object] | None = None

    def check_available(self) -> None:
        """Load optional packages; raise `EvaluationError` where one is missing."""
        if self.require is not None:
            self.require()

    def segment(
        self, volume_zyx: NDArray[Any], spacing_zyx: Sequence[float], prompts: ObjectPrompts
    ) -> NDArray[np.bool_]:
        """Return the object's mask.

        Parameters
        ----------
        volume_zyx : ndarray of numbers, shape (Z, Y, X)
        spacing_zyx : sequence of 3 floats
        prompts : ObjectPrompts
            Along any axis, with at least one box.

        Returns
        -------
        ndarray of bool, shape (Z, Y, X)

        Raises
        ------
        EvaluationError
            The object has no box, or an optional package is missing.
        PromptError
            A box lies outside the volume.
        """
        trace = self.trace(BoxTask.from_prompts(volume_zyx, spacing_zyx, prompts))
        return PlacedMask.from_planes(trace.planes).to_array(volume_zyx.shape, prompts.axis)


def get_baseline(name: str) -> Baseline:
    """Return the baseline of this name; raise `EvaluationError` where there is none."""
    try:
        return BASELINES[name]
    except KeyError:
        raise EvaluationError(
            f"A baseline is one of {', '.join(BASELINES)}; got {name!r}."
        ) from None


def trace_contours(task: BoxTask, segment: PlanarSegmenter = otsu_in_box) -> Trace:
    """Segment the prompted slices and interpolate their contours morphologically.

    Albu, Beugeling and Laurendeau 2008; Zukic et al. 2016 (ITK).
    """
    planes = {i: segment(task.image_syx[i], box) for i, box in task.boxes.items()}
    planes = {i: plane for i, plane in planes.items() if plane.mask.any()}
    if len(planes) < 2:
        return Trace(planes)
    drawn = PlacedMask.from_planes(planes)
    filled = _interpolated(np.pad(drawn.mask, ((0, 0), (1, 1), (1, 1))))[:, 1:-1, 1:-1]
    start, y0, x0 = drawn.start_syx
    region = Region(y0, x0, y0 + drawn.mask.shape[1], x0 + drawn.mask.shape[2])
    return Trace({start + k: PlaneMask(region, mask) for k, mask in enumerate(filled)})


def _interpolated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask, shape (S, Y, X), with its empty slices filled between the others."""
    itk = load_itk()
    threads = itk.MultiThreaderBase
    usual = threads.GetGlobalDefaultThreader()
    # The filter leaves objects in ITK's pool of threads; freed with the process, they crash it.
    threads.SetGlobalDefaultThreader(itk.MultiThreaderBaseEnums.Threader_Platform)
    drawn = mask.astype(np.uint8)  # must live as long as ITK's view of it
    try:
        interpolator = itk.MorphologicalContourInterpolator[itk.Image[itk.UC, 3]].New()
        interpolator.SetInput(itk.image_view_from_array(drawn))
        interpolator.SetAxis(_ITK_SLICE_AXIS)
        interpolator.Update()
        filled: NDArray[np.uint8] = itk.array_from_image(interpolator.GetOutput())
    finally:
        threads.SetGlobalDefaultThreader(usual)
    return filled > 0


@lru_cache(maxsize=1)
def load_itk() -> Any:
    """Return ITK with its morphological contour interpolation; the first call takes seconds.

    Raises
    ------
    EvaluationError
        It is not installed.
    """
    with warnings.catch_warnings():
        # SWIG's types lack __module__: where that warning is an error, the interpreter crashes.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            itk = importlib.import_module("itk")
            itk.MorphologicalContourInterpolator[itk.Image[itk.UC, 3]].New()
            # Its modules load when first used: all that are needed must load in here.
            itk.array_from_image(itk.image_view_from_array(np.zeros((1, 1, 1), dtype=np.uint8)))
        except (ImportError, AttributeError) as error:
            raise EvaluationError(
                "The baseline 'contour-interpolation' needs ITK's morphological contour "
                "interpolation, which is not installed: "
                "pip install 'napari-slidesam[evaluation]'."
            ) from error
    return itk


def _trace_otsu(task: BoxTask) -> Trace:
    return trace_sliding(task, otsu_in_box)


def _trace_grabcut(task: BoxTask) -> Trace:
    return trace_sliding(task, grabcut_in_box)


def _trace_walker(task: BoxTask) -> Trace:
    return trace_sliding(task, walker_in_box)


BASELINES: dict[str, Baseline] = {
    b.name: b
    for b in (
        Baseline("box", trace_box),
        Baseline("ellipse", trace_ellipse),
        Baseline("otsu", _trace_otsu),
        Baseline("grabcut", _trace_grabcut, load_cv2),
        Baseline("random-walker", _trace_walker),
        Baseline("contour-interpolation", trace_contours, load_itk),
    )
}
"""All baselines, image-blind ones first."""
