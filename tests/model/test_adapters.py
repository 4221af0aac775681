"""LoRA folders that peft reads, on both networks."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from napari_slidesam.errors import CheckpointError, FileFormatError
from napari_slidesam.model.adapters import (
    LoraSettings,
    adapter_rank,
    adapter_settings,
    add_lora,
    base_fingerprint,
    has_adapter,
    load_adapter,
    merge_adapter,
    remove_adapter,
    save_adapter,
    train_adapter,
)
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.protocol import WindowPrompt
from napari_slidesam.model.sam.config import VIT_B
from napari_slidesam.model.sam.network import SlideSam

BOX = WindowPrompt(box_xyxy_model=(8.0, 9.0, 40.0, 44.0))
LITE = LiteConfig(
    stem_channels=(4, 8, 8), embed_dim=16, depth=2, num_heads=2, grid_size=4, viewport_size=64
)


def make(kind, sam_config):
    torch.manual_seed(0)
    if kind == "lite":
        return SlideSamLite(LITE).eval().requires_grad_(False)
    return SlideSam(sam_config).eval().requires_grad_(False)


@pytest.fixture(params=["lite", "sam"])
def build(request, sam_config):
    return lambda: make(request.param, sam_config)


def masks_of(model):
    torch.manual_seed(3)
    return model.predict_windows(torch.rand(2, 3, 64, 64), [BOX, BOX]).mask_logits.detach()


def train_a_little(model):
    """Change what is trainable, as an optimiser would."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def test_a_fresh_adapter_changes_nothing_and_is_all_that_trains(build):
    model = build()
    before = masks_of(model)
    add_lora(model, LoraSettings(rank=4))
    torch.testing.assert_close(masks_of(model), before, atol=1e-6, rtol=1e-5)
    assert adapter_rank(model) == 4
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".attn.qkv.lora_" in name for name in trained)


def test_merged_and_unmerged_agree(build):
    model = build()
    before = masks_of(model)
    names = set(model.state_dict())
    add_lora(model, LoraSettings(rank=4, alpha=8.0))
    train_a_little(model)
    adapted = masks_of(model)
    assert not torch.allclose(adapted, before, atol=1e-3)
    merge_adapter(model)
    torch.testing.assert_close(masks_of(model), adapted, atol=1e-5, rtol=1e-5)
    assert set(model.state_dict()) == names
    assert not has_adapter(model)


def test_taken_out_the_network_is_as_before(build):
    model = build()
    before = masks_of(model)
    add_lora(model)
    train_a_little(model)
    remove_adapter(model)
    torch.testing.assert_close(masks_of(model), before, atol=1e-6, rtol=1e-5)


def test_folder_round_trip(build, tmp_path):
    model = build()
    settings = LoraSettings(rank=4, alpha=2.0, dropout=0.1)
    add_lora(model, settings)
    train_a_little(model)
    save_adapter(model, tmp_path / "liver", card="# Liver\n")
    assert (tmp_path / "liver" / "README.md").read_text() == "# Liver\n"
    other = build()
    load_adapter(other, tmp_path / "liver")
    assert adapter_settings(other) == settings
    assert not any(p.requires_grad for p in other.parameters())
    torch.testing.assert_close(masks_of(other), masks_of(model), atol=1e-6, rtol=1e-5)


def test_peft_itself_reads_the_folder(build, tmp_path):
    model = build()
    add_lora(model, LoraSettings(rank=4))
    train_a_little(model)
    save_adapter(model, tmp_path / "liver")
    base = build()
    PeftModel.from_pretrained(base, str(tmp_path / "liver"))
    torch.testing.assert_close(masks_of(base), masks_of(model), atol=1e-6, rtol=1e-5)


def test_a_folder_of_peft_itself_is_read(build, tmp_path):
    base = build()
    wrapped = PeftModel(base, LoraConfig(r=2, lora_alpha=2, target_modules=["qkv"]))
    train_a_little(wrapped)
    wrapped.save_pretrained(str(tmp_path / "theirs"), save_embedding_layers=False)
    model = build()
    load_adapter(model, tmp_path / "theirs")
    torch.testing.assert_close(masks_of(model), masks_of(base), atol=1e-6, rtol=1e-5)


def test_modules_trained_whole_travel_with_the_adapter(sam_config, tmp_path):
    model = make("sam", sam_config)
    add_lora(model, LoraSettings(rank=2, modules_to_save=("patch_embed",)))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("patch_embed" in name for name in trained)
    train_a_little(model)
    expected = masks_of(model)
    save_adapter(model, tmp_path / "liver")
    other = make("sam", sam_config)
    load_adapter(other, tmp_path / "liver")
    torch.testing.assert_close(masks_of(other), expected, atol=1e-6, rtol=1e-5)
    merge_adapter(other)
    torch.testing.assert_close(masks_of(other), expected, atol=1e-5, rtol=1e-5)


def test_fingerprint_tells_the_adapter(sam_config, tmp_path):
    model = make("sam", sam_config)
    plain = model.fingerprint
    add_lora(model)
    train_a_little(model)
    adapted = model.fingerprint
    merge_adapter(model)
    merged = model.fingerprint
    assert len({plain, adapted, merged}) == 3


def test_rank_8_of_vit_b_is_a_small_file():
    with torch.device("meta"):
        model = SlideSam(VIT_B)
    add_lora(model, LoraSettings(rank=8, modules_to_save=("patch_embed",)))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained * torch.float32.itemsize < 10e6


def test_one_adapter_at_a_time(build):
    model = build()
    add_lora(model)
    with pytest.raises(CheckpointError, match="has an adapter already"):
        add_lora(model)


@pytest.mark.parametrize("action", [merge_adapter, adapter_settings, train_adapter])
def test_without_an_adapter(build, action):
    with pytest.raises(CheckpointError, match="has no adapter"):
        action(build())


def test_saving_without_an_adapter(build, tmp_path):
    with pytest.raises(CheckpointError, match="has no adapter"):
        save_adapter(build(), tmp_path / "liver")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_only_when_asked(build, tmp_path):
    model = build()
    add_lora(model)
    save_adapter(model, tmp_path / "liver", card="old")
    with pytest.raises(FileFormatError, match="exists already"):
        save_adapter(model, tmp_path / "liver")
    save_adapter(model, tmp_path / "liver", overwrite=True)
    names = sorted(p.name for p in (tmp_path / "liver").iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors"]


def test_networks_that_have_no_such_attention():
    with pytest.raises(CheckpointError, match="does not fit Linear"):
        add_lora(torch.nn.Linear(2, 2))


def test_other_weights_of_the_same_shape(build, tmp_path):
    model = build()
    add_lora(model)
    save_adapter(model, tmp_path / "liver")
    other = build()
    with torch.no_grad():
        next(iter(other.parameters())).add_(0.01)
    names = set(other.state_dict())
    with pytest.raises(CheckpointError, match="trained on other weights"):
        load_adapter(other, tmp_path / "liver")
    assert set(other.state_dict()) == names
    assert not has_adapter(other)


def test_a_base_is_known_with_and_without_an_adapter(build):
    model = build()
    plain = base_fingerprint(model)
    whole = ("patch_embed",) if isinstance(model, SlideSam) else ("decoder",)
    add_lora(model, LoraSettings(rank=2, modules_to_save=whole))
    train_a_little(model)
    assert base_fingerprint(model) == plain
    merge_adapter(model)
    assert base_fingerprint(model) != plain


def test_targets_are_chosen_by_name(sam_config, tmp_path):
    model = make("sam", sam_config)
    settings = LoraSettings(rank=2, targets=r".*mask_decoder\.transformer\..*\.[qv]_proj")
    add_lora(model, settings)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("mask_decoder.transformer" in name for name in trained)
    train_a_little(model)
    save_adapter(model, tmp_path / "liver")
    other = make("sam", sam_config)
    load_adapter(other, tmp_path / "liver")
    assert adapter_settings(other) == settings
    torch.testing.assert_close(masks_of(other), masks_of(model), atol=1e-6, rtol=1e-5)


def test_settings_of_peft_itself_are_a_pattern(build):
    base = build()
    PeftModel(base, LoraConfig(r=2, lora_alpha=2, target_modules=["qkv"]))
    assert adapter_settings(base).targets == r"(.*\.)?(qkv)"
    other = build()
    add_lora(other, adapter_settings(base))
    names = [{n for n, _ in m.named_parameters() if "lora_" in n} for m in (base, other)]
    assert names[0] == names[1]


def test_a_loaded_adapter_can_be_trained_on(build, tmp_path):
    model = build()
    add_lora(model, LoraSettings(rank=2))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    save_adapter(model, tmp_path / "liver")
    other = build()
    load_adapter(other, tmp_path / "liver")
    train_adapter(other)
    assert {name for name, p in other.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize("settings", [{"rank": 0}, {"dropout": 1.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(CheckpointError, match="got"):
        LoraSettings(**settings)


def test_settings_of_another_version():
    with pytest.raises(CheckpointError, match="another version"):
        LoraSettings.from_dict({"rank": 2, "modules_to_save": [], "wings": 2})


@pytest.fixture
def folder(sam_config, tmp_path):
    model = make("sam", sam_config)
    add_lora(model, LoraSettings(rank=4))
    save_adapter(model, tmp_path / "liver")
    return tmp_path / "liver"


def test_an_adapter_of_another_network(folder):
    model = make("lite", None)
    names = set(model.state_dict())
    with pytest.raises(CheckpointError, match="does not fit slidesam-lite"):
        load_adapter(model, folder)
    assert set(model.state_dict()) == names


def test_a_tensor_is_missing(folder, sam_config):
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(min(tensors))
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="1 tensors differ"):
        load_adapter(make("sam", sam_config), folder)


def test_no_folder(tmp_path, sam_config):
    with pytest.raises(CheckpointError, match="no adapter in"):
        load_adapter(make("sam", sam_config), tmp_path / "none")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_damaged_folder(folder, sam_config, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_adapter(make("sam", sam_config), folder)


def test_adapters_of_another_kind(folder, sam_config):
    config = {"peft_type": "IA3", "target_modules": ["qkv"], "feedforward_modules": []}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="LoRA is expected"):
        load_adapter(make("sam", sam_config), folder)
