"""The odd runner as an entry of a comparison."""

from pathlib import Path

import pytest

from inpaintrt_bench.runners.catalogue import RunnerSpec
from inpaintrt_bench.runners.launching import Launcher
from inpaintrt_bench.runners.sources import make_case
from inpaintrt_bench.workers.messages import Case

__all__ = ["BUNDLE", "CHECKPOINT", "demo_case", "demo_launcher", "odd", "odd_path"]

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "demo" / "checkpoint"
BUNDLE = ROOT / "engines" / "demo"


def odd(name: str, *, prepares: str | None = None, **options: str | bool | int | None) -> RunnerSpec:
    """An entry for `odd_runner`."""
    return RunnerSpec(
        name=name, module="benchmarks.odd_runner", options=options, needs="checkpoint", prepares=prepares
    )


@pytest.fixture
def odd_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes find `odd_runner`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


def demo_launcher(work: Path, *, timeout: float = 300.0, checkpoint: Path | None = CHECKPOINT) -> Launcher:
    """A launcher for the demo's checkpoint and bundle, on one thread."""
    return Launcher(checkpoint=checkpoint, bundle=BUNDLE, threads=1, work=work, timeout=timeout)


def demo_case(work: Path, *, steps: int = 2, batch: int = 1, sampler: str | None = None) -> Case:
    """The demo's scene at half its size."""
    return make_case(work, width=64, height=64, steps=steps, batch=batch, sampler=sampler)
