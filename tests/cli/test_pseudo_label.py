from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.registry import load_model
from napari_slidesam.model.weights import save_weights
from napari_slidesam.tuning.pseudo_files import PseudoStore
from napari_slidesam.tuning.pseudo_store import is_pseudo_store, open_pseudo_windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

    Run = Callable[..., Result]
    RunJson = Callable[..., dict[str, Any]]

ANYTHING = ["--min-iou", 0]


def test_masks_are_stored_and_become_windows(
    nifti_path: Path, run_json: RunJson, tmp_path: Path
) -> None:
    out, sheet = tmp_path / "pseudo", tmp_path / "sheet.png"
    facts = run_json(
        "pseudo-label", nifti_path, "-o", out, "--every", 16, "--axis", "z", "--axis", "y",
        "--device", "cpu", "--overlay", sheet,
    )  # fmt: skip
    (row,) = facts["volumes"]
    assert (row["name"], row["planned_slices"], row["slices"]) == ("ball", 3, 3)
    assert row["masks"] >= 1
    assert Path(row["store"]) == out / "ball"
    assert sheet.stat().st_size > 10_000
    assert is_pseudo_store(out)
    store = PseudoStore(out / "ball")
    assert store.facts.config["sd_factors"] == [3.0, 2.0, 1.0, 0.5]
    window = open_pseudo_windows(out).read(0)
    assert window.images.shape[0] == 3
    assert window.masks[1].any()


def test_a_second_run_adds_what_is_missing(
    nifti_path: Path, tiny_weights: Path, run_json: RunJson, run_cli: Run, tmp_path: Path
) -> None:
    command = ["pseudo-label", nifti_path, "-o", tmp_path / "out", "--model", tiny_weights]
    first = run_json(*command, "--every", 8, *ANYTHING)
    more = run_json(*command, "--every", 4, *ANYTHING)
    assert first["volumes"][0]["slices"] == 2
    # 4 and 12, then 2, 6, 10 and 14
    assert more["volumes"][0]["slices"] == 6
    again = run_cli(*command, "--every", 4, *ANYTHING)
    assert again.exit_code == 0
    assert "on 6 of 4 slices" in again.stdout
    other = run_cli(*command, "--every", 4, "--min-iou", 0.5)
    assert other.exit_code == 2
    assert "made with another config" in " ".join(other.stderr.split())


def test_weights_of_the_same_name_are_told_apart(
    nifti_path: Path, tiny_weights: Path, run_cli: Run, tmp_path: Path
) -> None:
    first = load_model(str(tiny_weights), "cpu")
    assert isinstance(first, SlideSamLite)
    with torch.no_grad():
        next(first.parameters()).add_(0.01)
    other = tmp_path / "other.safetensors"
    save_weights(first, other, {"note": "random"})
    command = ["pseudo-label", nifti_path, "-o", tmp_path / "out", "--every", 16, *ANYTHING]
    assert run_cli(*command, "--model", tiny_weights).exit_code == 0
    assert run_cli(*command, "--model", tiny_weights).exit_code == 0
    result = run_cli(*command, "--model", other)
    assert result.exit_code == 2
    assert "made with another fingerprint" in " ".join(result.stderr.split())


def test_interrupting_keeps_what_is_done(
    nifti_path: Path, tiny_weights: Path, run_cli: Run, run_json: RunJson, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["pseudo-label", nifti_path, "-o", out, "--model", tiny_weights, *ANYTHING]
    lines = out / "ball" / "slices.jsonl"
    stop = threading.Event()

    def interrupt_after_the_first_slice() -> None:
        while not stop.wait(0.005):
            if lines.is_file() and lines.stat().st_size:
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=interrupt_after_the_first_slice)
    watcher.start()
    try:
        result = run_cli(*command)
    finally:
        stop.set()
        watcher.join()
    assert result.exit_code == 130
    assert "goes on from here" in result.stderr
    done = PseudoStore(out / "ball").done
    assert 1 <= len(done) < 16
    facts = run_json(*command, "--every", 4)
    assert facts["volumes"][0]["slices"] == len(done | {(0, z) for z in (2, 6, 10, 14)})


def test_several_volumes_and_quiet(
    tiny_weights: Path, image: np.ndarray, run_cli: Run, tmp_path: Path
) -> None:
    paths = []
    for name in ("first", "second"):
        path = tmp_path / name / "image.npy"
        path.parent.mkdir()
        np.save(path, image)
        paths.append(path)
    out = tmp_path / "out"
    result = run_cli(
        "pseudo-label", *paths, "-o", out, "--every", 16, "--model", tiny_weights, "--quiet",
        "--prompts", "both",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert sorted(p.name for p in out.iterdir()) == ["first", "second"]
    facts = json.loads((out / "first" / "pseudo.json").read_text())
    assert facts["config"]["superpixels"]["kinds"] == ["box", "point"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--axis", "q"], "An axis is"),
        (["--every", "0"], "Every slice is 1"),
        (["--min-iou", "2"], "min_iou"),
        (["--background", "-1"], "background"),
        (["--model", "nothing-like-it"], "nothing-like-it"),
        (["--overlay", "missing/sheet.png"], "does not exist"),
        (["--level", "3"], "level"),
    ],
)
def test_bad_input(
    arguments: list[str], said: str, nifti_path: Path, run_cli: Run, tmp_path: Path
) -> None:
    result = run_cli("pseudo-label", nifti_path, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_volumes_of_one_name(nifti_path: Path, run_cli: Run, tmp_path: Path) -> None:
    result = run_cli("pseudo-label", nifti_path, nifti_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "ball is there twice" in result.stderr
