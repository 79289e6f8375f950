"""One training loop for every stage: averaged weights, a log, and files from which a stopped run goes on."""

import copy
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from inpaintrt.atomic import atomic_write

logger = logging.getLogger(__name__)


class Objective(Protocol):
    """What a stage trains, and what it minimises."""

    @property
    def modules(self) -> nn.Module:
        """What is trained."""
        ...

    def loss(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the loss of `count` samples drawn with the generator, a scalar."""
        ...


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how fast a stage trains."""

    steps: int
    batch: int
    learning_rate: float
    shards: int = 4  # parts of a batch that run side by side
    warm_up: int = 200
    average: float = 0.999  # decay of the averaged weights
    seed: int = 0
    log_every: int = 50
    save_every: int = 250

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate: a linear rise, then half a cosine down to 2 percent."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        progress = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))

    def average_at(self, step: int) -> float:
        """Return the decay of the averaged weights, small at first so that the start is forgotten."""
        return min(self.average, (1 + step) / (10 + step))


class Training:
    """A stage under way: modules, their averaged copy, optimizer and step, kept in one file.

    The randomness of a step depends on the plan's seed and the step alone, so that a resumed run repeats
    what an uninterrupted one does. The shards of a batch run on `workers` threads: small networks gain more
    from this than from threads within an operation, and suffer less from a busy core.
    """

    def __init__(self, objective: Objective, plan: TrainingPlan, file: Path, workers: int = 1) -> None:
        self.objective, self.plan, self.file = objective, plan, file
        self.step = 0
        self.losses: list[float] = []
        self.parameters = list(objective.modules.parameters())
        self.pool = ThreadPoolExecutor(workers)
        self.averaged = copy.deepcopy(objective.modules).eval().requires_grad_(requires_grad=False)
        self.optimizer = torch.optim.AdamW(self.parameters, plan.learning_rate, weight_decay=0.01)
        if file.exists():
            self._resume()

    def run(self, until: int | None = None) -> nn.Module:
        """Train to the end of the plan, or to the step given, and return the averaged modules."""
        until = self.plan.steps if until is None else until
        started, first = time.monotonic(), self.step
        while self.step < until:
            self.losses.append(self._advance())
            if self.step % self.plan.log_every == 0 or self.step == until:
                rate = (self.step - first) * self.plan.batch / (time.monotonic() - started)
                self._log(rate)
            if self.step % self.plan.save_every == 0 or self.step == until:
                self.save()
        return self.averaged

    def save(self) -> None:
        """Write the state to the file, atomically."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "modules": self.objective.modules.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_write(self.file) as partial:
            torch.save(state, partial)

    def _resume(self) -> None:
        state = torch.load(self.file, weights_only=True)
        self.step = state["step"]
        self.objective.modules.load_state_dict(state["modules"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        logger.info("%s: resumed at step %d", self.file.stem, self.step)

    def _advance(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate_at(self.step)
        results = list(self.pool.map(self._shard, range(self.plan.shards)))
        for parameter, *gradients in zip(
            self.parameters, *(gradients for _, gradients in results), strict=True
        ):
            parameter.grad = torch.stack(gradients).mean(dim=0)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self._average()
        self.step += 1
        return sum(loss for loss, _ in results) / self.plan.shards

    def _shard(self, index: int) -> tuple[float, tuple[Tensor, ...]]:
        seed = (self.plan.seed * 1_000_003 + self.step) * self.plan.shards + index
        generator = torch.Generator().manual_seed(seed)
        loss = self.objective.loss(self.plan.batch // self.plan.shards, generator)
        return float(loss.detach()), torch.autograd.grad(loss, self.parameters)

    def _average(self) -> None:
        decay = self.plan.average_at(self.step)
        torch._foreach_lerp_(
            list(self.averaged.parameters()), [p.detach() for p in self.parameters], 1 - decay
        )

    def _log(self, rate: float) -> None:
        recent = self.losses[-self.plan.log_every :]
        logger.info(
            "%s: step %d of %d, loss %.5f, learning rate %.2e, %.0f images/s",
            self.file.stem, self.step, self.plan.steps, sum(recent) / len(recent),
            self.plan.learning_rate_at(self.step), rate,
        )  # fmt: skip


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the context in which forward passes run: bfloat16 where it helps.

    Without the cache of cast weights, which threads would share.
    """
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
