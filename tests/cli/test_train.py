from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["embedded", "--pool", "nowhere"], "nowhere"),
        (["embedded", "--pool", "nowhere", "--set", "colour=1"], "colour"),
        (["embedded", "--pool", "nowhere", "--device", "tpu"], "device"),
        (["pool", "--synthetic", "0"], "needs volumes"),
        (["pool", "--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input(arguments: list[str], said: str, run_cli: Run, tmp_path: Path) -> None:
    result = run_cli("train", *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert said in result.stderr
