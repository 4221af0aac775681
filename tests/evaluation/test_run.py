from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from napari_slidesam.errors import EvaluationError
from napari_slidesam.evaluation.methods import BaselineMethod, ModelMethod, ModelSpec
from napari_slidesam.evaluation.run import FolderEvaluation, evaluate, evaluate_folder
from napari_slidesam.evaluation.settings import EvaluationOptions, check_settings


@pytest.fixture
def folder(tmp_path, write_case):
    write_case(tmp_path / "volumes" / "a", meta={"objects": [3, 7], "modality": "MR"})
    write_case(tmp_path / "volumes" / "b", meta={"objects": [7]})
    return tmp_path / "volumes"


def test_every_method_by_every_protocol(case, predictor):
    methods = [BaselineMethod("box"), BaselineMethod("ellipse"), ModelMethod(predictor)]
    scores = list(evaluate([case], methods, ["1-box", "n-box", "1-point"]))
    asked = {(s.protocol, s.method) for s in scores}
    assert len(asked) == 7, "no baseline by a point"
    assert len(scores) == 14
    assert {s.volume for s in scores} == {"phantom"}
    best = {(s.object, s.protocol, s.method): s.dice for s in scores}
    for label in (3, 7):
        assert best[label, "n-box", "ellipse"] > 0.9
        assert best[label, "n-box", "ellipse"] > best[label, "n-box", "box"]
        assert best[label, "1-box", "ellipse"] > 0.75
        assert best[label, "1-box", "model"] > 0.9


def test_scores_are_reproducible(case):
    def run(**options):
        chosen = EvaluationOptions(**options)
        return [s.dice for s in evaluate([case], [BaselineMethod("box")], ["3-box"], chosen)]

    assert run() == run()
    assert run() != run(seed=1)
    assert run(jitter=0.0) != run()
    assert len(run(limit_objects=1)) == 1


def test_the_tolerance_of_the_surface(case):
    def surface(tolerance):
        options = EvaluationOptions(surface_tolerance=tolerance)
        scores = evaluate([case], [BaselineMethod("ellipse")], ["3-box"], options)
        return [s.surface_dice for s in scores]

    assert np.less(surface(0.5), surface(4.0)).all()
    assert surface(None) == surface(2.0), "the largest spacing"


def test_a_folder_gets_scores_report_and_plots(folder, tmp_path):
    out = tmp_path / "out"
    summary = evaluate_folder(folder, ["1-box", "n-box"], ["box", "ellipse"], out_dir=out)
    assert {p.name for p in out.iterdir()} == {
        "scores.csv",
        "report.md",
        "settings.json",
        "dice_by_protocol.png",
        "dice_by_volume_1-box.png",
        "dice_by_volume_n-box.png",
    }
    assert len((out / "scores.csv").read_text().splitlines()) == 1 + 3 * 2 * 2
    one = summary.of("n-box", "ellipse")
    assert (one.n_volumes, one.n_objects) == (2, 3)
    assert (
        f"| ellipse | {summary.of('1-box', 'ellipse').dice:.3f} |"
        in (out / "report.md").read_text()
    )


def test_an_interrupted_run_is_taken_up_again(folder, tmp_path):
    out = tmp_path / "out"
    first = FolderEvaluation(folder, ["3-box"], ["ellipse", "box"], out_dir=out)
    assert first.n_scores == 6
    scores = first.scores()
    begun = [next(scores), next(scores)]
    scores.close()
    second = FolderEvaluation(folder, ["3-box"], ["ellipse", "box"], out_dir=out)
    assert [s.key for s in second.finished] == [s.key for s in begun]
    rest = list(second.scores())
    assert len(rest) == 4
    assert not {s.key for s in rest} & {s.key for s in begun}
    assert second.finish().of("3-box", "box").n_objects == 3
    assert not list(FolderEvaluation(folder, ["3-box"], ["box"], out_dir=out).scores())


def test_other_seeds_are_other_rows(folder, tmp_path):
    for seed in (0, 1):
        evaluate_folder(folder, ["1-box"], ["box"], out_dir=tmp_path / "out", seed=seed)
    lines = (tmp_path / "out" / "scores.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 2


def test_scores_made_otherwise_are_not_mixed(folder, tmp_path):
    out = tmp_path / "out"
    evaluate_folder(folder, ["1-box"], ["box"], out_dir=out)
    with pytest.raises(EvaluationError, match="jitter"):
        evaluate_folder(folder, ["1-box"], ["box"], out_dir=out, jitter=0.1)
    (out / "settings.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"settings\.json"):
        evaluate_folder(folder, ["1-box"], ["box"], out_dir=out)


def test_settings_of_another_model_are_not_mixed(tmp_path):
    path = tmp_path / "settings.json"
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(b"first")
    spec = ModelSpec(str(weights), "cpu")
    check_settings(path, EvaluationOptions(), spec, has_scores=False)
    check_settings(path, EvaluationOptions(), None, has_scores=True)
    check_settings(path, EvaluationOptions(), spec, has_scores=True)
    assert "model net" in json.loads(path.read_text())
    weights.write_bytes(b"second")
    with pytest.raises(EvaluationError, match="model net"):
        check_settings(path, EvaluationOptions(), spec, has_scores=True)
    check_settings(path, EvaluationOptions(), spec, has_scores=False)


def test_two_processes_find_the_same(folder, tmp_path):
    def rows(workers):
        run = FolderEvaluation(
            folder, ["1-box"], ["box"], out_dir=tmp_path / f"by_{workers}", workers=workers
        )
        return sorted((s.key, round(s.dice, 6)) for s in run.scores())

    assert rows(1) == rows(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocols": ["7-box"]}, "7-box"),
        ({"methods": ["magic"]}, "magic"),
        ({"methods": []}, "at least one method"),
        ({"protocols": []}, "at least one method"),
        ({"workers": 0}, "at least one method"),
        ({"seed": -1}, "seed"),
        ({"jitter": 2.0}, "jitter"),
        ({"limit_objects": 0}, "limit_objects"),
        ({"surface_tolerance": -1.0}, "surface_tolerance"),
    ],
)
def test_bad_options(folder, tmp_path, options, message):
    chosen = {"protocols": ["1-box"], "methods": ["box"], **options}
    with pytest.raises(EvaluationError, match=message):
        FolderEvaluation(folder, out_dir=tmp_path / "out", **chosen)
    assert not (tmp_path / "out").exists()


def test_no_score_no_report(folder, tmp_path):
    with pytest.raises(EvaluationError, match="no score"):
        evaluate_folder(folder, ["1-point"], ["box"], out_dir=tmp_path / "out")


def test_objects_are_not_known_before_the_labels_are_read(tmp_path, write_case):
    write_case(tmp_path / "volumes" / "a")
    run = FolderEvaluation(tmp_path / "volumes", ["1-box"], ["box"], out_dir=tmp_path / "out")
    assert run.n_scores is None
    assert [s.object for s in run.scores()] == [3, 7]


def test_baselines_do_without_torch_and_napari():
    code = (
        "import sys, napari_slidesam.evaluation.run as run; "
        "run.BaselineMethod('ellipse'); "
        "print([m for m in ('torch', 'napari', 'qtpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
