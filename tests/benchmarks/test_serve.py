"""The load test measures what clients see, and says so when something is not right."""

import asyncio
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from click.testing import CliRunner
from fastapi import FastAPI, Response
from PIL import Image

from inpaintrt.cli import app
from inpaintrt_bench.load.clients import Loop, Outcome, Sent, draw_arrivals, run_closed, run_open
from inpaintrt_bench.load.requests import Call, Task, make_call, make_mixture
from inpaintrt_bench.load.results import Pictures, Pixels, make_row, paint_references, steady_throughput
from inpaintrt_bench.load.server import ServedProcess, ServerStartError
from inpaintrt_bench.measurements.serve import CapacityError, Study, StudySettings
from inpaintrt_bench.measurements.soak import memory_growth
from inpaintrt_bench.publishing import TABLES
from inpaintrt_bench.report.files import load_report, record
from inpaintrt_bench.report.schema import Row

SLOW = 0.2


def mixture(count: int = 3, seed: int = 0) -> tuple[Task, ...]:
    return make_mixture(
        count, steps=(2, 3), sizes=[(128, 128), (96, 128)], samplers=["ddim", "euler"], seed=seed
    )


@contextmanager
def serving(application: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            threading.Event().wait(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def one_after_another() -> FastAPI:
    """A server that takes its time for each request, and serves one at a time."""
    application, turn = FastAPI(), asyncio.Lock()

    @application.post("/slow")
    async def slow() -> Response:
        async with turn:
            await asyncio.sleep(SLOW)
        return Response(b"a picture")

    @application.post("/full")
    async def full() -> Response:
        return Response(status_code=429, headers={"retry-after": "3"})

    return application


def call(path: str, api: str = "inpaint") -> Call:
    return Call(path, {}, b"", api)


def test_arrivals_are_random_as_often_as_asked_and_repeatable() -> None:
    times = draw_arrivals(5.0, 400.0, seed=1)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(2000, rel=0.1)
    # The gaps of a Poisson process are exponential: their deviation is their mean.
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.1)
    assert times == draw_arrivals(5.0, 400.0, seed=1)
    assert times != draw_arrivals(5.0, 400.0, seed=2)


def test_a_mixture_is_repeatable_and_within_its_bounds() -> None:
    tasks = mixture(40)
    assert tasks == mixture(40)
    assert tasks != mixture(40, seed=1)
    assert {task.steps for task in tasks} == {2, 3}
    assert {task.size for task in tasks} == {(128, 128), (96, 128)}
    assert {task.sampler for task in tasks} == {"ddim", "euler"}


def test_waiting_counts_from_the_time_that_was_drawn() -> None:
    with serving(one_after_another()) as url:
        sent = run_open(Loop(url, (call("/slow"),)), [0.0] * 5, seed=0)
    latencies = sorted(outcome.latency for outcome in sent.outcomes)
    assert len(latencies) == 5
    for place, latency in enumerate(latencies, start=1):
        assert latency >= place * SLOW


def test_a_closed_loop_keeps_so_many_requests_in_flight() -> None:
    with serving(one_after_another()) as url:
        sent = run_closed(Loop(url, (call("/slow"),)), clients=3, seconds=1.0)
    waits = [outcome.latency for outcome in sent.outcomes[3:]]
    assert min(waits) >= 2 * SLOW
    assert 0 < steady_throughput(sent, 1.0) <= 1 / SLOW + 1


def test_refusals_broken_connections_and_wrong_answers_are_told_apart() -> None:
    with serving(one_after_another()) as url:
        refused = run_open(Loop(url, (call("/full"),)), [0.0], seed=0)
        unknown = run_open(Loop(url, (call("/nowhere"),)), [0.0], seed=0)
        no_picture = run_open(Loop(url, (call("/slow", "openai"),)), [0.0], seed=0)
        impatient = run_open(Loop(url, (call("/slow"),)), [0.0] * 9, seed=0, hang_ups=1.0)
    lost = run_open(Loop(url, (call("/slow"),)), [0.0], seed=0)
    nothing = Pictures([])
    assert make_row("any", {}, [refused], nothing).values["refused"] == 1
    assert make_row("any", {}, [refused], nothing).status == "ok"
    assert "1 x status_404" in str(make_row("any", {}, [unknown], nothing).reason)
    for sent in (lost, no_picture):
        row = make_row("any", {}, [sent], nothing)
        assert (row.status, row.values["lost"]) == ("failed", 1)
    assert any(outcome.hung_up for outcome in impatient.outcomes)


def test_a_refusal_has_to_say_when_to_try_again() -> None:
    sent = Sent((Outcome(0, 0.0, 1.0, status=429, retry_after=False),), {}, 1.0)
    assert make_row("any", {}, [sent], Pictures([])).status == "failed"


def test_percentiles_are_of_the_requests_that_got_a_picture() -> None:
    outcomes = [Outcome(0, 1.0, 1.0 + seconds, 200, digest="a") for seconds in range(1, 101)]
    outcomes.append(Outcome(0, 0.0, 900.0, 429, retry_after=True))
    picture = mixture(1)[0]
    sent = Sent(tuple(outcomes), {"a": picture.image}, 200.0)
    row = make_row("any", {}, [sent], Pictures([_pixels(picture)]))
    assert row.values["p50_seconds"] == pytest.approx(50.5)
    assert row.values["p95_seconds"] == pytest.approx(95.05)
    assert (row.values["pictures"], row.values["refused"]) == (100, 1)


def _pixels(task: Task) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(task.image)).convert("RGB"))


def test_a_picture_that_is_not_the_one_painted_alone_is_wrong() -> None:
    task = mixture(1)[0]
    sent = Sent((Outcome(0, 0.0, 1.0, 200, digest="a"),), {"a": task.image}, 1.0)
    reference = _pixels(task)
    assert make_row("any", {}, [sent], Pictures([reference])).status == "ok"
    changed = reference.copy()
    changed[0, 0, 0] ^= 8
    row = make_row("any", {}, [sent], Pictures([changed]))
    assert (row.status, row.values["wrong"]) == ("wrong", 1)
    assert "8/255" in str(row.reason)
    assert make_row("any", {}, [sent], Pictures([reference[:8]])).status == "wrong"


def test_where_hardly_anything_was_served_all_of_it_counts() -> None:
    sent = Sent((Outcome(0, 0.0, 8.0, 200, digest="a"),), {}, 8.0)
    assert steady_throughput(sent, 2.0) == pytest.approx(1 / 8)
    assert steady_throughput(Sent((), {}, 0.0), 2.0) == 0


def test_a_capacity_of_nothing_is_an_error() -> None:
    settings = StudySettings("demo", modes=("continuous",), server_options=("--max-steps", "1"))
    brief = replace(settings, capacity_seconds=1.0, rounds=1, clients=1)
    with pytest.raises(CapacityError, match="no picture"):
        list(Study(brief, mixture(), ["inpaint"], lambda _: None).run())


@pytest.fixture(scope="module")
def server() -> Iterator[ServedProcess]:
    with ServedProcess("demo") as running:
        yield running


def test_every_interface_is_asked_for_the_same_picture(server: ServedProcess) -> None:
    tasks = mixture()
    pictures = Pictures(paint_references("demo", tasks))
    for api in ("inpaint", "openai", "webui"):
        loop = Loop(server.url, tuple(make_call(task, api) for task in tasks))
        sent = run_open(loop, [0.0] * 6, seed=0)
        row = make_row(api, {}, [sent], pictures)
        assert (row.status, row.values["pictures"]) == ("ok", 6), row.reason


def test_a_server_tells_its_state(server: ServedProcess) -> None:
    assert server.alive
    assert server.resident_bytes() > 10_000_000
    assert server.metrics()["inpaintrt_slots_active"] == 0


def test_a_server_that_cannot_start_is_told_with_its_own_words() -> None:
    with pytest.raises(ServerStartError, match="no-such-bundle"), ServedProcess("no-such-bundle"):
        pass


def test_a_study_has_a_row_for_every_mode_and_load() -> None:
    settings = StudySettings(
        "demo",
        modes=("continuous", "one-at-a-time"),
        loads=(0.5,),
        rates=(2.0,),
        seconds=1.5,
        capacity_seconds=2.0,
        rounds=1,
        clients=3,
        server_options=("--slots", "2"),
    )
    *_, rows = Study(settings, mixture(), ["inpaint"], lambda _: None).run()
    assert [(row.name, row.case["load"]) for row in rows] == [
        (mode, load) for mode in settings.modes for load in ("capacity", "50% of capacity", "2 a second")
    ]
    assert {row.status for row in rows} == {"ok"}
    # Every mode hears the same arrivals.
    ours, theirs = (row for row in rows if row.case["load"] == "2 a second")
    assert ours.values["requests"] == theirs.values["requests"]


SMALL_RUNS = ["--server-option=--max-run-pixels=16384", "--server-option=--max-connections=20"]
COMMANDS = {
    "serve": ["--mode=continuous", "--load=0.5", "--seconds=1", "--capacity-seconds=1", "--rounds=1"],
    "soak": ["--minutes=0.03", "--window=1"],
    "hostile": ["--uploads=25", "--largest-runs=1", *SMALL_RUNS],
}
MIXTURE = ["--tasks=2", "--fewest-steps=2", "--most-steps=3"]


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


def test_a_measurement_that_is_cut_short_leaves_what_it_had(tmp_path: Path) -> None:
    output = tmp_path / "report.json"

    def measure() -> Iterator[tuple[Row, ...]]:
        yield (Row(name="first"),)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record("soak", measure(), {}, TABLES["soak"], output)
    report = load_report(output)
    assert [row.name for row in report.rows] == ["first"]
    assert not report.complete
    record("soak", [(Row(name="first"),)], {}, TABLES["soak"], output)
    assert load_report(output).complete


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


def test_a_size_has_to_look_like_one() -> None:
    result = CliRunner().invoke(app, ["bench", "soak", "--size", "large"])
    assert result.exit_code == 2
    assert "'large' is not a size" in result.output
