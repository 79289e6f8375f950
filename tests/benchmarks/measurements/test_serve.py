"""Servers under load, over a long time, and under attack: every row says whether all was right."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from inpaintrt.cli import app
from inpaintrt.errors import EngineUnavailableError
from inpaintrt_bench.load.requests import make_mixture
from inpaintrt_bench.load.server import ServerSetup
from inpaintrt_bench.measurements.serve import CapacityError, Study, StudySettings
from inpaintrt_bench.measurements.soak import memory_growth
from inpaintrt_bench.publishing import TABLES
from inpaintrt_bench.report.files import load_report
from inpaintrt_bench.report.schema import Row

TASKS = make_mixture(3, steps=(2, 3), sizes=[(128, 128), (96, 128)], samplers=["ddim", "euler"], seed=0)
SMALL_RUNS = ["--server-option=--max-run-pixels=16384", "--server-option=--max-connections=20"]
COMMANDS = {
    "serve": ["--mode=continuous", "--load=0.5", "--seconds=1", "--capacity-seconds=1", "--rounds=1"],
    "soak": ["--minutes=0.03", "--window=1"],
    "hostile": ["--uploads=25", "--largest-runs=1", *SMALL_RUNS],
}
MIXTURE = ["--tasks=2", "--fewest-steps=2", "--most-steps=3"]


def test_a_capacity_of_nothing_is_an_error() -> None:
    settings = StudySettings(ServerSetup("demo", options=("--max-steps", "1")), modes=("continuous",))
    brief = replace(settings, capacity_seconds=1.0, rounds=1, clients=1)
    with pytest.raises(CapacityError, match="no image"):
        list(Study(brief, TASKS, ["inpaint"], lambda _: None).run())


def test_a_study_has_a_row_for_every_mode_and_load() -> None:
    settings = StudySettings(
        ServerSetup("demo", options=("--slots", "2")),
        modes=("continuous", "one-at-a-time"),
        loads=(0.5,),
        rates=(2.0,),
        seconds=1.5,
        capacity_seconds=2.0,
        rounds=1,
        clients=3,
    )
    *_, rows = Study(settings, TASKS, ["inpaint"], lambda _: None).run()
    assert [(row.name, row.case["load"]) for row in rows] == [
        (mode, load) for mode in settings.modes for load in ("capacity", "50% of capacity", "2 a second")
    ]
    assert {row.status for row in rows} == {"ok"}
    # Every mode hears the same arrivals.
    ours, theirs = (row for row in rows if row.case["load"] == "2 a second")
    assert ours.values["requests"] == theirs.values["requests"]


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_the_commands_write_reports(kind: str, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    options = COMMANDS[kind] + ([] if kind == "hostile" else MIXTURE)
    result = CliRunner().invoke(app, ["bench", kind, "-b", "demo", *options, "-o", str(output)])
    assert result.exit_code == 0, result.output
    report = load_report(output)
    assert report.kind == kind
    assert {row.status for row in report.rows} == {"ok"}
    assert TABLES[kind](report) in result.output


@pytest.mark.parametrize(
    ("sizes", "growth"),
    [
        ([100, 150, 150, 150], 0.0),
        ([100, 150, 150, 180], 0.2),
        ([80, 90, 100, 104, 96, 100, 125, 125], 125 / 102 - 1),
        ([1, 2, 3], 0.0),
    ],
)
def test_growth_is_told_once_the_server_is_warm(sizes: list[int], growth: float) -> None:
    rows = [Row(name="window", values={"resident_bytes": size}) for size in sizes]
    assert memory_growth(rows) == pytest.approx(growth)


@pytest.mark.parametrize("kind", ["serve", "soak"])
def test_the_backend_is_no_option_of_the_server_alone(kind: str) -> None:
    result = CliRunner().invoke(app, ["bench", kind, "--server-option=--backend=tensorrt"])
    assert result.exit_code == 2
    assert "'--backend=tensorrt' would not concern" in " ".join(result.output.split())


@pytest.mark.parametrize("kind", ["serve", "soak"])
def test_server_and_references_run_on_the_backend_that_was_named(kind: str) -> None:
    result = CliRunner().invoke(app, ["bench", kind, "-b", "demo", "--tasks=1", "--backend=fastest"])
    assert isinstance(result.exception, EngineUnavailableError)
    assert "fastest" in str(result.exception)


def test_a_size_has_to_look_like_one() -> None:
    result = CliRunner().invoke(app, ["bench", "soak", "--size", "large"])
    assert result.exit_code == 2
    assert "'large' is not a size" in result.output
