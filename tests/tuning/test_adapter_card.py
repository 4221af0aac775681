"""What an adapter's folder says of itself."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftConfig

from napari_slidesam.errors import CheckpointError, FileFormatError
from napari_slidesam.model.adapters import add_lora, base_fingerprint, load_adapter
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.tuning.adapter_card import (
    AdapterFacts,
    adapter_card,
    adapter_metrics,
    save_described_adapter,
)

LITE = LiteConfig(
    stem_channels=(4, 8, 8), embed_dim=16, depth=1, num_heads=2, grid_size=4, viewport_size=64
)
FACTS = AdapterFacts(
    name="Liver, three volumes",
    volumes=("ct_01", "ct_02"),
    windows=321,
    windows_by_label={"1": 300, "2": 21},
    settings={"rank": 8, "epochs": 20, "labels": "1|2"},
    seed=7,
    steps=400,
    seconds=583.6,
    dice_before={"ct_03/1": 0.7, "ct_03/2": 0.5},
    dice_after={"ct_03/1": 0.8, "ct_03/2": 0.45},
    held_out=("ct_03",),
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = SlideSamLite(LITE, name="small")
    add_lora(model)
    return model


def test_the_card_tells_everything(model):
    card = adapter_card(FACTS, model)
    assert card.startswith("# Liver, three volumes\n")
    for fact in ("`small`", base_fingerprint(model), "321 windows", "ct_01, ct_02", "## Licence"):
        assert fact in card
    for row in (
        "| 2 | 21 |",
        "| ct_03/2 | 0.500 | 0.450 |",
        "| mean | 0.600 | 0.625 |",
        "| seed | 7 |",
        "| seconds | 584 |",
        "| labels | 1\\|2 |",
    ):
        assert row in card
    assert "Held out: ct_03." in card


def test_a_card_without_validation_says_so(model):
    card = adapter_card(AdapterFacts("Cells", volumes=tuple("abcdefghijklmnopqrstuvwxyz")), model)
    assert "nothing is known of its quality" in card
    assert "and 6 more" in card


def test_the_folder_holds_card_and_metrics_and_peft_reads_it(model, tmp_path):
    folder = tmp_path / "liver"
    save_described_adapter(model, folder, FACTS)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "README.md",
        "metrics.json",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == adapter_metrics(FACTS, model)
    assert metrics["mean_dice_after"] == pytest.approx(0.625)
    assert PeftConfig.from_pretrained(str(folder)).r == 8
    torch.manual_seed(0)
    load_adapter(SlideSamLite(LITE, name="small"), folder)


def test_a_folder_is_replaced_only_when_asked(model, tmp_path):
    save_described_adapter(model, tmp_path / "liver", FACTS)
    with pytest.raises(FileFormatError, match="exists already"):
        save_described_adapter(model, tmp_path / "liver", FACTS)
    save_described_adapter(model, tmp_path / "liver", FACTS, overwrite=True)


def test_a_network_without_an_adapter(tmp_path):
    with pytest.raises(CheckpointError, match="has no adapter"):
        save_described_adapter(SlideSamLite(LITE), tmp_path / "liver", FACTS)
    assert not list(tmp_path.iterdir())
