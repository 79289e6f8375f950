"""Clients that hang up, and time that is over."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from http.client import HTTPConnection

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from inpaintrt.loading import LoadedBundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.http.metrics import Metrics
from inpaintrt_server.settings import ServerSettings
from server.conftest import Serve, wait_until
from server.uploads import as_json

LONG = as_json(num_inference_steps=200)
MEDIUM = as_json(num_inference_steps=40)

Begin = Callable[[Mapping[str, object]], HTTPConnection]


@pytest.fixture
def small(demo: LoadedBundle) -> Iterator[BatchingService]:
    """A service with one slot, and one place to wait."""
    with BatchingService(demo, BatchingSettings(slots=1, queue=1)) as running:
        wait_until(lambda: running.snapshot.ready)
        yield running


@pytest.fixture
def address(small: BatchingService, serve: Serve) -> str:
    return serve(make_application(small, ServerSettings()))


@pytest.fixture
def begin(address: str) -> Iterator[Begin]:
    """Sends requests and does not wait for their answers."""
    with ExitStack() as connections:

        def begin(body: Mapping[str, object]) -> HTTPConnection:
            connection = HTTPConnection(address.removeprefix("http://"), timeout=60)
            connections.callback(connection.close)
            connection.request("POST", "/v1/inpaint", json.dumps(body), {"Content-Type": "application/json"})
            return connection

        yield begin


@pytest.mark.parametrize("stream", [False, True])
def test_hanging_up_frees_the_slot(begin: Begin, small: BatchingService, stream: bool) -> None:
    connection = begin({**LONG, "stream": stream})
    wait_until(lambda: small.snapshot.active == 1)
    before = small.snapshot.steps
    connection.close()
    wait_until(lambda: small.snapshot.active == 0 and small.snapshot.outstanding == 0)
    assert small.snapshot.steps - before < 150


def test_hanging_up_in_the_middle_of_a_stream_frees_the_slot(address: str, small: BatchingService) -> None:
    with httpx.stream("POST", f"{address}/v1/inpaint", json={**LONG, "stream": True}, timeout=60) as answer:
        assert next(answer.iter_lines()) == "event: started"
    wait_until(lambda: small.snapshot.outstanding == 0)
    assert small.snapshot.steps < 150


def test_hanging_up_in_the_queue_frees_the_place(begin: Begin, small: BatchingService) -> None:
    running = begin(MEDIUM)
    wait_until(lambda: small.snapshot.active == 1)
    waiting = begin(LONG)
    wait_until(lambda: small.snapshot.outstanding == 2)
    waiting.close()
    wait_until(lambda: small.snapshot.outstanding == 1)
    assert running.getresponse().status == 200


def test_a_full_queue_refuses_before_the_body_is_read(
    address: str, begin: Begin, small: BatchingService
) -> None:
    busy = []
    for count in (1, 2):
        busy.append(begin(MEDIUM))
        wait_until(lambda count=count: small.snapshot.outstanding == count)  # type: ignore[misc]
    with closing(HTTPConnection(address.removeprefix("http://"), timeout=60)) as refused:
        refused.putrequest("POST", "/v1/inpaint")
        refused.putheader("Content-Length", "10000")
        refused.endheaders()
        answer = refused.getresponse()
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert json.loads(answer.read())["error"]["code"] == "queue_full"
    for connection in busy:
        assert connection.getresponse().status == 200


def test_the_servers_own_time_limit_holds(small: BatchingService, serve: Serve) -> None:
    address = serve(make_application(small, ServerSettings(request_timeout=0.3)))
    answer = httpx.post(f"{address}/v1/inpaint", json=LONG, headers={"X-Request-Timeout": "60"}, timeout=60)
    assert answer.status_code == 504
    stream = httpx.post(f"{address}/v1/inpaint", json={**LONG, "stream": True}, timeout=60)
    assert '"deadline_exceeded"' in stream.text
    wait_until(lambda: small.snapshot.outstanding == 0)


def test_a_draining_service_refuses_and_is_not_ready(
    address: str, begin: Begin, small: BatchingService
) -> None:
    running = begin(MEDIUM)
    wait_until(lambda: small.snapshot.active == 1)
    small.drain()
    refused = httpx.post(f"{address}/v1/inpaint", json=LONG)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "draining"
    assert int(refused.headers["Retry-After"]) > 0
    ready = httpx.get(f"{address}/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
    assert httpx.get(f"{address}/healthz").status_code == 200
    assert running.getresponse().status == 200


def test_requests_that_a_stop_cuts_off_hear_of_it(begin: Begin, small: BatchingService) -> None:
    running = begin(LONG)
    wait_until(lambda: small.snapshot.active == 1)
    small.close()
    answer = running.getresponse()
    assert answer.status == 503
    assert json.loads(answer.read())["error"]["code"] == "draining"


def test_what_happens_is_counted(demo: LoadedBundle, serve: Serve) -> None:
    metrics = Metrics()
    with BatchingService(demo, BatchingSettings(slots=2, queue=0), observer=metrics) as service:
        address = serve(make_application(service, ServerSettings(), metrics=metrics))
        assert httpx.post(f"{address}/v1/inpaint", json=as_json(), timeout=60).status_code == 200
        assert httpx.post(f"{address}/v1/inpaint", json=as_json(seed=-1)).status_code == 422
        places = [service.admit(), service.admit()]
        assert httpx.post(f"{address}/v1/inpaint", json=as_json()).status_code == 429
        text = httpx.get(f"{address}/metrics").text
        for place in places:
            place.release()
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    for status in ("200", "422", "429"):
        assert samples["inpaintrt_requests_total", status, "inpaint"] == 1
    assert samples["inpaintrt_refused_total", "queue_full"] == 1
    assert samples["inpaintrt_jobs_total", "finished"] == 1
    steps = samples["inpaintrt_step_seconds_count",]
    assert steps >= 4
    assert samples["inpaintrt_step_row_occupancy_bucket", "1.0"] == steps
    assert samples["inpaintrt_rows_total",] == 2 * steps
    for stage in ("queue", "prepare", "encode", "denoise", "decode", "paste", "total"):
        assert samples["inpaintrt_stage_seconds_count", stage] == 1
    assert samples["inpaintrt_cache_lookups_total", "images", "miss"] >= 1
    assert samples["inpaintrt_slots",] == 2
    assert samples["inpaintrt_places_taken",] == 2
    assert samples["inpaintrt_queue_depth",] == 0
    assert samples["inpaintrt_request_seconds_count", "inpaint"] == 3
    assert samples["process_resident_memory_bytes",] > 10**6
