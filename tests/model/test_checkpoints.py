"""Weights files of every kind: recognised, converted, reported, or refused."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_slidesam.errors import CheckpointError, FileFormatError
from napari_slidesam.model.adapters import LoraSettings, adapter_rank, add_lora, save_adapter
from napari_slidesam.model.checkpoints import (
    CheckpointKind,
    inspect_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_slidesam.model.checkpoints.conversion import infer_config
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.protocol import WindowPrompt
from napari_slidesam.model.sam.config import ENCODERS
from napari_slidesam.model.sam.network import SlideSam
from napari_slidesam.model.sam.prompts import SamPrompts
from napari_slidesam.model.weights import save_weights

BOX = WindowPrompt(box_xyxy_model=(8.0, 9.0, 40.0, 44.0))


class Payload:
    """Would make a folder if it were loaded by a plain unpickler."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def masks_of(model):
    torch.manual_seed(3)
    return model.predict_windows(torch.rand(2, 3, 64, 64), [BOX, BOX]).mask_logits


def load(path, **kwargs):
    return load_checkpoint(path, precision="float32", **kwargs)


@pytest.fixture
def sam_file(sam, tmp_path):
    path = tmp_path / "sam_vit_tiny.pth"
    torch.save(sam.state_dict(), path)
    return path


@pytest.fixture
def published_state(parity_folder):
    return load_file(parity_folder / "state_dict.safetensors")


def test_segment_anything_is_widened(sam, sam_file, sam_config):
    model = load(sam_file)
    assert isinstance(model, SlideSam)
    assert model.config == sam_config
    assert model.name == "sam_vit_tiny"
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("with_mask", [True, False])
def test_three_equal_slices_predict_alike_and_as_segment_anything(
    sam, sam_file, multimask, with_mask
):
    model = load(sam_file)
    torch.manual_seed(5)
    window = torch.rand(1, 1, 64, 64).expand(1, 3, 64, 64)
    box, mask = torch.tensor([[7.0, 9.0, 40.0, 44.0]]), torch.randn(1, 1, 16, 16) * 4
    points = (torch.tensor([[[12.0, 20.0], [50.0, 3.0]]]), torch.tensor([[1.0, 0.0]]))
    embedding = model.embed_windows(window)
    found, iou = model.decode(
        embedding,
        SamPrompts(box, *points, mask.expand(1, 3, 16, 16) if with_mask else None),
        multimask=multimask,
    )
    image = (window[0] * 255 - sam.pixel_mean) / sam.pixel_std
    torch.testing.assert_close(embedding, sam.image_encoder(image[None]), atol=1e-5, rtol=1e-5)
    sparse, dense = sam.prompt_encoder(points=points, boxes=box, masks=mask if with_mask else None)
    expected, expected_iou = sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    for i in range(3):
        torch.testing.assert_close(found[:, :, i], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(iou, expected_iou, atol=1e-5, rtol=1e-5)


def test_report_of_segment_anything(sam, sam_file):
    report = inspect_checkpoint(sam_file)
    assert report.kind == CheckpointKind.SAM
    assert report.found == tuple(sorted(sam.state_dict()))
    assert report.missing == report.unexpected == ()
    assert "prompt_encoder.mask_downscaling.0.weight" in report.made
    assert any(name.startswith("mask_decoder.branches.2.") for name in report.made)
    assert report.adapter_rank is None
    assert "sam_vit_tiny.pth: sam (vit)" in report.summary


def test_report_of_the_published_network(parity_folder, published_state):
    report = inspect_checkpoint(parity_folder / "state_dict.safetensors")
    assert report.kind == CheckpointKind.PUBLISHED
    assert report.found == tuple(sorted(published_state))
    assert report.missing == report.unexpected == report.made == ()
    assert report.adapter_rank == 16
    assert "LoRA of rank 16" in report.summary


def test_dimensions_are_read_from_the_tensors(parity_folder, published_state):
    values = json.loads((parity_folder / "config.json").read_text())
    model = load(
        parity_folder / "state_dict.safetensors", decoder_num_heads=values["decoder_num_heads"]
    )
    found = model.config.to_dict()
    assert found["image_size"] == values["img_size"]
    for name in ("embed_dim", "depth", "num_heads", "window_size", "global_attn_indexes"):
        assert found[name] == values[name]
    for name in ("prompt_embed_dim", "mask_in_chans", "decoder_depth", "decoder_mlp_dim"):
        assert found[name] == values[name]
    for name in ("iou_head_depth", "iou_head_hidden_dim", "decoder_num_heads"):
        assert found[name] == values[name]


@pytest.mark.parametrize("name", list(ENCODERS))
def test_published_sizes_are_read_from_the_tensors(name):
    with torch.device("meta"):
        state = SlideSam(ENCODERS[name]).state_dict()
    assert infer_config(state, decoder_num_heads=8) == ENCODERS[name]


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.sam.", "_orig_mod."])
def test_prefixes_of_wrappers_are_ignored(sam, tmp_path, prefix):
    torch.save({prefix + n: t for n, t in sam.state_dict().items()}, tmp_path / "a.pth")
    torch.save(sam.state_dict(), tmp_path / "b.pth")
    torch.testing.assert_close(
        masks_of(load(tmp_path / "a.pth")), masks_of(load(tmp_path / "b.pth"))
    )


def test_a_training_scripts_file(sam, sam_file, tmp_path):
    path = tmp_path / "latest.pth"
    optimizer = {"state": {}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"model": sam.state_dict(), "optimizer": optimizer, "epoch": 7}, path)
    assert inspect_checkpoint(path).unexpected == ("epoch", "optimizer")
    torch.testing.assert_close(masks_of(load(path)), masks_of(load(sam_file)))


def test_half_precision_tensors(sam, tmp_path):
    save_file({n: t.half() for n, t in sam.state_dict().items()}, tmp_path / "h.safetensors")
    model = load(tmp_path / "h.safetensors")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_missing_tensors_are_named(sam, tmp_path):
    state = sam.state_dict()
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "part.pth")
    assert inspect_checkpoint(tmp_path / "part.pth").missing == ("mask_decoder.iou_token.weight",)
    with pytest.raises(CheckpointError, match=r"incomplete.*mask_decoder\.iou_token\.weight"):
        load(tmp_path / "part.pth")


def test_superfluous_tensors_are_named(sam, tmp_path, caplog):
    extra = {"classifier.weight": torch.zeros(2), "pixel_mean": torch.zeros(3, 1, 1)}
    torch.save({**sam.state_dict(), **extra}, tmp_path / "more.pth")
    load(tmp_path / "more.pth")
    assert inspect_checkpoint(tmp_path / "more.pth").unexpected == ("classifier.weight",)
    assert "1 unexpected (classifier.weight)" in caplog.text


def test_tensors_of_another_shape(sam, tmp_path):
    state = sam.state_dict()
    state["mask_decoder.iou_prediction_head.layers.2.weight"] = torch.zeros(7, 16)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"iou_prediction_head\.layers\.2\.weight \(7, 16\)"):
        load(tmp_path / "odd.pth")


def test_incomplete_published_adapter(published_state, tmp_path):
    del published_state["image_encoder.blocks.1.attn.qkv.linear_b_v.weight"]
    save_file(published_state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="block 1 is incomplete"):
        load(tmp_path / "a.safetensors", decoder_num_heads=4)


@pytest.mark.parametrize("adapted", [False, True])
def test_our_own_file_round_trip(slidesam, tmp_path, adapted):
    path = tmp_path / "ours.safetensors"
    if adapted:
        add_lora(slidesam, LoraSettings(rank=3, alpha=6.0, modules_to_save=("patch_embed",)))
        randomise_adapter(slidesam)
    expected = masks_of(slidesam)
    save_checkpoint(slidesam, path, {"epochs": "20"})
    for keep_adapter in (False, True):
        model = load(path, keep_adapter=keep_adapter)
        assert (model.name, model.config) == ("tiny", slidesam.config)
        assert adapter_rank(model) == (3 if adapted and keep_adapter else None)
        torch.testing.assert_close(masks_of(model), expected, atol=1e-5, rtol=1e-5)
    report = inspect_checkpoint(path)
    assert report.kind == CheckpointKind.SLIDESAM
    assert report.missing == report.unexpected == ()
    assert report.adapter_rank == (3 if adapted else None)


def randomise_adapter(model):
    torch.manual_seed(9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))


def test_our_own_file_is_not_replaced_unasked(slidesam, tmp_path):
    path = tmp_path / "ours.safetensors"
    save_checkpoint(slidesam, path)
    with pytest.raises(FileFormatError, match="exists already"):
        save_checkpoint(slidesam, path)
    save_checkpoint(slidesam, path, dtype=torch.float16, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["ours.safetensors"]
    load(path)


@pytest.mark.parametrize("keep_adapter", [False, True])
def test_adapter_folder_beside_a_file(slidesam, tmp_path, keep_adapter):
    save_checkpoint(slidesam, tmp_path / "ours.safetensors")
    add_lora(slidesam)
    randomise_adapter(slidesam)
    save_adapter(slidesam, tmp_path / "liver")
    model = load(
        tmp_path / "ours.safetensors", adapter=tmp_path / "liver", keep_adapter=keep_adapter
    )
    assert adapter_rank(model) == (8 if keep_adapter else None)
    torch.testing.assert_close(masks_of(model), masks_of(slidesam), atol=1e-5, rtol=1e-5)


def test_the_embedded_network_is_recognised(tmp_path):
    config = LiteConfig(stem_channels=(4, 8, 8), embed_dim=16, depth=1, num_heads=2, grid_size=4)
    save_weights(SlideSamLite(config, name="small"), tmp_path / "lite.safetensors", {})
    report = inspect_checkpoint(tmp_path / "lite.safetensors")
    assert (report.kind, report.encoder) == (CheckpointKind.LITE, "lite")
    model = load_checkpoint(tmp_path / "lite.safetensors", device="cpu")
    assert isinstance(model, SlideSamLite)
    assert model.name == "small"


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    target = tmp_path / "made-by-the-pickle"
    torch.save({"weight": torch.zeros(1), "extra": Payload(target)}, tmp_path / "evil.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Payload(target), protocol=2))
    for name in ("evil.pth", "old.pth"):
        with pytest.raises(CheckpointError, match=rf"{name} holds Python objects.*refused"):
            load_checkpoint(tmp_path / name)
    assert not target.exists()


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
def test_truncated_file_of_torch_save(sam_file, share):
    data = sam_file.read_bytes()
    sam_file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"sam_vit_tiny.*truncated"):
        load_checkpoint(sam_file)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_truncated_safetensors(slidesam, tmp_path, share):
    path = tmp_path / "ours.safetensors"
    save_checkpoint(slidesam, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"ours\.safetensors.*truncated"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"these are not weights", "neither a readable safetensors"),
        (b"PK\x03\x04 nor is this a zip", "truncated or of another"),
        (b"\x80\x02}q\x00.", "truncated or of another"),
        (pickle.dumps([1, 2], protocol=2), "truncated or of another"),
        (b"\x89HDF\r\n\x1a\n", "neither a readable safetensors"),
    ],
)
def test_files_of_other_kinds(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_a_list_instead_of_a_state_dict(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_checkpoint(tmp_path / "list.pth")


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no weights file"):
        load_checkpoint(tmp_path / "none.pth")


def test_networks_of_other_programs(tmp_path):
    torch.save({"layer1.conv.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"none of the networks.*layer1\.conv\.weight"):
        load_checkpoint(tmp_path / "resnet.pth")


def test_an_adapter_is_no_network(slidesam, tmp_path):
    add_lora(slidesam)
    save_adapter(slidesam, tmp_path / "liver")
    with pytest.raises(CheckpointError, match="LoRA adapter, not a network"):
        load_checkpoint(tmp_path / "liver" / "adapter_model.safetensors")


def test_damaged_header(slidesam, tmp_path):
    path = tmp_path / "ours.safetensors"
    save_checkpoint(slidesam, path)
    state = load_file(path)
    save_file(state, path, metadata={"format": "napari-slidesam/slidesam", "config": "{"})
    with pytest.raises(CheckpointError, match="header is damaged"):
        load_checkpoint(path)
