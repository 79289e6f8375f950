"""The burst before a measurement has steps of every number of rows."""

import asyncio
from itertools import pairwise

from fastapi import FastAPI, Response

from benchmarks.applications import call, serving
from inpaintrt_bench.load.clients import Loop, run_together
from inpaintrt_bench.load.requests import make_mixture
from inpaintrt_bench.load.server import ServedProcess
from inpaintrt_bench.load.warm_up import descending_steps, warm_up

SLOTS = 3


def test_requests_end_one_after_another() -> None:
    (task,) = make_mixture(1, steps=(2, 2), sizes=[(64, 64)], samplers=["ddim"], seed=0)
    burst = descending_steps(task, SLOTS)
    assert len(burst) == SLOTS
    assert all(longer.steps > shorter.steps > 0 for longer, shorter in pairwise(burst))


def test_calls_are_sent_together_and_each_once() -> None:
    application, all_there, bodies = FastAPI(), asyncio.Barrier(SLOTS), list[str]()

    @application.post("/{name}")
    async def answer_once_all_are_there(name: str) -> Response:
        bodies.append(name)
        await all_there.wait()
        return Response(b"an image")

    with serving(application) as url:
        sent = run_together(Loop(url, tuple(call(f"/{index}") for index in range(SLOTS)), timeout=30))
    assert [outcome.status for outcome in sent.outcomes] == [200] * SLOTS
    assert sorted(bodies) == ["0", "1", "2"]


def test_a_server_runs_a_burst_of_every_size() -> None:
    sizes = [(64, 64), (64, 72)]
    tasks = make_mixture(9, steps=(2, 3), sizes=sizes, samplers=["ddim"], seed=0)
    assert {task.size for task in tasks} == set(sizes)
    with ServedProcess("demo", ("--slots", str(SLOTS))) as server:
        before = server.metrics()
        sent = warm_up(server, tasks, "inpaint")
        after = server.metrics()
    assert [[outcome.status for outcome in burst.outcomes] for burst in sent] == [[200] * SLOTS] * len(sizes)
    rows = after["inpaintrt_rows_total"] - before["inpaintrt_rows_total"]
    steps = after["inpaintrt_step_seconds_count"] - before["inpaintrt_step_seconds_count"]
    # Three requests of 5, 10 and 15 guided steps, for each size; several share a step.
    assert rows == len(sizes) * 2 * (5 + 10 + 15)
    assert steps < rows / 2
