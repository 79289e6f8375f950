"""The load test: the same arrivals for the same server in several modes, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inpaintrt.errors import InpaintError
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_bench.isolation import run_alone
from inpaintrt_bench.schema import Row, Scalar
from inpaintrt_bench.serve.figures import Pictures, Pixels, make_row, steady_throughput
from inpaintrt_bench.serve.load import Loop, Sent, draw_arrivals, run_closed, run_open
from inpaintrt_bench.serve.server import ServedProcess
from inpaintrt_bench.serve.tasks import Task
from inpaintrt_bench.serve.wire import make_call

__all__ = ["MODES", "CapacityError", "Study", "StudySettings", "paint_references"]

MODES = ("continuous", "whole-batches", "one-at-a-time")
_GUIDANCE = 7.5


_LOOK = "ask the server for one picture, and look at its log"


class CapacityError(InpaintError):
    """There is no capacity that loads could be fractions of."""


@dataclass(frozen=True)
class StudySettings:
    """What is measured.

    Attributes:
        bundle: A name in the engine store, or a path.
        modes: Modes of the server; the capacity of the first is what loads are fractions of.
        loads: Rates as fractions of the capacity.
        rates: Rates in requests a second, beside the loads.
        seconds: Length of one load.
        capacity_seconds: Length of one measurement of the capacity.
        rounds: How often everything is repeated; the order of the modes turns.
        clients: Requests in flight while the capacity is measured.
        server_options: Further words of the server's command line.
        seed: What arrivals and the choice of calls depend on.
    """

    bundle: str
    modes: tuple[str, ...] = MODES
    loads: tuple[float, ...] = (0.5, 0.8, 1.2)
    rates: tuple[float, ...] = ()
    seconds: float = 40.0
    capacity_seconds: float = 20.0
    rounds: int = 2
    clients: int = 16
    server_options: tuple[str, ...] = ()
    seed: int = 0


def paint_references(bundle: str, tasks: Sequence[Task]) -> list[Pixels]:
    """The picture of each task as the pipeline paints it alone, `[height, width, 3]` uint8."""
    with InpaintPipeline.from_bundle(bundle) as pipe:
        return [_paint(pipe, task) for task in tasks]


def _paint(pipe: InpaintPipeline, task: Task) -> Pixels:
    output = pipe(
        task.prompt,
        task.image,
        task.mask,
        num_inference_steps=task.steps,
        guidance_scale=_GUIDANCE,
        scheduler=task.sampler,
        seed=task.seed,
    )
    return np.asarray(output.images[0], np.uint8)


def _describe(
    settings: StudySettings, tasks: Sequence[Task], apis: Sequence[str]
) -> dict[str, Scalar | list[Scalar]]:
    return {
        "bundle": settings.bundle,
        "apis": list(apis),
        "tasks": len(tasks),
        "steps": [min(task.steps for task in tasks), max(task.steps for task in tasks)],
        "sizes": [f"{width}x{height}" for width, height in sorted({task.size for task in tasks})],
        "samplers": list[Scalar](sorted({task.sampler for task in tasks})),
        "seconds": settings.seconds,
        "capacity_seconds": settings.capacity_seconds,
        "rounds": settings.rounds,
        "clients": settings.clients,
        "server_options": list(settings.server_options),
        "seed": settings.seed,
    }


@dataclass(frozen=True)
class _Load:
    """One load: what sets its rows apart, and requests a second; None for a closed loop."""

    case: str
    rate: float | None = None


class Study:
    """One run of the load test.

    Args:
        settings: What is measured.
        tasks: What is asked for.
        apis: Interfaces to ask; each task is written for one of them, in turn.
        tell: Hears what is done next.
    """

    def __init__(
        self,
        settings: StudySettings,
        tasks: Sequence[Task],
        apis: Sequence[str],
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._described = _describe(settings, tasks, apis)
        self._calls = tuple(make_call(task, apis[index % len(apis)]) for index, task in enumerate(tasks))
        self._tell = tell
        tell(f"painting {len(tasks)} reference pictures")
        self._pictures = Pictures(paint_references(settings.bundle, tasks))
        self._sent: dict[tuple[str, _Load], list[Sent]] = {}
        self._resident: dict[str, int] = {}
        self._loads: tuple[_Load, ...] = ()

    def describe(self) -> dict[str, Scalar | list[Scalar]]:
        """What all rows have in common."""
        return dict(self._described)

    def run(self) -> Iterator[tuple[Row, ...]]:
        """Measure; after each server all rows as they are now."""
        modes = self._settings.modes
        for number in range(self._settings.rounds):
            turn = number % len(modes)
            for mode in modes[turn:] + modes[:turn]:
                options = ("--mode", mode, *self._settings.server_options)
                with ServedProcess(self._settings.bundle, options) as server:
                    self._measure(server, mode, number)
                yield self._rows()

    def _measure(self, server: ServedProcess, mode: str, number: int) -> None:
        loop = Loop(server.url, self._calls)
        where = f"round {number + 1} of {self._settings.rounds}, {mode}"
        self._tell(f"{where}: capacity")
        closed = run_alone(run_closed, loop, self._settings.clients, self._settings.capacity_seconds)
        self._keep(mode, _CAPACITY, closed)
        self._loads = self._loads or self._make_loads(
            steady_throughput(closed, self._settings.capacity_seconds)
        )
        for index, load in enumerate(self._loads):
            self._tell(f"{where}: {load.case}, {load.rate:.2f} requests a second")
            seed = f"{self._settings.seed}/{number}/{index}"
            arrivals = draw_arrivals(load.rate or 0.0, self._settings.seconds, seed)
            self._keep(mode, load, run_alone(run_open, loop, arrivals, seed))
        self._resident[mode] = server.resident_bytes()

    def _make_loads(self, capacity: float) -> tuple[_Load, ...]:
        if not capacity:
            raise CapacityError("no picture came while the capacity was measured", hint=_LOOK)
        relative = [_Load(f"{share:.0%} of capacity", share * capacity) for share in self._settings.loads]
        return (*relative, *(_Load(f"{rate:g} a second", rate) for rate in self._settings.rates))

    def _keep(self, mode: str, load: _Load, sent: Sent) -> None:
        self._sent.setdefault((mode, load), []).append(sent)

    def _rows(self) -> tuple[Row, ...]:
        seconds = self._settings.capacity_seconds
        return tuple(
            make_row(
                mode,
                {"load": load.case, "rate": load.rate},
                sent,
                self._pictures,
                resident=self._resident[mode],
                window=seconds if load is _CAPACITY else None,
            )
            for (mode, load), sent in self._sent.items()
        )


_CAPACITY = _Load("capacity")
