"""Words, rows and pictures from a job's events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_slidesam.gui.finetune.curves import CurvesLook, draw_curves
from napari_slidesam.gui.finetune.history import JobHistory
from napari_slidesam.gui.finetune.presenter import (
    MAX_POINTS,
    actions,
    check_state,
    curves,
    dice_rows,
    duration,
    live_state,
    preview_pictures,
    size,
    state_text,
)
from napari_slidesam.gui.finetune.state import Action, Curves
from napari_slidesam.jobs.entries import JobEntry
from napari_slidesam.jobs.events import (
    DataChecked,
    Finished,
    Probed,
    StateChanged,
    Stepped,
    Validated,
)
from napari_slidesam.jobs.processes import ProcessMark
from napari_slidesam.jobs.spec import FinetuneJob

ALIVE = ProcessMark(1, 1.0)


def _entry(state: str = "running", **values: object) -> JobEntry:
    given = {"process": ALIVE if state == "running" else None, **values}
    return JobEntry(Path("queue/a"), FinetuneJob("a", epochs=4), state, **given)  # type: ignore[arg-type]


def _step(step: int, loss: float = 1.0) -> Stepped:
    return Stepped(step, 100, step / 25, step * 8, loss, {}, 1e-4, step * 2.0, 100.0, 3 * 2**30)


def _validated(step: int, **dice: float) -> Validated:
    return Validated(step, sum(dice.values()) / len(dice), dice, 1.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (40, "40 s"), (720, "12 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes() -> None:
    assert size(300 * 2**20) == "300 MiB"
    assert size(1.5 * 2**30) == "1.5 GiB"


def test_what_can_be_asked() -> None:
    assert actions(_entry(), 0, 2) == {Action.PAUSE, Action.STOP, Action.DOWN, Action.DUPLICATE}
    ready = actions(_entry("ready"), 1, 2)
    assert ready == {Action.START, Action.CHECK, Action.UP, Action.DUPLICATE, Action.REMOVE}
    stopping = actions(_entry(asked="stop"), 0, 1)
    assert Action.STOP in stopping  # once more ends the process
    assert Action.PAUSE not in stopping
    assert Action.START not in actions(_entry("done"), 0, 1)
    assert state_text(_entry(asked="pause")) == "pausing …"
    assert state_text(_entry("ready", check=ALIVE)) == "checking …"


def test_a_job_that_goes_on_from_a_checkpoint() -> None:
    history = JobHistory()
    history.add([_validated(0, a=0.5), *(_step(i) for i in range(1, 21)), _validated(20, a=0.9)])
    history.add([_step(11, 7.0), _step(12, 8.0)])  # the checkpoint was at step 10
    assert list(history.losses) == list(range(1, 13))
    assert list(history.validations) == [0]
    assert history.losses[12] == 8.0


def test_the_live_view() -> None:
    history = JobHistory()
    history.add([_validated(0, a=0.5, b=0.3), _step(25), _validated(25, a=0.7, b=0.2)])
    history.add([_validated(30, a=0.4, b=0.3)])
    live = live_state(_entry(), history)
    assert dict(live.facts)["Epoch"] == "1.0 of 4"
    assert dict(live.facts)["Time left"] == "2 min"
    assert live.share == 0.25
    assert not live.can_use
    rows = {row.label: (row.before, row.after) for row in dice_rows(history)}
    assert rows["a"] == (0.5, 0.7)  # of the best validation so far
    assert rows["mean"] == pytest.approx((0.4, 0.45))
    history.add([Finished("x", {"a": 0.5}, {"a": 0.9}, 30), StateChanged("stopped", "Early.")])
    live = live_state(_entry("stopped"), history)
    assert live.can_use
    assert live.share is None
    assert live.message == "Early."
    assert [(row.label, row.after) for row in live.dice] == [("a", 0.9)]


def test_what_a_look_at_the_data_found() -> None:
    history = JobHistory()
    assert check_state(_entry("ready", check=ALIVE), history).is_running
    checked = DataChecked(2, 1234, 5, ("a: 1 object",), {"1": 1234}, {"empty": 3}, ("Few.",))
    history.add_look([checked, Probed(700.0, 2**30, 0.5, 1400)])
    state = check_state(_entry("ready"), history)
    facts = dict(state.facts)
    assert facts["Data"] == "2 volumes, 5 objects, 1,234 windows"
    assert facts["Windows by label"] == "1 (1,234)"
    assert facts["Left out"] == "empty: 3"
    assert facts["Training takes"] == "about 12 min for 1,400 steps"
    assert facts["Memory"] == "about 1.0 GiB"
    assert state.warnings == ("Few.",)
    history.add_look([StateChanged("failed", "No labels.")])
    assert check_state(_entry("ready"), history).problem == "No labels."


def test_long_curves_are_thinned_out() -> None:
    history = JobHistory(losses={i: float(i) for i in range(1, 10_001)})
    found = curves(history)
    assert len(found.steps) <= MAX_POINTS
    assert found.steps[-1] == 10_000


@pytest.mark.parametrize("n", [0, 1, 200])
def test_curves_are_drawn_in_the_size_and_colour_that_is_asked_for(n: int) -> None:
    dice = (0.5, 0.8) if n > 1 else (0.5,) if n else ()
    given = Curves(tuple(range(1, n + 1)), (0.5,) * n, (0, 100)[: len(dice)], dice)
    picture = draw_curves(given, CurvesLook(240, 160, 1.0, (1.0, 0.0, 0.0)))
    assert picture.shape == (160, 240, 4)
    assert picture[..., 3].min() == 0  # see-through
    red = (picture[..., 0] > 200) & (picture[..., 1] < 30) & (picture[..., 3] > 200)
    assert red.any()


def test_the_preview_shows_mask_and_outline() -> None:
    image = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    truth, before, after = (np.zeros((20, 20), dtype=bool) for _ in range(3))
    truth[5:15, 5:15] = True
    after[6:14, 6:14] = True
    state = preview_pictures(image, truth, before, after, "slice 1")
    assert state.title == "slice 1"
    assert state.before.shape == state.after.shape == (20, 20, 3)
    assert tuple(state.before[5, 5]) == tuple(state.after[5, 5]) == (64, 200, 255)
    assert state.before[9, 9, 0] == state.before[9, 9, 2]
    assert state.after[9, 9, 0] > state.after[9, 9, 2]
    flat = preview_pictures(np.zeros((4, 4), np.float32), *[np.zeros((4, 4), bool)] * 3, "")
    assert flat.before.max() == 0
