"""What samples come to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inpaintrt_bench.schema import Series, Statistics

__all__ = ["make_series", "pair_ratios", "summarise"]


def summarise(samples: Sequence[float]) -> Statistics:
    """Median, mean, percentiles and range.

    Args:
        samples: At least one number.

    Raises:
        ValueError: There are no samples, or one is not finite.
    """
    values = np.asarray(samples, np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"finite samples are needed, {list(samples)} were given")
    median, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return Statistics(
        count=values.size,
        median=median,
        mean=float(values.mean()),
        p90=p90,
        p99=p99,
        minimum=float(values.min()),
        maximum=float(values.max()),
    )


def make_series(samples: Sequence[float], unit: str = "s", *, warm_up: int = 0) -> Series:
    """Samples with what they come to."""
    return Series(
        unit=unit, samples=tuple(map(float, samples)), statistics=summarise(samples), warm_up=warm_up
    )


def pair_ratios(samples: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Each sample over the baseline's sample of the same round, so that a slow minute slows both.

    Raises:
        ValueError: They are not equally many.
    """
    return [own / other for own, other in zip(samples, baseline, strict=True)]
