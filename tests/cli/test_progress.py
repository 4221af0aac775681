from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from napari_slidesam.cli.progress import RemainingSlices, SliceProgress
from napari_slidesam.engine.results import SliceQuality, SliceResult, StopReason, TrackStop
from napari_slidesam.geometry import Box, Region
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts


def _prompts(object_id: int, *slices: int) -> ObjectPrompts:
    return ObjectPrompts(object_id, tuple(BoxPrompt(z, Box(0, 0, 2, 2)) for z in slices))


def _result(object_id: int, z: int, *stops: TrackStop) -> SliceResult:
    mask = np.ones((2, 2), dtype=bool)
    quality = SliceQuality(0.9, 0.9, 0.9)
    return SliceResult(object_id, 0, z, Region(0, 0, 2, 2), mask, quality, False, True, stops)


def test_the_total_shrinks_when_an_end_is_known() -> None:
    remaining = RemainingSlices([_prompts(1, 5)], (0, 20))
    assert (remaining.done, remaining.total) == (0, 20)
    remaining.add(_result(1, 5))
    remaining.add(_result(1, 5))  # a preview and its final result are one slice
    assert (remaining.done, remaining.total) == (1, 20)
    remaining.add(_result(1, 8, TrackStop(1, StopReason.EMPTY)))
    assert (remaining.done, remaining.total) == (2, 9)
    remaining.add(_result(1, 4, TrackStop(-1, StopReason.DRIFT)))
    assert (remaining.done, remaining.total) == (3, 5)


def test_an_end_between_two_prompts_says_nothing_of_what_lies_beyond() -> None:
    remaining = RemainingSlices([_prompts(1, 5, 15)], (0, 20))
    remaining.add(_result(1, 7, TrackStop(1, StopReason.MET_PROMPT)))
    assert remaining.total == 20
    remaining.add(_result(1, 16, TrackStop(1, StopReason.EMPTY)))
    assert remaining.total == 17


def test_objects_add_up() -> None:
    remaining = RemainingSlices([_prompts(1, 5), _prompts(2, 6)], (4, 8))
    remaining.add(_result(2, 6))
    assert (remaining.done, remaining.total) == (1, 8)


def test_the_bar_names_slice_and_objects() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    remaining = RemainingSlices([_prompts(1, 5), _prompts(2, 6)], (4, 8))
    with SliceProgress(console, remaining, n_objects=2, is_quiet=False) as bar:
        bar.show(_result(2, 6))
    assert "2 objects, slice 6" in screen.getvalue()
    assert "1/8" in screen.getvalue()


def test_a_quiet_bar_draws_nothing() -> None:
    screen = io.StringIO()
    remaining = RemainingSlices([_prompts(1, 5)], (4, 8))
    console = Console(file=screen, force_terminal=True)
    with SliceProgress(console, remaining, n_objects=1, is_quiet=True) as bar:
        bar.show(_result(1, 5))
    assert screen.getvalue() == ""
