"""What it costs to build plans: time of each component, size, and the largest memory seen."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from inpaintrt.store import find_bundle
from inpaintrt_export.plans import BuildSettings, build_plans

__all__ = ["measure_builds"]

_MEGABYTE = 1e6


@dataclass
class _Watch:
    """Follows a build through its reports of progress, several a second."""

    process: psutil.Process = field(default_factory=psutil.Process)
    largest: int = 0
    started: dict[str, float] = field(default_factory=dict)

    def __call__(self, stage: str, fraction: float | None) -> None:  # noqa: ARG002
        self.largest = max(self.largest, self.process.memory_info().rss)
        self.started.setdefault(stage.partition(":")[0], time.perf_counter())


def measure_builds(bundle: str, settings: BuildSettings) -> dict[str, object]:
    """Build the plans of a bundle that are not there yet, and say what each cost.

    Args:
        bundle: A name in the engine store, or a path; the plans are added to it.
        settings: What the plans are for.

    Returns:
        For each component seconds, megabytes and profiles; and the largest resident memory of this process.
    """
    watch = _Watch()
    report = build_plans(bundle, settings, progress=watch)
    folder = find_bundle(bundle)
    starts = [watch.started[plan.component] for plan in report.built]
    spans = itertools.pairwise([*starts, time.perf_counter()])
    return {
        "backend": settings.backend,
        "targets": list(settings.targets),
        "components": {
            plan.component: {
                "seconds": round(end - start, 2),
                "megabytes": round(_size(folder / plan.file), 1),
                "profiles": len(plan.profiles),
                "library": plan.library,
            }
            for plan, (start, end) in zip(report.built, spans, strict=True)
        },
        "peak_resident_megabytes": round(watch.largest / _MEGABYTE),
    }


def _size(path: Path) -> float:
    return path.stat().st_size / _MEGABYTE
