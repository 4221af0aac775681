from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.errors import CheckpointError, EvaluationError
from napari_slidesam.evaluation.methods import (
    BaselineMethod,
    ModelMethod,
    ModelSpec,
    middle_slice,
)
from napari_slidesam.evaluation.protocols import make_prompts
from napari_slidesam.geometry import Box, Viewport
from napari_slidesam.metrics import dice
from napari_slidesam.model.adapters import LoraSettings, add_lora, save_adapter
from napari_slidesam.model.lite.config import LiteConfig
from napari_slidesam.model.lite.network import SlideSamLite
from napari_slidesam.model.weights import load_weights, save_weights
from napari_slidesam.prompts import BoxPrompt, ObjectPrompts, PointPrompt


def prompts_of(case, protocol="1-box"):
    return [
        make_prompts(
            protocol,
            truth.mask,
            volume_name=case.name,
            object_id=truth.object_id,
            axis=case.axis,
            plane_shape_yx=case.plane_shape_yx,
        )
        for truth in case.objects()
    ]


@pytest.mark.parametrize("batch_objects", [True, False])
@pytest.mark.parametrize("protocol", ["1-box", "1-point", "3-box"])
def test_a_model_finds_the_objects(case, predictor, batch_objects, protocol):
    method = ModelMethod(predictor, batch_objects=batch_objects)
    predictions = list(method.predict(case, prompts_of(case, protocol)))
    assert [p.object_id for p in predictions] == [3, 7]
    for prediction in predictions:
        mask = prediction.mask.to_array(case.labels_zyx.shape)
        truth = case.labels_zyx == prediction.object_id
        if protocol != "1-point":  # this network takes the whole plane for a point
            assert dice(mask, truth) > 0.9
        assert prediction.quality == pytest.approx(0.75)
        assert prediction.seconds > 0
        assert "+1:" in prediction.stop_reasons
        assert "-1:" in prediction.stop_reasons


@pytest.mark.parametrize("batch_objects", [True, False])
def test_one_failure_is_of_one_object(case, predictor, batch_objects):
    good, _ = prompts_of(case)
    bad = ObjectPrompts(7, boxes=(BoxPrompt(99, Box(0, 0, 4, 4)),))
    method = ModelMethod(predictor, batch_objects=batch_objects)
    first, second = method.predict(case, [good, bad])
    assert first.mask.mask.any()
    assert not second.mask.mask.size
    assert second.stop_reasons.startswith("error: PromptError: ")


def test_a_network_that_fails(case):
    class BrokenNetwork:
        name = "broken"
        device = torch.device("cpu")

        def viewports(self, box, points_yx, plane_shape_yx):
            return (Viewport.around(box, 64, 64),)

        def predict_windows(self, windows, prompts):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    method = ModelMethod(Predictor(BrokenNetwork()))
    predictions = list(method.predict(case, prompts_of(case)))
    assert len(predictions) == 2
    assert all("error: InferenceError" in p.stop_reasons for p in predictions)


def test_a_baseline_records_its_failures(case):
    method = BaselineMethod("box")
    bad = ObjectPrompts(7, boxes=(BoxPrompt(99, Box(0, 0, 4, 4)),))
    good, _ = prompts_of(case)
    first, second = method.predict(case, [bad, good])
    assert first.stop_reasons.startswith("error: PromptError: ")
    assert second.mask.mask.any()
    assert np.isnan(second.quality)


def test_baselines_start_from_boxes():
    method = BaselineMethod("ellipse")
    assert not method.accepts(ObjectPrompts(1, points=(PointPrompt(0, 1, 1),)))
    assert method.accepts(ObjectPrompts(1, boxes=(BoxPrompt(0, Box(0, 0, 1, 1)),)))
    with pytest.raises(EvaluationError, match="magic"):
        BaselineMethod("magic")


def test_middle_of_the_prompted_slices():
    boxes = tuple(BoxPrompt(z, Box(0, 0, 1, 1)) for z in (2, 9, 30))
    negative = (PointPrompt(31, 0, 0, positive=False), PointPrompt(32, 0, 0, positive=False))
    assert middle_slice(ObjectPrompts(1, boxes=boxes, points=negative)) == 9


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory):
    torch.manual_seed(0)
    config = LiteConfig(
        stem_channels=(4, 8, 8), embed_dim=16, depth=1, num_heads=2, viewport_size=32
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(SlideSamLite(config, name="tiny"), path, {})
    return path


def test_a_spec_loads_its_network_once(case, tiny_weights):
    spec = ModelSpec(str(tiny_weights), "cpu")
    assert spec.name == "tiny"
    method = spec.build()
    assert method is spec.build()
    assert [p.object_id for p in method.predict(case, prompts_of(case))] == [3, 7]


def test_the_fingerprint_follows_the_weights(tiny_weights, tmp_path):
    spec = ModelSpec(str(tiny_weights), "cpu")
    other = tmp_path / "tiny.safetensors"
    other.write_bytes(tiny_weights.read_bytes() + b"\0")
    assert spec.fingerprint() == spec.fingerprint()
    assert spec.fingerprint() != ModelSpec(str(other), "cpu").fingerprint()


def test_no_such_network():
    with pytest.raises(CheckpointError):
        ModelSpec("nothing", "cpu").fingerprint()


def test_an_adapter_is_a_part_of_the_method(tiny_weights, tmp_path):
    plain = ModelSpec(str(tiny_weights), "cpu")
    model = load_weights(tiny_weights)
    add_lora(model, LoraSettings(rank=2))
    save_adapter(model, tmp_path / "mine")
    adapted = replace(plain, adapter=tmp_path / "mine")
    assert adapted.name == f"{plain.name}+mine"
    assert adapted.fingerprint() != plain.fingerprint()
    assert adapted.build().predictor.model is not plain.build().predictor.model
    with pytest.raises(CheckpointError, match="finetune"):
        replace(plain, adapter=tmp_path).fingerprint()
