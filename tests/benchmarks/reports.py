"""Reports with known figures."""

from collections.abc import Sequence

from inpaintrt_bench.report.schema import (
    FORMAT_VERSION,
    STAGES,
    ImageComparison,
    Kind,
    Machine,
    Memory,
    Report,
    Row,
    Scalar,
    make_series,
)

__all__ = ["COMPARED", "LADDER", "MASKED", "QUALITY", "make_report"]

MACHINE = Machine(processor="one", cores=2, system="Linux", python="3.11.7", packages={})
SHARES = (0.01, 0.2, 0.6)


def make_report(kind: Kind, rows: Sequence[Row]) -> Report:
    return Report(
        format_version=FORMAT_VERSION,
        kind=kind,
        date="2026-01-01",
        command=("bench", kind),
        machine=MACHINE,
        settings={},
        rows=tuple(rows),
    )


def _compared(name: str, seconds: float, difference: float) -> Row:
    return Row(
        name=name,
        series={
            "total": make_series([seconds, 1.2 * seconds, 0.9 * seconds]),
            "ratio": make_series([seconds / 2]),
        },
        stages={stage: make_series([seconds / len(STAGES)]) for stage in STAGES},
        memory=Memory(peak_resident=1_230_000_000),
        picture=ImageComparison(
            reference="diffusers", max_difference=difference, mean_difference=0.1, psnr=50.0, ssim=1.0
        ),
    )


COMPARED = make_report(
    "compare",
    [
        _compared("diffusers", 2.0, 0),
        _compared("inpaintrt", 1.0, 1),
        Row(name="broken", status="failed", reason="no module\nnamed | x"),
    ],
)

MASKED = make_report(
    "mask",
    [
        Row(
            name=f"{share * 100:g} %",
            case={"share": share},
            values={"box_share": 1.5 * share, "run_width": 144, "run_height": 112, "bytes_before": 10**8},
            series={"total": make_series([share + 0.5])},
            stages={"prepare": make_series([share]), "denoise": make_series([0.5])},
            memory=Memory(peak_resident=int(2e8 + 1e9 * share)),
        )
        for share in SHARES
    ],
)


def _quality(sampler: str, evaluations: int, found: float) -> Row:
    return Row(
        name=sampler,
        case={"steps": evaluations // 2, "guidance_start": 0.0, "guidance_stop": 1.0, "precision": "fp32"},
        values={
            "share_found": found,
            "standard_error": 0.05,
            "seam": 1.25,
            "unet_evaluations": evaluations,
        },
        series={"total": make_series([evaluations / 100])},
    )


QUALITY = make_report(
    "quality",
    [
        _quality("ddim", 10, 0.4),
        _quality("unipc", 10, 0.7),
        _quality("ddim", 20, 0.6),
        _quality("unipc", 20, 0.9),
        _quality("ddim", 40, 0.9),
    ],
)


def _rung(name: str, seconds: float, found: float, **values: float) -> Row:
    exact: dict[str, Scalar] = {"steps": 20}
    fast: dict[str, Scalar] = {"steps": 4, "sampler": "ddim", "guidance_stop": 0.75}
    return Row(
        name=name,
        case=exact if name == "diffusers" else fast,
        values={"share_found": found, "standard_error": 0.02, "seam": 1.25, **values},
        series={"total": make_series([seconds]), "ratio": make_series([seconds / 0.8], "ratio")},
        memory=Memory(peak_resident=130_000_000),
    )


LADDER = make_report(
    "ladder",
    [
        _rung("diffusers", 0.8, 0.92),
        _rung("fast", 0.1, 0.9, psnr=27.3),
        Row(name="fast, bf16", status="failed", reason="the device CPU does not compute in bf16"),
    ],
)
