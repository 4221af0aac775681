from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_slidesam.engine.predictor import Predictor
from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.cases import Case
from napari_slidesam.evaluation.methods import ModelMethod
from napari_slidesam.evaluation.run import evaluate
from napari_slidesam.jobs.data import load_data
from napari_slidesam.jobs.spec import FinetuneJob, PairSpec
from napari_slidesam.jobs.validation import PropagationValidator, held_out
from napari_slidesam.volume import Volume


@pytest.fixture
def source(image, labels):
    return held_out("phantom", Volume(image, (2.0, 1.0, 1.0), "mm"), labels, 0)


def test_a_network_that_sees_is_good_and_one_that_does_not_is_not(source, network):
    validate = PropagationValidator([source])
    assert validate.n_objects == 2
    good = validate(network, 30)
    assert good.step == 30
    assert set(good.dice_by_label) == {"phantom/3", "phantom/7"}
    assert min(good.dice_by_label.values()) > 0.9
    assert good.dice == pytest.approx(np.mean(list(good.dice_by_label.values())))
    assert good.seconds > 0
    network.level = 2.0
    assert validate(network, 31).dice == 0.0


def test_it_is_the_evaluation_with_one_box(source, network):
    report = PropagationValidator([source], few_objects=0)(network, 0)
    case = Case("phantom", source.case.volume, source.case.labels_zyx, 0, (3, 7))
    scores = evaluate([case], [ModelMethod(Predictor(network))], ["1-box"])
    expected = {f"phantom/{s.object}": s.dice for s in scores}
    assert report.dice_by_label == pytest.approx(expected)


def test_the_same_each_time_and_the_mode_is_put_back(source, network):
    validate = PropagationValidator([source], boxes=3, seed=5)
    network.train()
    first, second = validate(network, 0), validate(network, 1)
    assert first.dice_by_label == second.dice_by_label
    assert network.training
    assert not any(network.was_training)


def test_few_objects_are_looked_at_three_times(source, network):
    validate = PropagationValidator([source])
    assert validate.n_objects == 2
    slices = {(a.object_id, a.look): a.prompts.anchor_slices for a in validate._asked}
    # object 3 is on slices 3 to 17
    assert [slices[3, look] for look in range(3)] == [(10,), (6,), (14,)]
    assert slices[7, 1] < slices[7, 0] < slices[7, 2]
    once = PropagationValidator([source], few_objects=1)
    assert len(once._asked) == once.n_objects == 2
    assert validate.n_windows == 3 * once.n_windows
    assert set(validate(network, 0).dice_by_label) == set(once(network, 0).dice_by_label)
    assert validate.preview is not None
    assert once.preview is not None
    np.testing.assert_array_equal(validate.preview.found, once.preview.found)


def test_few_objects_are_chosen_of_many(image, labels, network):
    labels = labels.copy()
    labels[18:, :20, 30:] = 9
    source = held_out("a", Volume(image), labels, 0)
    assert source.case.object_ids == (3, 7)  # six slices are too few beside eight
    validate = PropagationValidator([source, replace(source)], max_objects=2)
    assert validate.n_objects == 2
    # one of each: evenly over both
    assert set(validate(network, 0).dice_by_label) == {"a/7"}


def test_only_near_the_box(source, network):
    validate = PropagationValidator([source], reach_slices=2)
    assert validate(network, 0).dice > 0.9
    assert validate.preview is not None
    near = {(a.object_id, a.look): a.truth.slice_indices for a in validate._asked}
    assert all(len(slices) == 5 for slices in near.values())


def test_slices_that_are_not_labelled_do_not_count(image, labels, network):
    flags = np.ones(24, dtype=bool)
    flags[12:] = False
    sparse = np.where(flags[:, None, None], labels, 0)
    for axis in (0, 2):
        source = held_out("a", Volume(image), sparse, axis, labelled=flags)
        strict = held_out("a", Volume(image), sparse, axis)
        assert PropagationValidator([source])(network, 0).dice > 0.85
        assert PropagationValidator([strict])(network, 0).dice < 0.8


def test_labels_that_are_not_trained_on_are_left_out(image, labels, network):
    source = held_out("a", Volume(image), labels, 0, labels=(7,))
    assert set(PropagationValidator([source])(network, 0).dice_by_label) == {"a/7"}


def test_preview_is_always_the_same_slice(source, network):
    validate = PropagationValidator([source])
    assert validate.preview is None
    validate(network, 0)
    first = validate.preview
    network.level = 2.0
    validate(network, 1)
    second = validate.preview
    assert first is not None
    assert second is not None
    assert first.title == second.title
    assert first.title.startswith("phantom, slice ")
    np.testing.assert_array_equal(first.truth, second.truth)
    assert first.found.any()
    assert first.image.shape == first.truth.shape == first.found.shape == (48, 56)
    assert (first.found & first.truth).sum() > 0.8 * first.truth.sum()
    index = int(first.title.rpartition(" ")[2])
    np.testing.assert_array_equal(first.truth, source.case.labels_zyx[index] > 0)


def test_nothing_to_validate_on(image, network):
    empty = held_out("a", Volume(image), np.zeros(image.shape, np.uint8), 0)
    validate = PropagationValidator([empty])
    assert validate.n_objects == 0
    assert validate(network, 0).dice_by_label == {}
    assert validate.preview is None


def test_boxes_that_no_protocol_has(source):
    with pytest.raises(EvaluationError, match="4-box"):
        PropagationValidator([source], boxes=4)


def test_a_slab_is_seen_with_the_gap_beside_it(write_pair, tmp_path):
    paths = [str(path) for path in write_pair(tmp_path)]
    job = FinetuneJob("a", pairs=(PairSpec("phantom", *paths),), validation_share=0.35)
    data = load_data(job, tmp_path)
    assert data is not None
    (region,), (source,) = data.parts.validation, data.held_out
    start, stop = max(0, region.start - 2), min(24, region.stop + 2)
    assert region.axis == 0
    assert source.case.volume.shape_zyx == (stop - start, 48, 56)
    assert np.flatnonzero(source.labelled).tolist() == list(
        range(region.start - start, region.stop - start)
    )
    assert not source.case.labels_zyx[~source.labelled].any()
    assert all(r.stop <= start or r.start >= stop for r in data.parts.train)
