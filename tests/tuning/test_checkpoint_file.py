"""Checkpoints: what is written is what is read, whole or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.checkpoint_file import (
    BEST_FILE,
    Checkpoint,
    Progress,
    load_best,
    load_checkpoint,
    save_best,
    save_checkpoint,
    sweep,
)
from napari_slidesam.tuning.run_identity import check_same_run

PROGRESS = Progress(step=7, windows=56, seconds=1.5, validated_step=4, best_step=4, best_dice=0.1)


@pytest.fixture
def checkpoint():
    weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones(2, 3)
    optimizer.step()
    return Checkpoint(
        progress=PROGRESS,
        trained={"weight": weight, "calls": torch.tensor(3)},
        optimizer=optimizer.state_dict(),
        scaler={},
        average={"weight": torch.zeros(2, 3), "calls": torch.tensor(2)},
        identity={"seed": "0"},
        config={"betas": (0.9, 0.99), "minutes": None},
    )


def test_a_checkpoint_comes_back(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "checkpoint.pt", checkpoint)
    found = load_checkpoint(tmp_path / "checkpoint.pt")
    assert found.progress == PROGRESS
    assert found.config == checkpoint.config
    assert torch.equal(found.trained["weight"], checkpoint.trained["weight"])
    assert torch.equal(found.average["calls"], torch.tensor(2))
    moments = found.optimizer["state"][0]["exp_avg"]
    assert torch.equal(moments, checkpoint.optimizer["state"][0]["exp_avg"])


def test_a_checkpoint_replaces_the_one_before(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    save_checkpoint(path, replace(checkpoint, progress=replace(PROGRESS, step=9), average=None))
    found = load_checkpoint(path)
    assert (found.progress.step, found.average) == (9, None)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_damaged_and_foreign_files_are_refused(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TuningError, match=r"cannot be read.*without resuming"):
        load_checkpoint(path)
    path.write_text("no checkpoint")
    with pytest.raises(TuningError, match="cannot be read"):
        load_checkpoint(path)
    torch.save({"model": {}}, path)
    with pytest.raises(TuningError, match="no checkpoint of this trainer"):
        load_checkpoint(path)
    with pytest.raises(TuningError, match="cannot be read"):
        load_checkpoint(tmp_path / "nothing.pt")


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path):
    path = tmp_path / "checkpoint.pt"

    class Evil:
        def __reduce__(self):
            return (path.with_name("evil").write_text, ("",))

    torch.save({"format": Evil()}, path)
    with pytest.raises(TuningError, match="cannot be read"):
        load_checkpoint(path)
    assert not path.with_name("evil").exists()


def test_what_differs_is_named(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.pt"
    check_same_run(path, checkpoint, {"seed": "0"})
    with pytest.raises(TuningError, match=r"seed: 0 there, 3 here.*another folder"):
        check_same_run(path, checkpoint, {"seed": "3"})
    with pytest.raises(TuningError, match="data: none there, abc here"):
        check_same_run(path, checkpoint, {"seed": "0", "data": "abc"})


def test_nothing_is_written_where_there_is_no_folder(tmp_path, checkpoint):
    with pytest.raises(TuningError, match=r"could not be saved.*last checkpoint is whole"):
        save_checkpoint(tmp_path / "gone" / "checkpoint.pt", checkpoint)
    with pytest.raises(TuningError, match="could not be saved"):
        save_best(tmp_path / "gone" / BEST_FILE, {}, PROGRESS, {})


def test_the_best_weights_come_back_with_their_score(tmp_path):
    assert load_best(tmp_path) is None
    whole = torch.arange(12.0).view(3, 4)
    # Views of one tensor, and one that is not contiguous.
    state = {"a": whole[:2], "b": whole[1:], "c": whole.t()}
    save_best(tmp_path / BEST_FILE, state, PROGRESS, {"seed": "0"})
    best = load_best(tmp_path)
    assert (best.step, best.dice) == (4, 0.1)
    assert all(torch.equal(best.state[name], value) for name, value in state.items())


def test_damaged_best_weights_are_refused(tmp_path):
    (tmp_path / BEST_FILE).write_bytes(b"nothing")
    with pytest.raises(TuningError, match="damaged"):
        load_best(tmp_path)


def test_halves_of_a_killed_run_are_swept_away(tmp_path):
    for name in (".0123abcd-checkpoint.pt", f".0123abcd-{BEST_FILE}", "checkpoint.pt", ".other"):
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", ".other"}
