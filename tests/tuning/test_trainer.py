"""The training loop on a network of forty weights."""

from __future__ import annotations

import csv
import json
import math
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_slidesam.errors import TuningError
from napari_slidesam.tuning.checkpoint_file import load_best, load_checkpoint
from napari_slidesam.tuning.failures import NotFiniteError
from napari_slidesam.tuning.precision import autocast_dtype
from napari_slidesam.tuning.processes import OneProcess
from napari_slidesam.tuning.schedule import learning_rate
from napari_slidesam.tuning.task import StepDraw, StepLoss, ValidationReport
from napari_slidesam.tuning.trainer import TrainerConfig, step_seed, train

TOY = Path(__file__).with_name("toy_run.py")
ToyTask = runpy.run_path(str(TOY))["ToyTask"]

CONFIG = TrainerConfig(
    steps=12, learning_rate=1e-2, warmup_steps=3, report_every=1, precision="float32"
)


def losses_of(reports):
    return {r.step: r.loss for r in reports if not math.isnan(r.loss)}


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def weights_of(task):
    return {n: t.detach().clone() for n, t in task.trained_state().items()}


def assert_same(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


class Scores:
    """A validation that answers with given Dice scores, and remembers what it was shown."""

    def __init__(self, *scores):
        self.scores, self.seen = list(scores), {}

    def __call__(self, model, step):
        assert not model.training
        self.seen[step] = model.first.weight.detach().clone()
        dice = self.scores.pop(0)
        return ValidationReport(step, dice, {"volume/1": dice}, 0.0)


# The loop.


def test_reports_follow_the_steps_and_the_loss_falls(tmp_path):
    config = replace(CONFIG, steps=60, report_every=10, batch_size=16)
    reports = list(train(ToyTask(dropout=0), tmp_path, config))
    assert [r.step for r in reports] == [10, 20, 30, 40, 50, 60]
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].windows == 60 * 16
    assert reports[-1].epoch == 12
    assert {r.total_steps for r in reports} == {60}
    assert reports[-1].seconds_left == 0
    assert reports[0].parts["error"] == pytest.approx(reports[0].loss)
    assert reports[0].peak_memory_bytes > 1e7


def test_the_last_report_holds_the_odd_steps(tmp_path):
    reports = list(train(ToyTask(), tmp_path, replace(CONFIG, steps=7, report_every=5)))
    assert [r.step for r in reports] == [5, 7]


@pytest.mark.parametrize(
    ("bounds", "steps"),
    [
        ({"steps": None, "epochs": 2}, 10),
        ({"steps": 3, "epochs": 2}, 3),
        ({"steps": None, "epochs": 0.5}, 3),
        ({"steps": None, "minutes": 0.0}, 0),
        ({"steps": 4, "minutes": 600.0}, 4),
    ],
)
def test_the_tightest_bound_ends_a_run(tmp_path, bounds, steps):
    reports = list(train(ToyTask(), tmp_path, replace(CONFIG, **bounds)))
    assert len(reports) == steps
    assert load_checkpoint(tmp_path / "checkpoint.pt").progress.step == steps


def test_minutes_end_a_run(tmp_path):
    config = replace(CONFIG, steps=None, minutes=0.5 / 60)
    reports = list(train(ToyTask(delay=0.05), tmp_path, config))
    assert 0.5 <= reports[-1].seconds < 5
    assert reports[1].total_steps >= 2
    assert reports[1].seconds_left < 0.5


@pytest.mark.parametrize(
    "wrong", [{"steps": None}, {"batch_size": 0}, {"accumulate": 0}, {"ema_every": 0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(TuningError, match=r"steps|at least 1"):
        replace(CONFIG, **wrong)


def test_a_network_with_nothing_to_train_is_refused(tmp_path):
    task = ToyTask()
    task.model.requires_grad_(False)
    with pytest.raises(TuningError, match="adapter or the decoder"):
        list(train(task, tmp_path, CONFIG))


def test_learning_rate_warms_up_and_falls():
    config = replace(CONFIG, steps=100, warmup_steps=10)
    rates = [learning_rate(config, step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(1e-3, rel=0.01)
    assert max(rates) == pytest.approx(1e-2, rel=0.05)
    assert rates.index(max(rates)) == 9
    assert rates[-1] < 2e-6
    assert learning_rate(replace(config, cosine=False), 100, 1.0) == pytest.approx(1e-2, rel=0.01)


def test_only_what_requires_gradients_changes_and_only_matrices_decay(tmp_path):
    task = ToyTask(dropout=0)
    with torch.no_grad():
        task.model.frozen.weight.zero_()  # no gradient reaches the layers before
    before = {n: t.clone() for n, t in task.model.state_dict().items()}
    list(train(task, tmp_path, replace(CONFIG, weight_decay=0.5)))
    after = task.model.state_dict()
    for name in ("frozen.weight", "frozen.bias", "first.bias", "second.bias"):
        assert torch.equal(before[name], after[name])
    assert (after["first.weight"].abs() < before["first.weight"].abs()).all()


class RatedToy(ToyTask):
    """Its first layer learns at a tenth of the rate."""

    def rate_share(self, name):
        return 0.1 if name.startswith("first") else 1.0


def test_parameters_learn_at_their_own_rates(tmp_path):
    moved = {}
    for task in (ToyTask(dropout=0), RatedToy(dropout=0)):
        before = weights_of(task)
        config = replace(CONFIG, steps=1, warmup_steps=1, weight_decay=0.0)
        list(train(task, tmp_path / type(task).__name__, config))
        moved[type(task)] = {n: (t - before[n]).abs() for n, t in weights_of(task).items()}
    plain, rated = moved[ToyTask], moved[RatedToy]
    torch.testing.assert_close(
        rated["first.weight"], 0.1 * plain["first.weight"], rtol=0.01, atol=0
    )
    torch.testing.assert_close(rated["second.weight"], plain["second.weight"])


def test_rates_of_their_own_survive_a_pause(tmp_path):
    whole = losses_of(train(RatedToy(), tmp_path / "whole", CONFIG))
    run = train(RatedToy(), tmp_path / "parts", CONFIG)
    first = losses_of(next(run) for _ in range(5))
    run.close()
    assert first | losses_of(train(RatedToy(), tmp_path / "parts", CONFIG)) == whole


def test_accumulated_batches_count_as_one_step(tmp_path):
    task, whole = ToyTask(dropout=0), ToyTask(dropout=0)
    config = replace(CONFIG, steps=3, accumulate=2)
    reports = list(train(task, tmp_path / "a", config))
    assert [d.step for d in task.draws] == list(range(6))
    assert reports[-1].windows == 3 * 2 * CONFIG.batch_size

    def joined(draw):
        halves = [replace(draw, step=2 * draw.step + k) for k in (0, 1)]
        batches = [ToyTask.batch(whole, half) for half in halves]
        return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))

    whole.batch = joined
    list(train(whole, tmp_path / "b", replace(CONFIG, steps=3)))
    torch.testing.assert_close(task.model.first.weight, whole.model.first.weight)


def test_draws_differ_by_step_process_and_stream():
    draw = StepDraw(seed=1, step=2, process=3, batch_size=4)
    seeds = {
        step_seed(draw),
        step_seed(draw, 1),
        step_seed(replace(draw, seed=2)),
        step_seed(replace(draw, step=3)),
        step_seed(replace(draw, process=2)),
    }
    assert len(seeds) == 5
    assert step_seed(replace(draw, batch_size=9, progress=0.5)) == step_seed(draw)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "auto"])
def test_reduced_precision_trains(tmp_path, precision):
    config = replace(CONFIG, steps=40, precision=precision, report_every=20)
    first, last = train(ToyTask(dropout=0), tmp_path, config)
    assert last.loss < first.loss
    resumed = list(train(ToyTask(dropout=0), tmp_path, replace(config, steps=60)))
    assert [r.step for r in resumed] == [60]


def test_precision_is_checked():
    with pytest.raises(TuningError, match="auto, float32"):
        autocast_dtype("float8", torch.device("cpu"))
    assert autocast_dtype("float32", torch.device("cpu")) is None
    assert autocast_dtype("bfloat16", torch.device("cpu")) is torch.bfloat16


def test_a_run_without_accelerate_is_the_same(tmp_path):
    with_it = losses_of(train(ToyTask(), tmp_path / "a", CONFIG))
    without = losses_of(train(ToyTask(), tmp_path / "b", CONFIG, accelerator=OneProcess()))
    assert with_it == without


# The moving average, validation, and the best weights.


def test_the_moving_average_is_left_in_the_network(tmp_path):
    task, plain = ToyTask(), ToyTask()
    config = replace(CONFIG, ema_decay=0.9, ema_every=2)
    assert losses_of(train(task, tmp_path / "a", config)) == losses_of(
        train(plain, tmp_path / "b", CONFIG)
    )
    kept = load_checkpoint(tmp_path / "a" / "checkpoint.pt")
    assert_same(kept.trained, weights_of(plain))
    assert_same(task.trained_state(), kept.average)
    assert not torch.equal(kept.average["first.weight"], kept.trained["first.weight"])
    assert kept.average["calls"] == 12


def test_validation_comes_before_every_so_often_and_at_the_end(tmp_path):
    scores = Scores(0.1, 0.2, 0.3, 0.4)
    config = replace(CONFIG, validate_every_steps=5, report_every=4)
    reports = list(train(ToyTask(), tmp_path, config, scores))
    assert list(scores.seen) == [0, 5, 10, 12]
    assert [r.step for r in reports] == [0, 4, 5, 8, 10, 12]
    assert [r.step for r in reports if r.validation is not None] == [0, 5, 10, 12]
    assert math.isnan(reports[0].loss)
    rows = rows_of(tmp_path / "validation.csv")
    assert [(r["step"], r["label"], r["dice"]) for r in rows][1] == ("5", "volume/1", "0.2")


def test_validation_by_minutes(tmp_path):
    scores = Scores(*[0.1] * 20)
    config = replace(CONFIG, validate_every_minutes=0.1 / 60, checkpoint_minutes=100)
    list(train(ToyTask(delay=0.03), tmp_path, config, scores))
    assert len(scores.seen) >= 3


def test_validation_sees_the_average_and_leaves_training_alone(tmp_path):
    config = replace(CONFIG, ema_decay=0.9, validate_every_steps=4)
    scores = Scores(0.1, 0.2, 0.3, 0.4)
    task = ToyTask()
    with_it = losses_of(train(task, tmp_path / "a", config, scores))
    without = losses_of(train(ToyTask(), tmp_path / "b", config))
    assert with_it == without
    kept = load_checkpoint(tmp_path / "a" / "checkpoint.pt")
    assert torch.equal(scores.seen[12], kept.average["first.weight"])


def test_the_best_weights_are_kept_and_put_back(tmp_path):
    scores = Scores(0.1, 0.7, 0.3, 0.7)
    task = ToyTask()
    list(train(task, tmp_path, replace(CONFIG, validate_every_steps=4), scores))
    best = load_best(tmp_path)
    assert (best.step, best.dice) == (4, 0.7)
    assert torch.equal(best.state["first.weight"], scores.seen[4])
    assert torch.equal(task.model.first.weight, scores.seen[4])


@pytest.mark.parametrize(
    ("scores", "kept"),
    [((0.5, 0.51, 0.52, 0.515), 0), ((0.5, 0.51, 0.53, 0.535), 12), ((0.5, 0.55, 0.54, 0.4), 4)],
)
def test_a_small_gain_over_the_untouched_network_is_none(tmp_path, scores, kept):
    task, config = ToyTask(), replace(CONFIG, validate_every_steps=4, least_gain=0.04)
    seen = Scores(*scores)
    list(train(task, tmp_path, config, seen))
    assert load_best(tmp_path).step == kept
    assert torch.equal(task.model.first.weight, seen.seen[kept])


def test_patience_ends_a_run(tmp_path):
    scores = Scores(0.5, 0.6, 0.6, 0.4, 0.9)
    config = replace(CONFIG, validate_every_steps=2, patience=2)
    reports = list(train(ToyTask(), tmp_path, config, scores))
    assert reports[-1].step == 6
    assert list(train(ToyTask(), tmp_path, config, scores)) == []


def test_a_finished_run_is_not_trained_again(tmp_path):
    task = ToyTask()
    list(train(task, tmp_path, CONFIG, Scores(0.1, 0.2)))
    again = ToyTask()
    assert list(train(again, tmp_path, CONFIG, Scores())) == []
    assert_same(again.trained_state(), task.trained_state())


# Stopping and going on.


def test_a_closed_run_goes_on_with_the_same_losses(tmp_path):
    config = replace(CONFIG, ema_decay=0.9)
    expected = losses_of(train(ToyTask(), tmp_path / "whole", config))
    run = train(ToyTask(), tmp_path / "parts", config)
    begun = losses_of(next(run) for _ in range(5))
    run.close()
    task = ToyTask()
    rest = losses_of(train(task, tmp_path / "parts", config))
    assert begun | rest == expected
    assert min(rest) == 6
    whole = load_checkpoint(tmp_path / "whole" / "checkpoint.pt")
    assert_same(task.trained_state(), whole.average)


def test_asking_to_stop_ends_a_run_between_steps(tmp_path):
    task, scores = ToyTask(), Scores(0.3)
    reports = list(train(task, tmp_path, CONFIG, scores, should_stop=lambda: len(task.draws) == 4))
    assert reports[-1].step == 4
    assert load_checkpoint(tmp_path / "checkpoint.pt").progress.step == 4
    assert torch.equal(task.model.first.weight, scores.seen[0])
    rest = list(train(ToyTask(), tmp_path, CONFIG, Scores(0.1)))
    assert [r.step for r in rest] == list(range(5, 13))


def test_resume_can_be_declined(tmp_path):
    list(train(ToyTask(), tmp_path, CONFIG, Scores(0.1, 0.2)))
    reports = list(train(ToyTask(), tmp_path, replace(CONFIG, steps=3), resume=False))
    assert [r.step for r in reports] == [1, 2, 3]
    assert load_best(tmp_path) is None
    assert len(rows_of(tmp_path / "log.csv")) == 3


@pytest.mark.parametrize(
    ("config", "task", "words"),
    [
        (replace(CONFIG, seed=1), {}, "seed"),
        (replace(CONFIG, identity="b"), {}, "data"),
        (replace(CONFIG, ema_decay=0.9), {}, "moving average"),
        (CONFIG, {"ballast": 3}, "weights"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, config, task, words):
    list(train(ToyTask(), tmp_path, replace(CONFIG, steps=1)))
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(TuningError, match=words):
        list(train(ToyTask(**task), tmp_path, config))
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_rates_and_sizes_may_change_between_resumed_runs(tmp_path):
    list(train(ToyTask(), tmp_path, replace(CONFIG, steps=2)))
    changed = replace(CONFIG, steps=4, learning_rate=1e-3, batch_size=2, weight_decay=0.0)
    reports = list(train(ToyTask(), tmp_path, changed))
    assert reports[-1].learning_rate < 1e-3
    assert reports[-1].windows == 2 * 8 + 2 * 2


def test_killed_at_any_time_a_run_goes_on_to_the_same_losses(tmp_path):
    steps, ballast = 24, 1_000_000
    config = TrainerConfig(
        steps=steps, learning_rate=1e-2, ema_decay=0.9, report_every=1, precision="float32"
    )
    expected = losses_of(train(ToyTask(ballast=ballast), tmp_path / "whole", config))
    losses, out = tmp_path / "losses.jsonl", tmp_path / "run"

    def killed(is_time):
        options = f"--steps {steps} --ballast {ballast} --delay 0.01 --losses {losses}".split()
        process = subprocess.Popen([sys.executable, str(TOY), str(out), *options])
        try:
            deadline = time.monotonic() + 120
            while not is_time(process):
                assert process.poll() is None
                assert time.monotonic() < deadline
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def reported():
        lines = losses.read_text().splitlines() if losses.exists() else []
        return [json.loads(line) for line in lines if line.endswith("]")]

    def is_writing(process):
        """Hold the process where it has written a part of a checkpoint."""
        if len(reported()) < 9 or not list(out.glob(".*-checkpoint.pt")):
            return False
        process.send_signal(signal.SIGSTOP)
        if list(out.glob(".*-checkpoint.pt")):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    killed(lambda process: len(reported()) >= 5)
    killed(is_writing)
    assert list(out.glob(".*-checkpoint.pt"))
    rest = losses_of(train(ToyTask(ballast=ballast), out, config))
    assert not list(out.glob(".*-checkpoint.pt"))
    assert 0 < len(rest) < steps
    found = reported() + list(rest.items())
    assert {step for step, _ in found} == set(range(1, steps + 1))
    assert all(loss == expected[step] for step, loss in found)
    rows = rows_of(out / "log.csv")
    assert [int(r["step"]) for r in rows] == list(range(1, steps + 1))


def test_two_processes_average_their_gradients(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(TOY), str(tmp_path / "run"), "--steps=6"]
    command += ["--dropout=0", "--checkpoint-minutes=9", f"--state={tmp_path / 'state'}"]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"state-{k}.pt", weights_only=True) for k in (0, 1))
    assert_same(first, second)
    assert torch.load(tmp_path / "state-1.d.pt") == [1] * 6

    one = ToyTask(dropout=0)
    config = TrainerConfig(
        steps=6, accumulate=2, learning_rate=1e-2, ema_decay=0.9, precision="float32"
    )
    alone = list(train(one, tmp_path / "alone", config))
    torch.testing.assert_close(first["first.weight"], one.model.first.weight.detach())
    row = rows_of(tmp_path / "run" / "log.csv")[-1]
    assert int(row["windows"]) == alone[-1].windows == 6 * 2 * 8


# Failures.


def test_a_loss_that_is_not_finite_stops_and_the_good_weights_return(tmp_path):
    class Exploding(ToyTask):
        def loss(self, batch):
            loss = super().loss(batch)
            return StepLoss(loss.total * math.nan) if len(self.draws) == 6 else loss

    task = Exploding()
    with pytest.raises(NotFiniteError, match=r"step 6.*resume with a smaller learning rate"):
        list(train(task, tmp_path, replace(CONFIG, checkpoint_minutes=0)))
    kept = load_checkpoint(tmp_path / "checkpoint.pt")
    assert kept.progress.step == 5
    assert_same(task.trained_state(), kept.trained)
    rest = list(train(ToyTask(), tmp_path, replace(CONFIG, learning_rate=1e-3)))
    assert rest[-1].step == 12


def test_single_gradients_that_are_not_finite_change_nothing(tmp_path):
    class Spiky(ToyTask):
        always = False

        def loss(self, batch):
            loss = super().loss(batch)
            if len(self.draws) != 3 and not self.always:
                return loss
            # The square root's slope at 0 is infinite, its value is not.
            return StepLoss(loss.total + (self.model.first.weight.sum() * 0).sqrt())

    task = Spiky(dropout=0)
    assert list(train(task, tmp_path / "once", CONFIG))[-1].step == 12
    assert torch.isfinite(task.model.first.weight).all()
    task = Spiky(dropout=0)
    task.always = True
    before = weights_of(task)
    with pytest.raises(NotFiniteError, match="gradients of 30 steps"):
        list(train(task, tmp_path / "always", replace(CONFIG, steps=50)))
    assert torch.equal(before["first.weight"], task.model.first.weight)


def test_full_memory_loses_nothing(tmp_path):
    class Greedy(ToyTask):
        def loss(self, batch):
            if len(self.draws) == 5:
                torch.empty(2**58)
            return super().loss(batch)

    with pytest.raises(TuningError, match=r"batch of 8.*Lower batch_size.*checkpointing"):
        list(train(Greedy(), tmp_path, CONFIG))
    rest = losses_of(train(ToyTask(), tmp_path, CONFIG))
    whole = losses_of(train(ToyTask(), tmp_path / "whole", CONFIG))
    assert rest == {step: whole[step] for step in range(5, 13)}


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    run = train(ToyTask(ballast=100_000), tmp_path, replace(CONFIG, checkpoint_minutes=0))
    for _ in range(3):
        next(run)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(TuningError, match=r"File too large.*resume when there is room"):
            list(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert not list(tmp_path.glob(".*"))
    rest = losses_of(train(ToyTask(ballast=100_000), tmp_path, CONFIG))
    whole = losses_of(train(ToyTask(ballast=100_000), tmp_path / "whole", CONFIG))
    assert rest == {step: whole[step] for step in range(4, 13)}


def test_a_log_that_cannot_be_written_stops_and_training_is_kept(tmp_path):
    run = train(ToyTask(), tmp_path, CONFIG)
    next(run)
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").symlink_to("/dev/full")
    with pytest.raises(TuningError, match=r"log.*No space left on device"):
        next(run)
    assert load_checkpoint(tmp_path / "checkpoint.pt").progress.step == 2


def test_an_interrupt_writes_a_checkpoint_first(tmp_path):
    class Interrupted(ToyTask):
        def batch(self, draw):
            if draw.step == 4:
                raise KeyboardInterrupt
            return super().batch(draw)

    with pytest.raises(KeyboardInterrupt):
        list(train(Interrupted(), tmp_path, CONFIG))
    assert load_checkpoint(tmp_path / "checkpoint.pt").progress.step == 4


def test_a_failed_validation_leaves_the_trained_weights(tmp_path):
    def failing(model, step):
        if step:
            raise TuningError("nothing to validate")
        return ValidationReport(step, 0.5, {}, 0.0)

    config = replace(CONFIG, ema_decay=0.5, validate_every_steps=3)
    with pytest.raises(TuningError, match="nothing to validate"):
        list(train(ToyTask(), tmp_path, config, failing))
    rest = losses_of(train(ToyTask(), tmp_path, config, Scores(0.1, 0.2, 0.3, 0.4)))
    assert rest == {
        step: loss
        for step, loss in losses_of(train(ToyTask(), tmp_path / "whole", config)).items()
        if step > 3
    }
