"""Clients go away at any time: what they took is free again, and others do not notice."""

import pytest

from inpaintrt.demo import load_scene
from inpaintrt_bench.load.clients import Loop, draw_arrivals, run_open
from inpaintrt_bench.load.requests import make_call, make_mixture
from inpaintrt_bench.load.results import LARGEST_DIFFERENCE, paint_references
from inpaintrt_bench.load.server import ServerSetup
from inpaintrt_server.batching.service import BatchingService
from server.conftest import wait_until

SECONDS = 4.0
RATE = 6.0


@pytest.mark.parametrize("api", ["inpaint", "webui"])
def test_hanging_up_at_random_leaves_nothing_behind(server: str, service: BatchingService, api: str) -> None:
    tasks = make_mixture(
        4, steps=(2, 12), sizes=[load_scene().image.size, (96, 128)], samplers=["ddim"], seed=1
    )
    loop = Loop(server, tuple(make_call(task, api) for task in tasks))
    sent = run_open(loop, draw_arrivals(RATE, SECONDS, 1), 1, hang_ups=0.6)
    gone = [outcome for outcome in sent.outcomes if outcome.hung_up]
    stayed = [outcome for outcome in sent.outcomes if not outcome.hung_up]
    assert len(gone) > 3
    assert stayed
    assert all(outcome.status in (200, 429) for outcome in stayed)
    differences = paint_references(ServerSetup("demo"), tasks).differences(sent)
    assert all(difference.largest <= LARGEST_DIFFERENCE for difference in differences)
    wait_until(lambda: service.snapshot.outstanding == service.snapshot.active == 0)
