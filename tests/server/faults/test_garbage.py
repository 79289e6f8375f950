"""However a request ends, its images go with it, without a garbage collection: they are large."""

import gc
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from PIL import Image

from inpaintrt.loading import LoadedBundle
from inpaintrt.request import Request
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.batching.task import Task
from inpaintrt_server.settings import ServerSettings
from server.batching.tools import FailsAt, with_engine
from server.conftest import Serve, wait_until
from server.uploads import FORM, as_json, files, hole, png_of

LONG = {**FORM, "num_inference_steps": 200}
HANGS_UP = {"timeout": 0.4}


def _webui(**more: object) -> dict[str, object]:
    body = as_json()
    return {
        "init_images": [body["image"]],
        "mask": body["mask"],
        "prompt": body["prompt"],
        "steps": 3,
        **more,
    }


ENDINGS: dict[str, tuple[str, dict[str, Any], int | None]] = {
    "an image": ("/v1/inpaint", {"data": FORM, "files": files()}, 200),
    "JSON": (
        "/v1/inpaint",
        {"json": as_json(num_images_per_prompt=2, seed=[3, 4], response_format="json")},
        200,
    ),
    "events with previews": ("/v1/inpaint", {"json": as_json(stream=True, previews=2)}, 200),
    "a mask of another size": (
        "/v1/inpaint",
        {
            "data": FORM,
            "files": {**files(), "mask": ("m.png", png_of(Image.new("L", (64, 64), 255)), "image/png")},
        },
        400,
    ),
    "too late": (
        "/v1/inpaint",
        {"data": LONG, "files": files(), "headers": {"x-request-timeout": "0.5"}},
        504,
    ),
    "a hang-up": ("/v1/inpaint", {"data": LONG, "files": files(), **HANGS_UP}, None),
    "OpenAI": (
        "/v1/images/edits",
        {"data": {"prompt": "a balloon", "steps": 3}, "files": {"image": hole()}},
        200,
    ),
    "OpenAI's events": (
        "/v1/images/edits",
        {
            "data": {"prompt": "a balloon", "steps": 5, "stream": "true", "partial_images": 2},
            "files": {"image": hole()},
        },
        200,
    ),
    "the WebUI": ("/sdapi/v1/img2img", {"json": _webui()}, 200),
    "the WebUI, hung up": ("/sdapi/v1/img2img", {"json": _webui(steps=150), **HANGS_UP}, None),
}


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Nor logging: pytest keeps what is logged, and with an error the frames that it came through."""
    gc.collect()
    gc.disable()
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
    gc.enable()


def _kept() -> list[object]:
    return [thing for thing in gc.get_objects() if type(thing) in (Task, Request)]


def _new(before: list[object]) -> list[object]:
    return [thing for thing in _kept() if not any(thing is old for old in before)]


def _send(address: str, path: str, wanted: dict[str, Any]) -> int | None:
    """The status of the answer; None if the client did not wait for its end."""
    with suppress(httpx.ReadTimeout), httpx.Client(base_url=address, timeout=60) as client:
        return client.post(path, **wanted).status_code
    return None


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_request_that_is_over_is_kept_by_nothing(
    server: str, service: BatchingService, ending: str
) -> None:
    path, wanted, status = ENDINGS[ending]
    before = _kept()
    assert _send(server, path, wanted) == status
    wait_until(lambda: service.snapshot.outstanding == 0)
    wait_until(lambda: not _new(before))


@pytest.mark.usefixtures("no_garbage_collection")
def test_nor_is_one_whose_client_hangs_up_while_events_come(server: str, service: BatchingService) -> None:
    before = _kept()
    body = as_json(num_inference_steps=200, stream=True)
    with httpx.stream("POST", f"{server}/v1/inpaint", json=body, timeout=60) as answer:
        assert next(answer.iter_lines()) == "event: started"
    wait_until(lambda: service.snapshot.outstanding == 0)
    wait_until(lambda: not _new(before))


@pytest.mark.usefixtures("no_garbage_collection")
def test_nor_is_one_whose_step_failed(serve: Serve, demo: LoadedBundle, settings: ServerSettings) -> None:
    fails = FailsAt()
    with BatchingService(with_engine(demo, "denoiser", fails), BatchingSettings(slots=2)) as service:
        wait_until(lambda: service.snapshot.ready)
        address = serve(make_application(service, settings))
        before = _kept()
        fails.remaining = 2
        assert _send(address, "/v1/inpaint", {"data": FORM, "files": files()}) == 500
        wait_until(lambda: not _new(before))
