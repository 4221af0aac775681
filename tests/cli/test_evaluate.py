from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from typer.testing import Result

    Run = Callable[..., Result]
    RunJson = Callable[..., dict[str, Any]]

COLUMNS = {
    "volume", "object", "protocol", "dice", "surface_dice", "dice_2d", "predicted_slices",
    "true_slices", "stop_reasons", "seconds",
}  # fmt: skip


@pytest.fixture
def labelled(tmp_path: Path, image: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> Path:
    folder = tmp_path / "volumes" / "phantom"
    folder.mkdir(parents=True)
    nib.save(nib.Nifti1Image(image.T, affine), folder / "image.nii.gz")
    nib.save(nib.Nifti1Image(truth.T, affine), folder / "labels.nii.gz")
    meta = {"objects": [1, 2], "slice_axis_xyz": 2, "modality": "phantom"}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder.parent


def test_scores_report_and_resuming(
    labelled: Path, tiny_weights: Path, run_json: RunJson, run_cli: Run, tmp_path: Path
) -> None:
    out = tmp_path / "scores"
    command = [
        "evaluate", labelled, "--protocol", "1-box", "--protocol", "1-point",
        "--method", "ellipse", "--model", tiny_weights, "--out", out, "--seed", 1,
    ]  # fmt: skip
    facts = run_json(*command)
    found = {(m["protocol"], m["method"]) for m in facts["methods"]}
    assert found == {("1-box", "ellipse"), ("1-box", "tiny"), ("1-point", "tiny")}
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) >= COLUMNS
    assert len(rows) == 6
    again = run_cli(*command)
    assert again.exit_code == 0
    assert "| ellipse |" in again.stdout
    with (out / "scores.csv").open() as file:
        assert list(csv.DictReader(file)) == rows


def test_baselines_alone(labelled: Path, run_json: RunJson, tmp_path: Path) -> None:
    facts = run_json(
        "evaluate", labelled, "--model", "none", "--method", "box", "--limit-objects", "1",
        "--out", tmp_path / "out",
    )  # fmt: skip
    (one,) = facts["methods"]
    assert (one["method"], one["n_objects"]) == ("box", 1)


def test_options_of_propagation(
    labelled: Path, tiny_weights: Path, run_json: RunJson, run_cli: Run, tmp_path: Path
) -> None:
    command = [
        "evaluate", labelled, "--model", tiny_weights, "--limit-objects", 1,
        "--out", tmp_path / "out", "--config",
    ]  # fmt: skip
    facts = run_json(*command, '{"compat": "published", "max_extent_slices": 1}')
    (one,) = facts["methods"]
    assert one["n_objects"] == 1
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["model tiny"]["config"]["compat"] == "published"
    mixed = run_cli(*command, "{}")
    assert mixed.exit_code == 2
    assert "Choose another output folder" in mixed.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--protocol", "7-box"], "7-box"),
        (["--method", "magic"], "magic"),
        (["--model", "none"], "at least one method"),
        (["--seed", "-1"], "seed"),
        (["--config", "{"], "JSON object"),
        (["--config", "[1]"], "JSON object"),
        (["--config", '{"compat": "old"}'], "published"),
        (["--config", '{"box_margin": "wide"}'], "another type"),
    ],
)
def test_bad_input(
    arguments: list[str], said: str, labelled: Path, run_cli: Run, tmp_path: Path
) -> None:
    result = run_cli("evaluate", labelled, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_folder_without_volumes(run_cli: Run, tmp_path: Path) -> None:
    result = run_cli("evaluate", tmp_path, "--model", "none", "--method", "box")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
