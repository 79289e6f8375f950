"""Markdown tables say what the reports say."""

import msgspec
import pytest

from benchmarks.reports import COMPARED, LADDER, MASKED, QUALITY, make_report
from inpaintrt_bench.publishing import TABLES, VIEWS
from inpaintrt_bench.report.markdown import amount, duration, number, percent, row_labels, table, varying_keys
from inpaintrt_bench.report.schema import Memory, Report, Row, Work, make_series


def _cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.4, "1,234"), (12.34, "12.3"), (1.0, "1.00"), (0.01234, "0.0123"), (-2.5, "-2.50")],
)
def test_numbers_keep_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_units_suit_what_they_measure() -> None:
    assert [duration(seconds) for seconds in (None, 0.0123, 12.3)] == ["-", "12.3 ms", "12.3 s"]
    sizes = [amount(size) for size in (None, 12, 1234, 196_109_184, 6.709e9)]
    assert sizes == ["-", "12 B", "1.23 kB", "196 MB", "6.71 GB"]
    assert [percent(share) for share in (None, 0.0, 0.92, 1.0)] == ["-", "0 %", "92 %", "100 %"]


def test_a_table_lines_figures_up_and_escapes_bars() -> None:
    text = table(("name", "size"), [("a | b\nc", "1")])
    assert text == "| name | size |\n| --- | ---: |\n| a \\| b c | 1 |"


def test_labels_tell_rows_apart_by_what_varies() -> None:
    rows = [
        Row(name="a", case={"steps": 20, "size": 64, "sampler": "ddim"}),
        Row(name="a", case={"steps": 50, "size": 64, "sampler": "unipc"}, status="wrong", reason="far"),
    ]
    assert varying_keys(rows) == ["steps", "sampler"]
    assert row_labels(rows) == ["a, steps 20, ddim", "a, steps 50, unipc, wrong image"]


def test_labels_leave_out_what_a_row_does_not_have() -> None:
    rows = [Row(name="a", case={"load": "capacity", "rate": None}), Row(name="a", case={"rate": 8 / 3})]
    assert row_labels(rows) == ["a, capacity", "a, rate 2.667"]


def test_runners_stand_beside_each_other_with_their_verdict() -> None:
    header, _, baseline, ours, broken = _cells(TABLES["compare"](COMPARED))
    assert header[:4] == ["runner", "median", "p90", "time / baseline's"]
    assert baseline == ["diffusers", "2.00 s", "2.32 s", "1.00", "1.23 GB", "0/255", "50.0 dB", "ok"]
    assert ours[3:6] == ["0.50", "1.23 GB", "1/255"]
    assert broken[0] == "broken"
    assert broken[-1] == "failed: no module named \\| x"
    assert set(broken[1:-1]) == {"-"}


def test_a_wrong_image_is_told() -> None:
    wrong = Row(name="a", status="wrong", reason="differs by 80/255", series={"total": make_series([1.0])})
    assert _cells(TABLES["compare"](make_report("compare", [wrong])))[2][-1] == (
        "wrong image: differs by 80/255"
    )


def test_stages_have_a_column_each_and_failed_rows_none() -> None:
    header, _, *rows = _cells(VIEWS["stages"](COMPARED))
    assert header[1:] == [
        "prepare",
        "tokenise",
        "text encode",
        "image encode",
        "denoise",
        "image decode",
        "paste",
        "rest",
        "total",
    ]
    assert rows == [
        ["diffusers", *["250 ms"] * 8, "2.00 s"],
        ["inpaintrt", *["125 ms"] * 8, "1.00 s"],
    ]


def test_work_tells_how_near_the_peak_a_component_runs() -> None:
    work = {
        "text_encoder": Work(operations=1_500_000_000, runs=2),
        "denoiser": Work(operations=800_000_000_000, runs=20, seconds=7.25, share_of_peak=0.614),
    }
    _, _, *rows = _cells(VIEWS["work"](make_report("compare", [Row(name="ours", work=work)])))
    assert rows == [
        ["ours", "text encoder", "1.50", "2", "-", "-"],
        ["ours", "denoiser", "800", "20", "7.25 s", "61 %"],
    ]


def test_masks_show_what_runs_and_what_it_costs() -> None:
    header, _, first, *_ = _cells(TABLES["mask"](MASKED))
    assert header == ["mask", "part that runs", "prepare", "denoise", "total", "peak memory"]
    assert first == ["1 %", "2 %", "10.0 ms", "500 ms", "510 ms", "210 MB"]


def test_quality_shows_the_front_behind_the_exact_settings() -> None:
    exact = Row(
        name="exact",
        case={"steps": 30},
        values={"unet_evaluations": 60, "share_found": 0.8, "standard_error": 0.05},
        series={"ratio": make_series([1.0], "ratio")},
    )
    near = msgspec.structs.replace(QUALITY.rows[3], values={**QUALITY.rows[3].values, "psnr": 31.25})
    _, _, *rows = _cells(TABLES["quality"](make_report("quality", [*QUALITY.rows[:3], near, exact])))
    assert [row[:4] for row in rows] == [
        ["exact", "30", "0 to 1", "60"],
        ["unipc", "5", "0 to 1", "10"],
        ["unipc", "10", "0 to 1", "20"],
    ]
    assert rows[0][4:] == ["-", "1.00", "80 % ± 5 %", "-", "-"]
    assert rows[2][4:] == ["200 ms", "-", "90 % ± 5 %", "1.25", "31.2 dB"]


def test_without_a_judge_the_front_is_that_of_the_psnr() -> None:
    rows = [
        Row(name="ddim", case={"steps": steps}, values={"psnr": psnr, "unet_evaluations": 2 * steps})
        for steps, psnr in ((4, 25.0), (8, 24.0), (10, 31.0))
    ]
    _, _, *shown = _cells(TABLES["quality"](make_report("quality", rows)))
    assert [(row[1], row[6], row[8]) for row in shown] == [("4", "-", "25.0 dB"), ("10", "-", "31.0 dB")]


def test_a_ladder_shows_what_each_rung_costs_and_gives() -> None:
    _, _, *rows = _cells(TABLES["ladder"](LADDER))
    assert rows == [
        ["diffusers", "20 steps", "800 ms", "1.00", "130 MB", "92.0 % ± 2.0 %", "1.25", "-", "ok"],
        [
            *("fast", "4 steps, ddim, guidance to 0.75", "100 ms", "0.12"),
            *("130 MB", "90.0 % ± 2.0 %", "1.25", "27.3 dB", "ok"),
        ],
        ["fast, bf16", *["-"] * 7, "failed: the device CPU does not compute in bf16"],
    ]


def test_latency_counts_the_images_of_a_batch() -> None:
    row = Row(name="a", case={"batch": 4}, series={"total": make_series([2.0]), "step": make_series([0.1])})
    assert _cells(TABLES["latency"](make_report("latency", [row])))[2] == [
        "a",
        *["2.00 s"] * 3,
        "100 ms",
        "2.00",
        "ok",
    ]


def test_a_cold_start_is_taken_apart() -> None:
    series = {name: make_series([value]) for name, value in (("cold_start", 1.5), ("import", 0.25))}
    row = Row(name="a", series=series, memory=Memory(peak_resident=10**9))
    assert _cells(TABLES["coldstart"](make_report("coldstart", [row])))[2] == [
        "a",
        "1.50 s",
        "250 ms",
        "-",
        "1.00 GB",
        "ok",
    ]


def test_sizes_name_the_largest_packages() -> None:
    values = {"bytes": 10_000_000, "package/b": 6_000_000, "package/a": 4_000_000}
    rows = [
        Row(name="ours", values={**values}, notes=("with a bundle",)),
        Row(name="other", status="failed", reason="no such version"),
    ]
    _, _, ours, other = _cells(TABLES["size"](make_report("size", rows)))
    assert ours == ["ours", "10.0 MB", "2", "b 6.00 MB, a 4.00 MB", "with a bundle"]
    assert other == ["other", "-", "-", "-", "failed: no such version"]


def test_builds_tell_time_memory_and_size() -> None:
    row = Row(
        name="text_encoder",
        case={"made": "export"},
        values={"seconds": 3.67, "bytes": 248_900_000},
        memory=Memory(peak_resident=6_709_000_000),
    )
    assert _cells(TABLES["build"](make_report("build", [row])))[2] == [
        "text encoder",
        "export",
        "3.67 s",
        "6.71 GB",
        "249 MB",
        "ok",
    ]


def test_loads_tell_percentiles_and_refusals() -> None:
    values = {
        "pictures_per_second": 3.2,
        "p50_seconds": 0.5,
        "p95_seconds": 1.5,
        "p99_seconds": 2.5,
        "requests": 100,
        "refused": 7,
        "lost": 0,
    }
    report: Report = make_report("serve", [Row(name="batched", case={"rate": 2.0}, values={**values})])
    assert _cells(TABLES["serve"](report))[2] == [
        "batched",
        "3.20",
        "500 ms",
        "1.50 s",
        "2.50 s",
        "100",
        "7",
        "0",
        "ok",
    ]
