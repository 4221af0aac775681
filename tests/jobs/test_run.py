from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_slidesam.errors import DeviceError, TuningError
from napari_slidesam.jobs.events import (
    DataChecked,
    Finished,
    Probed,
    StateChanged,
    Stepped,
    Validated,
)
from napari_slidesam.jobs.run import run_job, write_preview
from napari_slidesam.jobs.schedule import LEAST_GAIN_OF_FEW, trainer_config
from napari_slidesam.jobs.spec import (
    ADAPTER_FOLDER,
    CONTROL_FILE,
    EVENTS_FILE,
    PREVIEW_FILE,
    RUN_FOLDER,
    FinetuneJob,
    PairSpec,
)
from napari_slidesam.jobs.status import read_status, write_ask
from napari_slidesam.jobs.tail import EventTail
from napari_slidesam.jobs.validation import Preview
from napari_slidesam.model.adapters import adapter_rank, load_adapter
from napari_slidesam.model.registry import load_model
from napari_slidesam.tuning.checkpoint_file import clear_gain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def job(tmp_path, write_pair, tiny_weights):
    image, labels = write_pair(tmp_path / "files", "brain")
    return FinetuneJob(
        "ellipsoids",
        pairs=(PairSpec("brain", str(image), str(labels)),),
        model=str(tiny_weights),
        rank=2,
        epochs=1,
        learning_rate=1e-3,
        batch_size=4,
        axes=(0,),
        validation_share=0.35,
        device="cpu",
        precision="float32",
    )


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def asks(*answers):
    """Ask for the answers one after the other, the last one for ever."""
    stream = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda: next(stream)


def test_from_pairs_to_an_adapter(job, tmp_path):
    folder = tmp_path / "job"
    job.save(folder)
    events = list(run_job(folder))
    kinds = [event.kind for event in events]
    assert kinds[:4] == ["state", "checked", "probed", "validated"]
    assert kinds[-2:] == ["finished", "state"]
    assert of(StateChanged, events) == [StateChanged("running"), StateChanged("done")]
    assert read_status(folder).is_over
    assert EventTail(folder / EVENTS_FILE).read() == events

    (checked,), (probed,) = of(DataChecked, events), of(Probed, events)
    steps = of(Stepped, events)
    assert steps[-1].step == probed.total_steps == -(-checked.windows // 4)
    assert all(np.isfinite(s.loss) for s in steps)
    assert probed.seconds > 0
    assert probed.peak_memory_bytes > 2**20

    validated = of(Validated, events)
    (finished,) = of(Finished, events)
    assert (validated[0].step, validated[-1].step) == (0, steps[-1].step)
    best = max(validated, key=lambda v: (v.dice, -v.step))
    # With two objects a gain is none unless it is clear.
    needed = clear_gain(validated[0].dice, LEAST_GAIN_OF_FEW)
    best = best if best.dice > needed else validated[0]
    assert (finished.kept_step, dict(finished.after)) == (best.step, dict(best.dice_by_label))
    assert finished.before == validated[0].dice_by_label

    run = {path.name for path in (folder / RUN_FOLDER).iterdir()}
    assert run >= {"log.csv", "validation.csv", "curves.png"}
    assert any(name.startswith("events.out.tfevents.") for name in run)

    adapter = folder / ADAPTER_FOLDER
    assert finished.adapter == str(adapter)
    model = load_model(job.model, "cpu")
    load_adapter(model, adapter)
    assert adapter_rank(model) == 2
    card = (adapter / "README.md").read_text()
    assert "ellipsoids" in card
    assert "brain, slices" in card
    metrics = json.loads((adapter / "metrics.json").read_text())
    assert metrics["settings"]["learning_rate"] == 1e-3
    assert metrics["dice_after"] == dict(finished.after)
    with np.load(folder / PREVIEW_FILE) as preview:
        assert set(preview) == {"image", "truth", "before", "after", "title"}
        assert preview["image"].dtype == np.float32
        assert preview["truth"].any()
        assert preview["before"].shape == preview["after"].shape == preview["image"].shape
        assert str(preview["title"]).startswith("brain, slice")


def test_pausing_and_going_on(job, tmp_path):
    folder = tmp_path / "job"
    job.save(folder)
    first = []
    for event in run_job(folder):
        first.append(event)
        if isinstance(event, Stepped):
            write_ask(folder, "pause")
    assert read_status(folder).state == "paused"
    assert "start it again" in first[-1].message
    assert not of(Finished, first)
    assert not (folder / ADAPTER_FOLDER).exists()

    write_ask(folder, "run")
    second = list(run_job(folder))
    assert read_status(folder).state == "done"
    steps = [s.step for s in of(Stepped, first) + of(Stepped, second)]
    assert steps == sorted(set(steps))
    # The untouched network was validated before the pause, and is still what is compared with.
    assert 0 not in [v.step for v in of(Validated, second)]
    (finished,) = of(Finished, second)
    assert finished.before == of(Validated, first)[0].dice_by_label

    whole = tmp_path / "whole"
    job.save(whole)
    unbroken = of(Stepped, list(run_job(whole)))
    resumed = of(Stepped, first) + of(Stepped, second)
    assert [s.loss for s in resumed] == pytest.approx([s.loss for s in unbroken], rel=1e-4)


def test_stopping_keeps_the_best_so_far(job, tmp_path):
    folder = tmp_path / "job"
    job.save(folder)
    events = list(run_job(folder, ask=asks("run", "run", "stop")))
    assert [e.state for e in of(StateChanged, events)] == ["running", "stopped"]
    assert of(Stepped, events)[-1].step < of(Probed, events)[0].total_steps
    (finished,) = of(Finished, events)
    assert finished.before
    load_model(job.model, "cpu", adapter=folder / ADAPTER_FOLDER)


def test_asked_to_pause_before_it_began(job, tmp_path):
    folder = tmp_path / "job"
    job.save(folder)
    (folder / CONTROL_FILE).write_text('{"ask": "pause"}')
    events = list(run_job(folder))
    assert [e.kind for e in events] == ["state", "checked", "state"]
    assert read_status(folder).state == "paused"


def test_nothing_held_out_keeps_the_last_state(job, tmp_path):
    folder = tmp_path / "job"
    replace(job, validation_share=0.0).save(folder)
    events = list(run_job(folder))
    (finished,) = of(Finished, events)
    assert (finished.before, finished.after) == ({}, {})
    assert finished.kept_step == of(Stepped, events)[-1].step
    assert "Nothing was held out" in (folder / ADAPTER_FOLDER / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "said", "error"),
    [
        ({"labels": (9,)}, "Label 9 was asked for", TuningError),
        ({"pairs": ()}, "nothing to train on", TuningError),
        ({"device": "tpu"}, "device is auto", DeviceError),
        ({"learning_rate": 1e30}, "smaller learning rate", TuningError),
    ],
)
def test_what_fails_says_what_to_do(job, tmp_path, change, said, error):
    folder = tmp_path / "job"
    replace(job, **change).save(folder)
    last = list(run_job(folder))[-1]
    assert isinstance(last, StateChanged)
    assert last.state == "failed"
    assert said in last.message
    assert "Traceback" not in last.message
    assert read_status(folder).message == last.message
    if error is not TuningError:
        with pytest.raises(error):
            list(run_job(folder, raises=True))


def test_other_data_than_those_of_the_checkpoint(job, tmp_path):
    folder = tmp_path / "job"
    job.save(folder)
    for event in run_job(folder, ask=asks("run", "run", "pause")):
        last = event
    assert last.state == "paused"
    replace(job, labels=(3,)).save(folder)
    last = list(run_job(folder))[-1]
    assert last.state == "failed"
    assert "belongs to another run" in last.message


def test_a_folder_without_a_job(tmp_path):
    last = list(run_job(tmp_path))[-1]
    assert last.state == "failed"
    assert "no readable job" in last.message


def test_schedules(job):
    measured = Probed(seconds=1000.0, peak_memory_bytes=1, seconds_per_step=1.0, total_steps=1000)
    by_epochs = trainer_config(replace(job, epochs=7), measured)
    assert (by_epochs.epochs, by_epochs.validate_every_steps) == (7, 100)
    assert by_epochs.validate_every_minutes is None
    assert (by_epochs.warmup_steps, by_epochs.report_every) == (100, 5)
    short = replace(measured, seconds=60.0, total_steps=60)
    by_time = trainer_config(replace(job, minutes=1.0), short)
    assert by_time.validate_every_steps is None
    assert by_time.validate_every_minutes == pytest.approx(0.1)
    assert by_time.warmup_steps == 6
    # A step is kept for a clear gain where chance is large.
    few, many = (trainer_config(job, measured, validated_objects=n) for n in (3, 4))
    assert (few.least_gain, many.least_gain) == (LEAST_GAIN_OF_FEW, 0.0)
    # Long validations come less often: 400 windows at half the price of a trained one.
    costly = trainer_config(replace(job, minutes=1.0), short, "", 400)
    assert costly.validate_every_minutes == pytest.approx(400 * 0.5 / 4 / 0.25 / 60)


def test_preview_keeps_the_first_mask(tmp_path: Path):
    first, second = np.eye(4, dtype=bool), np.ones((4, 4), dtype=bool)
    image = np.zeros((4, 4), np.float32)
    path = tmp_path / PREVIEW_FILE
    write_preview(path, Preview(image, second, first, "a"), is_first=True)
    write_preview(path, Preview(image, second, second, "a"), is_first=False)
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["before"], first)
        np.testing.assert_array_equal(stored["after"], second)
    path.unlink()
    write_preview(path, Preview(image, second, second, "a"), is_first=False)
    with np.load(path) as stored:
        assert not stored["before"].any()
    path.write_bytes(path.read_bytes()[:100])  # as a full disk leaves it
    write_preview(path, Preview(image, second, second, "a"), is_first=False)
    with np.load(path) as stored:
        assert not stored["before"].any()
    write_preview(
        tmp_path / "none" / PREVIEW_FILE, Preview(image, second, second, "a"), is_first=True
    )


def test_the_random_state_outside_is_left_alone(job, tmp_path):
    from napari_slidesam.jobs.data import load_data
    from napari_slidesam.jobs.probe import probe
    from napari_slidesam.jobs.schedule import task_config
    from napari_slidesam.tuning.finetune import FinetuneTask

    data = load_data(job, tmp_path)
    assert data is not None
    task = FinetuneTask(load_model(job.model, "cpu"), data.windows, task_config(job))
    before = {n: t.clone() for n, t in task.trained_state().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    measured = probe(task, trainer_config(job, None))
    assert torch.equal(torch.rand(1), expected)
    assert measured.total_steps == task.steps_per_epoch
    assert all(torch.equal(t, before[n]) for n, t in task.trained_state().items())
    assert all(p.grad is None for p in task.model.parameters())
