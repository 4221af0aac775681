from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_slidesam.cli.training_progress import TrainingProgress, duration
from napari_slidesam.jobs.events import Probed, StateChanged, Stepped, Validated
from napari_slidesam.jobs.spec import ADAPTER_FOLDER, EVENTS_FILE, FinetuneJob
from napari_slidesam.jobs.status import read_status
from napari_slidesam.model.registry import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Run = Callable[..., Result]
    RunJson = Callable[..., dict[str, Any]]


@pytest.fixture
def labels_path(tmp_path: Path, truth: np.ndarray, affine: np.ndarray) -> Path:
    path = tmp_path / "ball_labels.nii.gz"
    nib.save(nib.Nifti1Image(truth.T, affine), path)
    return path


@pytest.fixture
def command(
    nifti_path: Path, labels_path: Path, tiny_weights: Path, tmp_path: Path
) -> list[object]:
    return [
        "finetune", "--pair", f"{nifti_path},{labels_path}", "-o", tmp_path / "job",
        "--model", tiny_weights, "--rank", 2, "--axes", "z", "--batch-size", 4, "--device", "cpu",
        "--epochs", 1, "--validation-share", 0.35, "--precision", "float32",
    ]  # fmt: skip


def test_an_adapter_from_a_pair(command: list[object], run_cli: Run, tmp_path: Path) -> None:
    settings = ["--alpha", 4, "--dropout", 0.1, "--weight-decay", 0.05, "--no-encoder"]
    result = run_cli(*command, "--name", "balls", *settings)
    assert result.exit_code == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["Dice", "before", "after"]
    assert rows[-1].endswith("adapter")
    assert any(row.startswith("ball/2 ") for row in rows)
    assert any(row.startswith("mean ") for row in rows)
    assert "There are only" in result.stderr
    load_model(str(command[command.index("--model") + 1]), "cpu", adapter=tmp_path / "job/adapter")
    job = FinetuneJob.load(tmp_path / "job")
    assert (job.name, job.alpha, job.dropout, job.weight_decay) == ("balls", 4, 0.1, 0.05)
    assert (job.train_encoder, job.train_decoder) == (False, True)

    again = run_cli(*command)
    assert again.exit_code == 2
    assert "holds a job already" in again.stderr


def test_dry_run_writes_nothing(
    command: list[object], run_cli: Run, run_json: RunJson, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    facts = run_json(*command, "--dry-run")
    assert facts["volumes"] == 1
    assert set(facts["labels"]) == {"1", "2"}
    assert facts["warnings"]
    told = run_cli(*command, "--dry-run").stdout
    assert told.startswith("1 volumes, 2 objects, ")
    assert "held out: ball, slices " in told
    assert sorted(tmp_path.iterdir()) == before


def test_pseudo_labels_are_mixed_in(
    command: list[object],
    image: np.ndarray,
    run_json: RunJson,
    run_cli: Run,
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.npy"
    np.save(other, 2 * image)
    made = run_json(
        "pseudo-label", other, "-o", tmp_path / "pseudo", "--every", 16, "--axis", "z",
        "--axis", "y", "--device", "cpu",
    )  # fmt: skip
    command = [*command, "--axes", "zy"]
    told = run_cli(*command, tmp_path / "pseudo", "--dry-run").stdout
    assert "mixed in: " in told
    facts = run_json(*command, tmp_path / "pseudo")
    assert facts["state"]["state"] == "done"
    checked = facts["checked"]
    assert (checked["volumes"], checked["pseudo_volumes"]) == (1, 1)
    assert checked["pseudo_masks"] == made["volumes"][0]["masks"] >= 1
    assert all("other" not in text for text in checked["validation"])
    card = (tmp_path / "job" / "adapter" / "README.md").read_text()
    assert "pseudo-labels of 1 volumes were mixed into training, 30%" in card


def test_slices_that_are_labelled_or_not(
    command: list[object], run_cli: Run, run_json: RunJson, tmp_path: Path
) -> None:
    full = run_json(*command, "--dry-run", "--complete")
    some = run_json(*command, "--dry-run", "--unlabelled", "5-7 9")
    assert some["windows"] < full["windows"]
    result = run_cli(*command, "--dry-run", "--unlabelled", "5", "--unlabelled", "6")
    assert result.exit_code == 2
    assert "once for each --pair" in result.stderr


def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on(
    command: list[object], run_cli: Run, run_json: RunJson, tmp_path: Path
) -> None:
    folder = tmp_path / "job"

    def interrupt() -> None:
        stop = time.monotonic() + 60.0
        while time.monotonic() < stop:
            if (folder / EVENTS_FILE).exists() and '"kind": "step"' in _text(folder):
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    result = run_cli(*command, "--epochs", 10)
    watcher.join()
    assert result.exit_code == 130
    assert f"napari-slidesam finetune --resume -o {folder}" in result.stderr
    assert read_status(folder).state == "paused"
    assert not (folder / ADAPTER_FOLDER).exists()

    job = FinetuneJob.load(folder)
    FinetuneJob.from_dict({**job.to_dict(), "epochs": 1}).save(folder)
    facts = run_json("finetune", "--resume", "-o", folder)
    assert facts["state"]["state"] == "done"
    assert set(facts["finished"]["before"]) == set(facts["finished"]["after"])
    assert facts["checked"]["volumes"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to train on"),
        (["--pair", "one"], "IMAGE,LABELS"),
        (["--pair", "a.nii,b.nii"], "a.nii"),
        (["nowhere"], "does not exist"),
        (["nowhere", "--axes", "q"], "'q'"),
        (["nowhere", "--labels", "one"], "whole numbers"),
        (["nowhere", "--intensity", "loud"], "loud"),
        (["--resume"], "no readable job"),
        (["--resume", "--dry-run"], "no readable job"),
    ],
)
def test_bad_input(arguments: list[str], said: str, run_cli: Run, tmp_path: Path) -> None:
    result = run_cli("finetune", "-o", tmp_path / "job", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.weights
def test_the_embedded_network_learns_a_folder_of_volumes(
    image: np.ndarray, truth: np.ndarray, affine: np.ndarray, run_json: RunJson, tmp_path: Path
) -> None:
    # Dark objects with a bright rim, in another contrast in each volume: unlike its own training.
    for name in ("one", "two"):
        folder = tmp_path / "volumes" / name
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(image.T, affine), folder / "image.nii.gz")
        nib.save(nib.Nifti1Image(truth.T, affine), folder / "labels.nii.gz")
    facts = run_json(
        "finetune", tmp_path / "volumes", "-o", tmp_path / "job", "--epochs", 1, "--axes", "z",
        "--labels", "1", "--batch-size", 4, "--device", "cpu", "--seed", 1,
    )  # fmt: skip
    assert facts["state"]["state"] == "done"
    (held_out,) = facts["checked"]["validation"]
    assert held_out in ("one: 1 object", "two: 1 object")
    (before,) = facts["finished"]["before"].values()
    (after,) = facts["finished"]["after"].values()
    assert after >= before > 0.5
    metrics = json.loads((tmp_path / "job" / "adapter" / "metrics.json").read_text())
    assert metrics["base"] == "slidesam-lite"
    assert (tmp_path / "job" / "adapter" / "adapter_model.safetensors").stat().st_size < 10e6


def test_progress_says_loss_dice_and_time_left() -> None:
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    console = Console(file=text, force_terminal=True, width=160)
    with TrainingProgress(console, is_quiet=False) as bar:
        bar.show(Probed(600.0, 2**31, 0.5, 1200))
        bar.show(Validated(0, 0.512, {}, 1.0))
        bar.show(Stepped(7, 1200, 0.1, 56, 1.234, {}, 1e-4, 60.0, 540.0, 2**31))
        bar.show(StateChanged("done"))
    written = text.getvalue()
    for part in ("7/1200", "loss 1.234", "Dice 0.512", "9 min left"):
        assert part in written


def test_durations() -> None:
    found = [duration(s) for s in (0.4, 89, 600, 7260, float("nan"))]
    assert found == ["0 s", "89 s", "10 min", "2 h 01 min", "time unknown"]


def _text(folder: Path) -> str:
    return (folder / EVENTS_FILE).read_text()
