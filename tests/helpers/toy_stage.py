"""A stage of toy size: a net learns sums. As a command: toy_stage.py OUTPUT_DIR [FIELD=JSON ...]"""

import json
import sys
import time
from dataclasses import dataclass

import torch
from torch import nn

from llava.errors import UserError
from llava.train.arguments import TrainArguments
from llava.train.stage import open_stage
from llava.train.trainer import train

SAMPLES = 50


@dataclass
class ToyBatch:
    x: torch.Tensor
    y: torch.Tensor
    weight: float

    def to(self, device):
        return ToyBatch(self.x.to(device), self.y.to(device), self.weight)


class ToyData:
    """Sample i counts 1 + i % 3; broken_at gives a NaN, unreadable_at an error."""

    def __init__(self, broken_at=None, unreadable_at=None, noise=0.1):
        self.broken_at, self.unreadable_at, self.noise = broken_at, unreadable_at, noise
        self.x = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return SAMPLES

    def collate(self, indices, generator):
        if self.unreadable_at in indices:
            raise UserError(f"sample {self.unreadable_at} cannot be read")
        x = self.x[indices]
        x = x + self.noise * torch.randn(x.shape, generator=generator)
        y = x.sum(1)
        if self.broken_at in indices:
            y[indices.index(self.broken_at)] = torch.nan
        weights = torch.tensor([1.0 + i % 3 for i in indices])
        return ToyBatch(x, torch.stack([y, weights], dim=1), float(weights.sum()))

    def describe(self, indices):
        return "samples " + ", ".join(map(str, indices))


class Toy(nn.Module):
    """A net with dropout, a frozen part and a parameter that goes unused."""

    def __init__(self, dropout=0.1):
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Tanh())
        self.head = nn.Linear(8, 1)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, batch):
        y, weights = batch.y.unbind(1)
        error = (self.head(self.body(self.frozen(batch.x)))[:, 0] - y).abs()
        return {"loss": (weights * error**2).sum(), "near": (weights * (error < 0.5)).sum()}


def toy_arguments(output_dir, **fields):
    defaults = {"max_steps": 24, "batch_size": 8, "micro_batch_size": 2, "learning_rate": 0.02}
    defaults |= {"device": "cpu", "save_every": 5, "max_grad_norm": 1.0, "warmup_steps": 2}
    return TrainArguments(str(output_dir), **(defaults | fields))


def train_toy(output_dir, data=None, objective=None, groups=None, settings=None, **fields):
    """Trains a toy; returns it."""
    objective = objective or Toy()
    arguments = toy_arguments(output_dir, **fields)
    with open_stage("toy", arguments) as stage:
        train(stage, objective, data or ToyData(), settings or {"data": "toy"}, groups)
    return objective


class SlowData(ToyData):
    """Leaves the time to be killed."""

    def collate(self, indices, generator):
        time.sleep(0.01)
        return super().collate(indices, generator)


def main(argv):
    """Trains slowly; after a failure once more, the data being mended."""
    output_dir, *words = argv
    fields = {name: json.loads(value) for name, value in (word.split("=") for word in words)}
    data = SlowData(unreadable_at=fields.pop("unreadable_at", None))
    try:
        train_toy(output_dir, data, **fields)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        train_toy(output_dir, **fields)


if __name__ == "__main__":
    main(sys.argv[1:])
