"""The engine fails while clients wait: those in the step hear of it, and the server goes on."""

import httpx

from inpaintrt.loading import LoadedBundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.settings import ServerSettings
from server.batching.tools import FailsAt, with_engine
from server.conftest import Serve, wait_until
from server.uploads import FORM, files


def test_a_failing_step_is_a_500_for_those_in_it_and_the_next_request_is_served(
    serve: Serve, demo: LoadedBundle, settings: ServerSettings
) -> None:
    fails = FailsAt()
    with BatchingService(with_engine(demo, "denoiser", fails), BatchingSettings(slots=2)) as service:
        wait_until(lambda: service.snapshot.ready)
        address = serve(make_application(service, settings))
        for step in (1, 3, 4):
            fails.remaining = step
            failed = httpx.post(f"{address}/v1/inpaint", data=dict(FORM), files=files(), timeout=60)
            assert failed.status_code == 500
            assert failed.json()["error"]["code"] == "engine_failed"
            assert "secret" not in failed.text
            served = httpx.post(f"{address}/v1/inpaint", data=dict(FORM), files=files(), timeout=60)
            assert served.status_code == 200
        assert httpx.get(f"{address}/readyz").status_code == 200
        wait_until(lambda: service.snapshot.outstanding == service.snapshot.active == 0)


def test_a_failing_step_ends_a_stream_with_an_error(
    serve: Serve, demo: LoadedBundle, settings: ServerSettings
) -> None:
    fails = FailsAt()
    with BatchingService(with_engine(demo, "denoiser", fails), BatchingSettings(slots=2)) as service:
        wait_until(lambda: service.snapshot.ready)
        address = serve(make_application(service, settings))
        fails.remaining = 3
        body = {**FORM, "stream": "true"}
        answer = httpx.post(f"{address}/v1/inpaint", data=body, files=files(), timeout=60)
        events = [line for line in answer.text.splitlines() if line.startswith("event: ")]
        assert events == ["event: started", "event: step", "event: step", "event: error"]
        assert "engine_failed" in answer.text
