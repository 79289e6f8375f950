"""The load test measures what clients see, and says so when something is not right."""

import asyncio
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI, Response
from PIL import Image

from inpaintrt_bench.load.clients import Loop, Outcome, Sent, draw_arrivals, run_closed, run_open
from inpaintrt_bench.load.requests import Call, Task, make_call, make_mixture
from inpaintrt_bench.load.results import (
    Pixels,
    ReferenceImages,
    make_row,
    paint_references,
    steady_throughput,
)
from inpaintrt_bench.load.server import ServedProcess, ServerStartError

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
        return Response(b"an image")

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
        no_image = run_open(Loop(url, (call("/slow", "openai"),)), [0.0], seed=0)
        impatient = run_open(Loop(url, (call("/slow"),)), [0.0] * 9, seed=0, hang_ups=1.0)
    lost = run_open(Loop(url, (call("/slow"),)), [0.0], seed=0)
    nothing = ReferenceImages([])
    assert make_row("any", {}, [refused], nothing).values["refused"] == 1
    assert make_row("any", {}, [refused], nothing).status == "ok"
    assert "1 x status_404" in str(make_row("any", {}, [unknown], nothing).reason)
    for sent in (lost, no_image):
        row = make_row("any", {}, [sent], nothing)
        assert (row.status, row.values["lost"]) == ("failed", 1)
    assert any(outcome.hung_up for outcome in impatient.outcomes)


def test_a_refusal_has_to_say_when_to_try_again() -> None:
    sent = Sent((Outcome(0, 0.0, 1.0, status=429, retry_after=False),), {}, 1.0)
    assert make_row("any", {}, [sent], ReferenceImages([])).status == "failed"


def test_percentiles_are_of_the_requests_that_got_an_image() -> None:
    outcomes = [Outcome(0, 1.0, 1.0 + seconds, 200, digest="a") for seconds in range(1, 101)]
    outcomes.append(Outcome(0, 0.0, 900.0, 429, retry_after=True))
    image = mixture(1)[0]
    sent = Sent(tuple(outcomes), {"a": image.image}, 200.0)
    row = make_row("any", {}, [sent], ReferenceImages([_pixels(image)]))
    assert row.values["p50_seconds"] == pytest.approx(50.5)
    assert row.values["p95_seconds"] == pytest.approx(95.05)
    assert (row.values["pictures"], row.values["refused"]) == (100, 1)


def _pixels(task: Task) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(task.image)).convert("RGB"))


def test_an_image_that_is_not_the_one_painted_alone_is_wrong() -> None:
    task = mixture(1)[0]
    sent = Sent((Outcome(0, 0.0, 1.0, 200, digest="a"),), {"a": task.image}, 1.0)
    reference = _pixels(task)
    assert make_row("any", {}, [sent], ReferenceImages([reference])).status == "ok"
    changed = reference.copy()
    changed[0, 0, 0] ^= 8
    row = make_row("any", {}, [sent], ReferenceImages([changed]))
    assert (row.status, row.values["wrong"]) == ("wrong", 1)
    assert "8/255" in str(row.reason)
    assert make_row("any", {}, [sent], ReferenceImages([reference[:8]])).status == "wrong"


def test_where_hardly_anything_was_served_all_of_it_counts() -> None:
    sent = Sent((Outcome(0, 0.0, 8.0, 200, digest="a"),), {}, 8.0)
    assert steady_throughput(sent, 2.0) == pytest.approx(1 / 8)
    assert steady_throughput(Sent((), {}, 0.0), 2.0) == 0


@pytest.fixture(scope="module")
def server() -> Iterator[ServedProcess]:
    with ServedProcess("demo") as running:
        yield running


def test_every_interface_is_asked_for_the_same_image(server: ServedProcess) -> None:
    tasks = mixture()
    images = ReferenceImages(paint_references("demo", tasks))
    for api in ("inpaint", "openai", "webui"):
        loop = Loop(server.url, tuple(make_call(task, api) for task in tasks))
        sent = run_open(loop, [0.0] * 6, seed=0)
        row = make_row(api, {}, [sent], images)
        assert (row.status, row.values["pictures"]) == ("ok", 6), row.reason


def test_a_server_tells_its_state(server: ServedProcess) -> None:
    assert server.alive
    assert server.resident_bytes() > 10_000_000
    assert server.metrics()["inpaintrt_slots_active"] == 0


def test_a_server_that_cannot_start_is_told_with_its_own_words() -> None:
    with pytest.raises(ServerStartError, match="no-such-bundle"), ServedProcess("no-such-bundle"):
        pass
