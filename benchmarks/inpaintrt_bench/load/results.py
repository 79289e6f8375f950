"""What the outcomes of a load come to: a row of the report."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.bundle import Manifest
from inpaintrt.loading import load_bundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_bench.load.clients import Outcome, Sent
from inpaintrt_bench.load.requests import Task
from inpaintrt_bench.load.server import ServerSetup
from inpaintrt_bench.report.image_comparison import LIMITS, broken_limits, compare_images
from inpaintrt_bench.report.schema import Row, Scalar, Status, make_series

__all__ = [
    "LARGEST_DIFFERENCE",
    "Difference",
    "Pixels",
    "ReferenceImages",
    "count_ends",
    "make_row",
    "paint_references",
    "steady_throughput",
]

LARGEST_DIFFERENCE = 1
"""How far an image may be from the one that was painted alone, in steps of 1/255: rounding."""

_FULL_RANGE = 255
_RAMP = 0.25
_REFUSED = 429
_FINE = ("status_200", "status_429", "hung_up")
Pixels = NDArray[np.uint8]
_GUIDANCE = 7.5


@dataclass(frozen=True)
class Difference:
    """How far an image is from its reference.

    Attributes:
        largest: The largest difference of a value, in steps of 1/255.
        wrong: Why it is another image; None where it is not.
    """

    largest: int
    wrong: str | None


class ReferenceImages:
    """The images that a load should bring: those that the pipeline paints alone.

    Args:
        references: `[height, width, 3]` uint8, for each call.
        limits: What an image has to keep, from `image_comparison.LIMITS`; None where it may only differ by
            rounding to 8 bits, `LARGEST_DIFFERENCE`.
    """

    def __init__(self, references: Sequence[Pixels], limits: Mapping[str, float] | None = None) -> None:
        self._references, self.limits = references, limits
        self._known: dict[tuple[str, int], Difference] = {}

    def differences(self, sent: Sent) -> list[Difference]:
        """How far each image that came is from its reference."""
        return [
            self._difference(outcome.digest, outcome.call, sent.images)
            for outcome in sent.outcomes
            if outcome.digest is not None
        ]

    def _difference(self, digest: str, call: int, images: Mapping[str, bytes]) -> Difference:
        if (digest, call) not in self._known:
            self._known[digest, call] = _compare(images[digest], self._references[call], self.limits)
        return self._known[digest, call]


def _compare(file: bytes, reference: Pixels, limits: Mapping[str, float] | None) -> Difference:
    with Image.open(io.BytesIO(file)) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != reference.shape:
        return Difference(_FULL_RANGE, f"an image has the shape {pixels.shape}, not {reference.shape}")
    largest = int(np.abs(pixels.astype(np.int16) - reference).max())
    if largest <= LARGEST_DIFFERENCE:
        return Difference(largest, None)
    broken = f"by {largest}/255"
    if limits is not None:
        broken = broken_limits(compare_images(pixels[None], reference[None], "alone", limits))
    return Difference(largest, f"an image differs from the one painted alone: {broken}" if broken else None)


def count_ends(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many requests had which end: "status_200", "status_429", ..., "lost", "hung_up"."""
    return dict(sorted(Counter(map(_end_of, outcomes)).items()))


def _end_of(outcome: Outcome) -> str:
    if outcome.hung_up:
        return "hung_up"
    return "lost" if outcome.failure is not None else f"status_{outcome.status}"


def steady_throughput(sent: Sent, window: float | None = None) -> float:
    """Images a second.

    Args:
        sent: What a loop did.
        window: Seconds that the load lasted. With it the first quarter and what came afterwards do not
            count, since the server was not full then. Without it, or if none was left, every image counts.
    """
    finished = [outcome.finished for outcome in sent.outcomes if outcome.digest is not None]
    if not finished:
        return 0.0
    if window is not None:
        start = window * _RAMP
        counted = sum(start < moment <= window for moment in finished)
        if counted:
            return counted / (window - start)
    return len(finished) / max(finished)


def make_row(
    name: str,
    case: dict[str, Scalar],
    sent: Sequence[Sent],
    images: ReferenceImages,
    *,
    resident: int | None = None,
    window: float | None = None,
) -> Row:
    """What one load, repeated in several rounds, came to.

    The row is "wrong" if an image is not the one that was painted alone, and "failed" if a request was lost
    or ended with anything but its image or a refusal that says when to try again.

    Args:
        name: The server's mode.
        case: What sets this load apart.
        sent: What was sent, a round each.
        images: What should have come.
        resident: Bytes that the server's process held after the last round.
        window: As for `steady_throughput`.
    """
    outcomes = [outcome for part in sent for outcome in part.outcomes]
    differences = [value for part in sent for value in images.differences(part)]
    ends = count_ends(outcomes)
    status, reason = _judge(outcomes, ends, differences)
    times = [outcome.latency for outcome in outcomes if outcome.digest is not None]
    values: dict[str, Scalar] = {
        "requests": len(outcomes),
        "pictures": len(times),
        "refused": ends.get(f"status_{_REFUSED}", 0),
        "lost": ends.get("lost", 0),
        "wrong": sum(value.wrong is not None for value in differences),
        **ends,
        "pictures_per_second": float(np.mean([steady_throughput(part, window) for part in sent])),
    }
    if times:
        percentiles = np.percentile(times, (50, 95, 99)).tolist()
        values |= zip(("p50_seconds", "p95_seconds", "p99_seconds"), percentiles, strict=True)
    if resident is not None:
        values["resident_bytes"] = resident
    series = {"latency": make_series(times)} if times else {}
    return Row(name=name, status=status, reason=reason, case=case, values=values, series=series)


def _judge(
    outcomes: Sequence[Outcome], ends: dict[str, int], differences: Sequence[Difference]
) -> tuple[Status, str | None]:
    others = [f"{count} x {end}" for end, count in ends.items() if end not in _FINE]
    if others:
        reasons = {outcome.failure for outcome in outcomes if outcome.failure is not None}
        return "failed", ", ".join([*others, *sorted(reasons)])
    if any(outcome.status == _REFUSED and not outcome.retry_after for outcome in outcomes):
        return "failed", "a refusal does not say when to try again"
    wrong = [value for value in differences if value.wrong is not None]
    if wrong:
        return "wrong", max(wrong, key=lambda value: value.largest).wrong
    return "ok", None


def paint_references(setup: ServerSetup, tasks: Sequence[Task]) -> ReferenceImages:
    """The image of each task as the pipeline paints it alone, on the server's backend.

    In half precision a batch of another size may be computed by other kernels, whose rounding differs; images
    then have to keep the limits of float16.

    Args:
        setup: What is served, and on what.
        tasks: What is painted.
    """
    options = setup.read_backend_options()
    with InpaintPipeline(load_bundle(setup.bundle, backend=setup.backend, backend_options=options)) as pipe:
        limits = LIMITS["float16"] if _in_half_precision(pipe.manifest, setup.backend) else None
        return ReferenceImages([_paint(pipe, task) for task in tasks], limits)


def _in_half_precision(manifest: Manifest, backend: str) -> bool:
    """Whether the bundle is in half precision, or what was built of it for the backend."""
    builds = [build.precision for build in manifest.builds if build.backend == backend]
    return "fp16" in (manifest.precision, *builds)


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
