"""The layout of a result file: one report of one measurement, as JSON.

```
Report                  one run of one subcommand
├── machine: Machine    what it ran on
│   ├── gpus: Gpu       the GPUs that NVML sees; none without NVML
│   └── peak: Peak      the speed of a matrix product, measured in the same run
├── settings            what all rows have in common: checkpoint, prompt, seed, ...
└── rows: Row           one thing measured, or the reason why it could not be
    ├── case            what sets this row apart: steps, batch, size, share of the mask, ...
    ├── values          figures that are taken once: bytes installed, seconds of a build, share found, ...
    ├── series: Series  figures that are taken several times, all samples kept, with their Statistics
    ├── stages: Series  the same for the parts of a run, in the order of STAGES
    ├── memory: Memory  the largest that was seen
    ├── work: Work      counted operations of each component, and how near to the machine's peak they ran
    └── picture         how far the row's image is from the baseline's
```

Times are seconds, sizes are bytes, differences of images are in steps of 1/255. What was not measured is
null or absent, never 0. The JSON Schema (draft 2020-12) of the whole is `json_schema()`; it is committed
beside the results as `schema.json`. What changes within one `FORMAT_VERSION` only adds optional fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

__all__ = [
    "FORMAT_VERSION",
    "STAGES",
    "Gpu",
    "ImageComparison",
    "Kind",
    "Machine",
    "Memory",
    "Peak",
    "Report",
    "Row",
    "Scalar",
    "Series",
    "Statistics",
    "Status",
    "Work",
    "json_schema",
    "make_series",
    "pair_ratios",
    "summarize",
]

FORMAT_VERSION = 1
Kind = Literal[
    "compare",
    "latency",
    "coldstart",
    "overhead",
    "size",
    "build",
    "mask",
    "quality",
    "ladder",
    "serve",
    "hostile",
    "soak",
    "memory",
    "footprint",
]
Status = Literal["ok", "failed", "wrong"]
Scalar = str | int | float | bool | None
STAGES = (
    "prepare",
    "tokenise",
    "text_encode",
    "image_encode",
    "denoise",
    "image_decode",
    "paste",
    "rest",
)
"""The parts of a run, in the order in which they happen; `rest` is the total without all the others."""


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A part of a report: immutable, and refusing what it does not know."""


class Statistics(_Record, frozen=True):
    """What samples come to. Percentiles are interpolated linearly between the nearest samples.

    Attributes:
        count: How many samples there are.
        median: The 50th percentile.
        mean: The arithmetic mean.
        p90: The 90th percentile.
        p99: The 99th percentile; with fewer than 100 samples it leans on the largest.
        minimum: The smallest sample.
        maximum: The largest sample.
    """

    count: int
    median: float
    mean: float
    p90: float
    p99: float
    minimum: float
    maximum: float


class Series(_Record, frozen=True):
    """One quantity, taken several times.

    Attributes:
        unit: "s", "bytes", "J", "ratio", "1/s" and the like.
        samples: What was counted, in the order in which it was taken.
        statistics: What the samples come to.
        warm_up: Runs before the first counted one.
    """

    unit: str
    samples: tuple[float, ...]
    statistics: Statistics
    warm_up: int = 0


class Memory(_Record, frozen=True):
    """The largest memory that was seen, in bytes.

    Attributes:
        peak_resident: Resident memory of the process that was measured, over its whole life.
        peak_device: Device memory of that process, over the counted runs; null where NVML does not tell.
    """

    peak_resident: int | None = None
    peak_device: int | None = None


class ImageComparison(_Record, frozen=True):
    """How far a row's image is from the reference's, over all channels of all pixels.

    Attributes:
        reference: Name of the row whose image is the reference.
        max_difference: The largest absolute difference, in steps of 1/255.
        mean_difference: The mean absolute difference, in steps of 1/255.
        psnr: Peak signal-to-noise ratio in dB; null where the images are equal.
        ssim: Structural similarity, from -1 to 1.
        limits: What the row had to keep in order not to be wrong, by name of the field.
    """

    reference: str
    max_difference: float
    mean_difference: float
    psnr: float | None
    ssim: float
    limits: dict[str, float] = {}


class Work(_Record, frozen=True):
    """The floating-point operations of a component; a multiplication and an addition are two.

    Attributes:
        operations: Operations of one run of the component, counted from its graph.
        runs: How often it runs for one image or batch.
        seconds: Median time of one run, if the runner tells it.
        share_of_peak: Operations a second over the machine's peak, from 0 to 1.
    """

    operations: int
    runs: int
    seconds: float | None = None
    share_of_peak: float | None = None


class Row(_Record, frozen=True):
    """One thing that was measured, or the reason why it could not be.

    Attributes:
        name: What was measured: a runner, a setting, a package.
        status: "ok"; "failed" where it could not start or died; "wrong" where its image is not the
            reference's.
        reason: Why the row is not "ok"; one line.
        case: What sets this row apart from others of its name.
        values: Figures that are taken once; the name says the unit: `seconds`, `bytes`, `share_found`.
        series: Figures that are taken several times: "total" (one whole request), "step" (one step of the
            sampler), "ratio" (total over the baseline's total of the same round), "share" (of a request),
            "cold_start" (process start to first image), "import" (of the libraries), "start" (loading the
            checkpoint), "energy" (of the GPU, one whole request), "gpu_clock" (right after a request).
        stages: Parts of "total", by the names in STAGES.
        memory: The largest that was seen.
        work: By component: "text_encoder", "vae_encoder", "denoiser" (one step), "vae_decoder", and "total".
        picture: How far the image is from the reference's.
        versions: Versions of the packages in the process that was measured.
        notes: What a reader must know to judge the row.
    """

    name: str
    status: Status = "ok"
    reason: str | None = None
    case: dict[str, Scalar] = {}
    values: dict[str, Scalar] = {}
    series: dict[str, Series] = {}
    stages: dict[str, Series] = {}
    memory: Memory | None = None
    work: dict[str, Work] = {}
    picture: ImageComparison | None = None
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class Gpu(_Record, frozen=True):
    """A GPU as NVML describes it.

    Attributes:
        name: Its name.
        memory: Its memory in bytes.
        driver: Version of the driver.
        compute_capability: Such as "9.0".
        clock_mhz: Clock of the multiprocessors while it was idle or busy at the start of the run.
        max_clock_mhz: The highest clock of the multiprocessors.
        power_limit_watts: What it may draw.
    """

    name: str
    memory: int
    driver: str
    compute_capability: str | None = None
    clock_mhz: int | None = None
    max_clock_mhz: int | None = None
    power_limit_watts: float | None = None


class Peak(_Record, frozen=True):
    """The speed of a large matrix product on this machine.

    Attributes:
        operations_per_second: Floating-point operations a second, the best of several runs.
        dtype: What was multiplied: "float32" or "float16".
        size: Rows and columns of the square matrices.
        library: What multiplied them.
    """

    operations_per_second: float
    dtype: str
    size: int
    library: str


class Machine(_Record, frozen=True):
    """What a measurement ran on.

    Attributes:
        processor: The processor's name.
        cores: Logical processors.
        system: Operating system and its version.
        python: Version of the interpreter.
        packages: Versions of the packages that matter, in the process that drives the measurement.
        memory: Main memory in bytes.
        clock_mhz: The processor's clock at the start of the run.
        load: Processes that wanted to run, averaged over the minute before the run.
        gpus: The GPUs.
        peak: The speed of a matrix product.
    """

    processor: str
    cores: int | None
    system: str
    python: str
    packages: dict[str, str]
    memory: int | None = None
    clock_mhz: float | None = None
    load: float | None = None
    gpus: tuple[Gpu, ...] = ()
    peak: Peak | None = None


class Report(_Record, frozen=True):
    """A result file.

    Attributes:
        format_version: Version of this layout.
        kind: The subcommand that measured.
        date: Day of the measurement, ISO 8601, UTC.
        command: The words of the command line, without the name of the output file.
        machine: What it ran on.
        settings: What all rows have in common.
        rows: What was measured.
        complete: False where the measurement was cut short; the rows that were finished are there.
        notes: What a reader must know.
    """

    format_version: int
    kind: Kind
    date: str
    command: tuple[str, ...]
    machine: Machine
    settings: dict[str, Scalar | list[Scalar]]
    rows: tuple[Row, ...]
    complete: bool = True
    notes: tuple[str, ...] = ()


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `Report`."""
    schema: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Report)))
    for definition in schema["$defs"].values():
        # Python 3.13 strips the indentation of docstrings, older versions do not.
        definition["description"] = inspect.cleandoc(definition["description"])
    return schema


def summarize(samples: Sequence[float]) -> Statistics:
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
        unit=unit, samples=tuple(map(float, samples)), statistics=summarize(samples), warm_up=warm_up
    )


def pair_ratios(samples: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Each sample over the baseline's sample of the same round, so that a slow minute slows both.

    Raises:
        ValueError: They are not equally many.
    """
    return [own / other for own, other in zip(samples, baseline, strict=True)]
