from __future__ import annotations

import pytest

from napari_slidesam.engine.history import History
from napari_slidesam.errors import ConfigError


def filled(n: int, depth: int = 100) -> tuple[History[object], list[object]]:
    states: list[object] = [object() for _ in range(n + 1)]
    history: History[object] = History(depth)
    for i in range(n):
        history.push(f"step {i}", states[i], states[i + 1])
    return history, states


def test_steps_go_back_and_forth_in_order() -> None:
    history, states = filled(3)
    assert history.undo_names == ("step 2", "step 1", "step 0")
    assert history.redo_names == ()
    for i in (2, 1, 0):
        step = history.undo()
        assert step is not None
        assert step.before is states[i]
        assert step.after is states[i + 1]
    assert history.undo() is None
    assert history.redo_names == ("step 0", "step 1", "step 2")
    for i in range(3):
        step = history.redo()
        assert step is not None
        assert step.after is states[i + 1]
    assert history.redo() is None
    assert history.undo_names == ("step 2", "step 1", "step 0")


def test_a_new_step_drops_what_was_undone() -> None:
    history, states = filled(3)
    history.undo()
    history.push("other", states[2], object())
    assert history.redo_names == ()
    assert history.undo_names == ("other", "step 1", "step 0")


def test_what_changed_nothing_is_no_step() -> None:
    history, states = filled(1)
    history.undo()
    history.push("nothing", states[0], states[0])
    assert history.undo_names == ()
    assert history.redo_names == ("step 0",)


def test_the_oldest_steps_are_forgotten() -> None:
    history, _ = filled(10, depth=3)
    assert history.undo_names == ("step 9", "step 8", "step 7")
    with pytest.raises(ConfigError, match="at least 1 step; got a depth of 0"):
        History(0)


def test_only_an_open_last_step_is_extended() -> None:
    history, states = filled(2)
    assert not history.extend(object())
    middle, end = object(), object()
    history.push("open", states[2], middle, is_open=True)
    assert history.extend(end)
    step = history.undo()
    assert step is not None
    assert (step.before, step.after) == (states[2], end)
    assert not history.extend(object()), "the step before is not open"
    history.redo()
    assert not history.extend(object()), "a step that was redone is closed"


def test_nothing_is_extended_behind_the_back_of_redo() -> None:
    history, states = filled(1)
    middle = object()
    history.push("open", states[1], middle, is_open=True)
    history.push("later", middle, object())
    history.undo()
    assert not history.extend(object())
    assert history.redo_names == ("later",)
