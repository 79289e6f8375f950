"""Step caching over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt_server.application import make_application
from inpaintrt_server.batching import BatchingService, BatchingSettings
from inpaintrt_server.settings import ServerSettings
from runtime.image_tools import disc_mask, gradient, largest_difference
from server.batching.tools import ask, paint_alone
from server.conftest import serving, wait_until
from server.uploads import base64_of, opened
from step_caches import make_bundle_with_step_cache

BODY: dict[str, Any] = {
    "prompt": "a red balloon",
    "num_inference_steps": 6,
    "scheduler": "ddim",
    "seed": 3,
    "image": base64_of(gradient(64, 64)),
    "mask": base64_of(disc_mask(64, 64)),
}


@pytest.fixture(scope="module")
def loaded(bundle_cache: Path) -> LoadedBundle:
    return load_bundle(make_bundle_with_step_cache(bundle_cache), backend_options={"threads": 1})


@contextmanager
def _serving(loaded: LoadedBundle) -> Iterator[str]:
    with BatchingService(loaded, BatchingSettings(slots=2, queue=4)) as service:
        wait_until(lambda: service.snapshot.ready)
        with serving(make_application(service, ServerSettings())) as address:
            yield address


@pytest.fixture(scope="module")
def address(loaded: LoadedBundle) -> Iterator[str]:
    with _serving(loaded) as address:
        yield address


@pytest.fixture(scope="module")
def without(tiny_bundle: Path) -> Iterator[str]:
    """A server on the bundle without step caching."""
    with _serving(load_bundle(tiny_bundle, backend_options={"threads": 1})) as address:
        yield address


def test_requests_choose_an_interval_by_a_field(address: str, loaded: LoadedBundle) -> None:
    found = {}
    for interval in (1, 3):
        answer = httpx.post(f"{address}/v1/inpaint", json={**BODY, "cache_interval": interval}, timeout=60)
        assert answer.status_code == 200, answer.text
        found[interval] = opened(answer.content)
        (expected,) = paint_alone(loaded, ask(seed=3, num_inference_steps=6, cache_interval=interval))
        assert largest_difference(found[interval], expected) <= 1
    assert largest_difference(found[1], found[3]) > 1


def test_information_tells_whether_a_bundle_has_it(address: str, without: str) -> None:
    assert httpx.get(f"{address}/info").json()["step_caching"] is True
    assert httpx.get(f"{without}/info").json()["step_caching"] is False


def test_a_request_that_the_bundle_cannot_serve_is_refused(without: str) -> None:
    answer = httpx.post(f"{without}/v1/inpaint", json={**BODY, "cache_interval": 2}, timeout=60)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "cache_interval"
    assert "inpaintrt add-step-cache" in answer.text
