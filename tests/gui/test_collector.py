from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from napari_slidesam.gui.collector import RARER, FullCollections

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def usual() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(500, 5, 7)
    yield gc.get_threshold()
    gc.set_threshold(*before)


def test_full_collections_are_rare_while_somebody_holds_them_off(
    usual: tuple[int, int, int],
) -> None:
    collections = FullCollections()
    collections.hold_off()
    collections.hold_off()
    assert gc.get_threshold() == (*usual[:2], usual[2] * RARER)
    collections.release()
    assert gc.get_threshold()[2] == usual[2] * RARER
    collections.release()
    assert gc.get_threshold() == usual


def test_one_is_made_in_a_process() -> None:
    collections = FullCollections()
    made: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            made.append(1)

    gc.callbacks.append(note)
    try:
        collections.clean_once()
        collections.clean_once()
    finally:
        gc.callbacks.remove(note)
    assert len(made) == 1
