from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import napari_slidesam

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from typer.testing import Result

    Run = Callable[..., Result]
    RunJson = Callable[..., dict[str, Any]]


def test_installation(run_json: RunJson, run_cli: Run) -> None:
    facts = run_json("info")
    assert facts["napari-slidesam"] == napari_slidesam.__version__
    assert facts["torch"]
    assert facts["cpu threads"] >= 1
    assert "embedded network" in facts
    assert "torch" in run_cli("info").stdout


def test_volume(nifti_path: Path, run_json: RunJson, run_cli: Run, image: np.ndarray) -> None:
    facts = run_json("info", nifti_path)
    assert facts["shape_zyx"] == [16, 40, 48]
    assert facts["dtype"] == "float32"
    assert facts["unit"] == "mm"
    assert facts["orientation"] == "LPS"
    values = facts["values (0, 1, 50, 99, 100 %)"]
    assert values[0] >= image.min() - 1e-3
    assert values[-1] <= image.max() + 1e-3
    assert facts["not finite"] == 0
    assert "LPS" in run_cli("info", nifti_path).stdout


def test_a_plane_that_is_not_finite(tmp_path: Path, run_json: RunJson) -> None:
    path = tmp_path / "plane.npy"
    np.save(path, np.full((8, 9), np.nan))
    facts = run_json("info", path)
    assert facts["shape_zyx"] == [1, 8, 9]
    assert facts["values (0, 1, 50, 99, 100 %)"] == []
    assert facts["not finite"] == 72
    assert facts["orientation"] is None


def test_a_missing_file(run_cli: Run) -> None:
    result = run_cli("info", "no-such-file.nii.gz")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_a_missing_network_is_told_not_raised(
    run_json: RunJson, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "napari_slidesam.model.weights.EMBEDDED_PATH", tmp_path / "gone.safetensors"
    )
    assert "gone.safetensors" in run_json("info")["embedded network"]["missing"]
