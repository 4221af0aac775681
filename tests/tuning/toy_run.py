"""A network of forty weights, trained in seconds; as a script, in a process of its own."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from napari_slidesam.tuning.processes import processes_here
from napari_slidesam.tuning.task import StepLoss
from napari_slidesam.tuning.trainer import TrainerConfig, train


class ToyNetwork(nn.Module):
    """Two layers with dropout, a count of its calls, and ballast for the checkpoint."""

    def __init__(self, dropout, ballast):
        super().__init__()
        self.first = nn.Linear(2, 8)
        self.second = nn.Linear(8, 1)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("ballast", torch.zeros(ballast))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.frozen(self.second(self.dropout(torch.tanh(self.first(x)))))


class ToyTask:
    """Learns the product of two numbers."""

    steps_per_epoch = 5

    def __init__(self, *, dropout=0.2, ballast=0, processes=1, delay=0.0):
        torch.manual_seed(5)
        self.model = ToyNetwork(dropout, ballast)
        self.processes, self.delay = processes, delay
        self.draws = []

    def batch(self, draw):
        time.sleep(self.delay)
        self.draws.append(draw)
        # Numbered so that two processes see what one sees that accumulates two micro-batches.
        number = draw.step * self.processes + draw.process
        generator = torch.Generator().manual_seed(1000 * draw.seed + number)
        x = torch.rand(draw.batch_size, 2, generator=generator)
        return x, x.prod(1, keepdim=True)

    def loss(self, batch):
        x, y = batch
        error = (self.model(x) - y).square().mean()
        return StepLoss(error, {"error": float(error.detach())})

    def trained_state(self):
        return {n: t for n, t in self.model.state_dict().items() if not n.startswith("frozen")}

    def load_trained_state(self, state):
        missing, unexpected = self.model.load_state_dict(dict(state), strict=False)
        assert not unexpected
        assert all(name.startswith("frozen") for name in missing)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--checkpoint-minutes", type=float, default=0.0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--ballast", type=int, default=0)
    parser.add_argument("--losses", type=Path)
    parser.add_argument("--state", type=Path)
    args = parser.parse_args()
    processes = processes_here()
    task = ToyTask(
        dropout=args.dropout,
        ballast=args.ballast,
        processes=processes.num_processes,
        delay=args.delay,
    )
    config = TrainerConfig(
        steps=args.steps,
        learning_rate=1e-2,
        ema_decay=0.9,
        report_every=1,
        precision="float32",
        checkpoint_minutes=args.checkpoint_minutes,
    )
    for report in train(task, args.out, config, accelerator=processes):
        if args.losses is not None:
            with args.losses.open("a") as stream:
                stream.write(json.dumps([report.step, report.loss]) + "\n")
    if args.state is not None:
        torch.save(task.trained_state(), f"{args.state}-{processes.process_index}.pt")
        torch.save([d.process for d in task.draws], f"{args.state}-{processes.process_index}.d.pt")


if __name__ == "__main__":
    main()
