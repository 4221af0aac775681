"""Every example runs, and every benchmark is found."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_slidesam.io import read_labels
from napari_slidesam.metrics import dice

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def test_every_example_is_tested() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {"segment_one_box", "repair_and_undo"}


@pytest.mark.weights
def test_segment_one_box(tmp_path: Path) -> None:
    z, y, x = np.ogrid[:12, :64, :64]
    ball = (z - 6) ** 2 * 4 + (y - 30) ** 2 + (x - 34) ** 2 < 100
    image = np.random.default_rng(0).normal(0, 5, ball.shape) + 100 * ball
    nib.save(nib.Nifti1Image(image.T.astype(np.float32), np.eye(4)), tmp_path / "ball.nii.gz")
    arguments = [tmp_path / "ball.nii.gz", 6, 20, 24, 41, 45, tmp_path / "labels.nii.gz"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "segment_one_box.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "voxels on" in done.stdout
    assert dice(read_labels(tmp_path / "labels.nii.gz"), ball) > 0.6


@pytest.mark.weights
def test_repair_and_undo(tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / "repair_and_undo.py"))
    from_one, from_two, undone = example["main"](tmp_path / "session")
    assert from_two >= 17  # from the first box to the second at least
    assert undone == from_one


def test_benchmarks_are_found() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "bench_hundred_slices" in done.stdout
