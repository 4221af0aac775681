from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from napari_slidesam.model.click.weights import load_click
from napari_slidesam.model.coarse.weights import load_coarse
from napari_slidesam.model.outline.weights import load_outline
from napari_slidesam.model.registry import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

    Run = Callable[..., Result]
    RunJson = Callable[..., dict[str, Any]]


@pytest.fixture
def pool(run_cli: Run, tmp_path: Path) -> Path:
    folder = tmp_path / "pool"
    made = run_cli("train", "pool", "-o", folder, "--synthetic", 1, "-n", 4, "--seed", 3)
    assert made.exit_code == 0, made.stderr
    assert made.stdout == f"4 stacks in {folder}\n"
    return folder


def test_a_pool_and_a_run_on_it(
    pool: Path, run_json: RunJson, run_cli: Run, tmp_path: Path
) -> None:
    command = [
        "train", "embedded", "--pool", pool, "-o", tmp_path / "run", "--minutes", 0.01,
        "--device", "cpu", "--set", "batch_size=2", "--set", "rollout_share=0",
    ]  # fmt: skip
    facts = run_json(*command)
    assert facts["step"] >= 1
    assert facts["windows"] == 2 * facts["step"]
    assert load_model(str(tmp_path / "run" / "weights.safetensors"), "cpu").name
    again = run_cli(*command, "--resume", "--minutes", 0.02)
    assert again.exit_code == 0, again.stderr
    assert "weights: " in again.stdout


def test_a_pool_of_crops_and_a_coarse_run_on_it(
    run_cli: Run, run_json: RunJson, tmp_path: Path
) -> None:
    pool, out = tmp_path / "pool", tmp_path / "run"
    fill = ["train", "coarse-pool", "-o", pool, "--synthetic", 1, "-n", 6, "--seed", 3]
    refused = run_cli(*fill, "--set", "procedural=-1")
    assert refused.exit_code == 2
    assert "at least 0" in refused.stderr
    made = run_cli(*fill, "--set", "jitter=0.05")
    assert made.exit_code == 0, made.stderr
    assert made.stdout == f"6 crops in {pool}\n"
    command = [
        "train", "coarse", "--pool", pool, "-o", out, "--minutes", 0.01, "--device", "cpu",
        "--set", "batch_size=2", "--set", "widths=[8, 8, 8]", "--set", "held_out_every=3",
    ]  # fmt: skip
    facts = run_json(*command)
    assert facts["step"] >= 1
    assert facts["windows"] == 2 * facts["step"]
    assert 0 <= facts["dice"] <= 1
    assert load_coarse(out / "coarse.safetensors").config.widths == (8, 8, 8)
    again = run_cli(*command, "--resume", "--minutes", 0.03)
    assert again.exit_code == 0, again.stderr
    assert f"weights: {out / 'coarse.safetensors'}" in again.stdout
    assert " crops in " in again.stdout
    weights = ["--weights", out / "coarse.safetensors"]
    other = run_cli(*command[:4], "-o", tmp_path / "other", *weights)
    assert other.exit_code == 2
    assert "widths" in other.stderr


def test_a_click_run_needs_no_pool(run_cli: Run, run_json: RunJson, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        "train", "click", "-o", out, "--synthetic", 1, "--minutes", 0.04, "--device", "cpu",
        "--set", "batch_size=2", "--set", "widths=[8, 8, 8, 8]", "--set", "validation_views=2",
    ]  # fmt: skip
    facts = run_json(*command)
    assert facts["windows"] == 2 * facts["step"] > 0
    assert 0 <= facts["dice"] <= 1
    assert load_click(out / "click.safetensors").config.widths == (8, 8, 8, 8)
    again = run_cli(*command, "--resume", "--minutes", 0.06)
    assert again.exit_code == 0, again.stderr


def test_an_outline_run_needs_no_pool(run_cli: Run, run_json: RunJson, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        "train", "outline", "-o", out, "--synthetic", 1, "--minutes", 0.04, "--device", "cpu",
        "--set", "batch_size=2", "--set", "network.widths=[16, 16, 16, 16]",
        "--set", "validation_views=2", "--set", "draw.turned_share=0.1",
    ]  # fmt: skip
    facts = run_json(*command)
    assert facts["windows"] == 2 * facts["step"] > 0
    assert 0 <= facts["dice"] <= 1
    assert load_outline(out / "outline.safetensors").config.widths == (16, 16, 16, 16)
    again = run_cli(*command, "--resume", "--minutes", 0.06)
    assert again.exit_code == 0, again.stderr
    assert f"weights: {out / 'outline.safetensors'}" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["embedded", "--pool", "nowhere"], "nowhere"),
        (["embedded", "--pool", "nowhere", "--set", "colour=1"], "colour"),
        (["embedded", "--pool", "nowhere", "--device", "tpu"], "device"),
        (["pool", "--synthetic", "0"], "needs volumes"),
        (["pool", "--data", "nowhere"], "nowhere"),
        (["coarse", "--pool", "nowhere"], "nowhere"),
        (["click", "--synthetic", "0"], "needs volumes"),
        (["click", "--data", "nowhere"], "nowhere"),
        (["click", "--set", "colour=1"], "colour"),
        (["outline", "--synthetic", "0"], "needs volumes"),
        (["outline", "--set", "colour=1"], "colour"),
        (["coarse", "--pool", "nowhere", "--set", "colour=1"], "colour"),
        (["coarse-pool", "--synthetic", "0"], "needs volumes"),
        (["coarse-pool", "--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input(arguments: list[str], said: str, run_cli: Run, tmp_path: Path) -> None:
    result = run_cli("train", *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert said in result.stderr
