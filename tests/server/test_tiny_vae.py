"""A bundle with a tiny VAE behind the server: requests for either VAE in one batch, and previews."""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from inpaintrt.backends import Array
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt_server.apis.webui.jobs import PreviewsOnDemand
from inpaintrt_server.application import make_application
from inpaintrt_server.batching import BatchingService, BatchingSettings, Stepped
from inpaintrt_server.batching.memory import MemoryBudget
from inpaintrt_server.settings import ServerSettings
from runtime.image_tools import disc_mask, gradient, largest_difference
from server.batching.tools import Ear, ask, hand_in, paint_alone, with_engine
from server.conftest import serving, wait_until
from server.uploads import base64_of, opened
from tiny_vaes import make_bundle_with_tiny_vae

VAE_ENGINES = ("vae_encoder", "vae_decoder", "tiny_vae_encoder", "tiny_vae_decoder")
KINDS: list[dict[str, Any]] = [
    {"vae": vae, "task": task, "seed": seed, "num_inference_steps": 4 + seed}
    for seed, task in enumerate(("inpainting", "image-to-image", "text-to-image"))
    for vae in ("full", "tiny")
]
BODY: Mapping[str, Any] = {
    "prompt": "a red balloon",
    "num_inference_steps": 4,
    "seed": 3,
    "strength": 0.6,
    "image": base64_of(gradient(64, 64)),
    "mask": base64_of(disc_mask(64, 64)),
}


@pytest.fixture(scope="module")
def loaded(bundle_cache: Path) -> LoadedBundle:
    return load_bundle(make_bundle_with_tiny_vae(bundle_cache), backend_options={"threads": 1})


@pytest.fixture(scope="module")
def runs() -> Counter[str]:
    """How often each network of the VAEs has run in `tiny_service`."""
    return Counter()


@pytest.fixture(scope="module")
def tiny_service(loaded: LoadedBundle, runs: Counter[str]) -> Iterator[BatchingService]:
    """A running service on it."""
    watched = loaded
    for component in VAE_ENGINES:

        def count(inputs: Mapping[str, Array], component: str = component) -> None:
            runs[component] += 1

        watched = with_engine(watched, component, count)
    with BatchingService(watched, BatchingSettings(slots=4, queue=16)) as service:
        wait_until(lambda: service.snapshot.ready)
        yield service


@pytest.fixture(scope="module")
def address(tiny_service: BatchingService) -> Iterator[str]:
    with serving(make_application(tiny_service, ServerSettings())) as address:
        yield address


def test_requests_for_both_vaes_share_steps_and_get_what_they_get_alone(
    tiny_service: BatchingService, loaded: LoadedBundle
) -> None:
    requests = [ask(**kind) for kind in KINDS]
    ears = [Ear() for _ in requests]
    for request, ear in zip(requests, ears, strict=True):
        hand_in(tiny_service, request, ear)
    for request, ear in zip(requests, ears, strict=True):
        for found, expected in zip(ear.finished().images, paint_alone(loaded, request), strict=True):
            assert largest_difference(found, expected) <= 1
    first, second = (ear.finished().images[0] for ear in ears[:2])
    assert largest_difference(first, second) > 1


def test_what_one_vae_has_encoded_is_not_given_to_the_other(
    tiny_service: BatchingService, runs: Counter[str]
) -> None:
    runs.clear()
    for vae in ("full", "tiny", "full", "tiny"):
        ear = Ear()
        hand_in(tiny_service, ask(vae=vae, image_seed=9, task="image-to-image"), ear)
        ear.finished()
    assert runs == {"vae_encoder": 1, "tiny_vae_encoder": 1, "vae_decoder": 2, "tiny_vae_decoder": 2}


def stepped(ear: Ear) -> list[Stepped]:
    """The steps with previews."""
    ear.finished()
    return [event for event in ear.events if isinstance(event, Stepped) and event.previews]


def test_previews_are_decoded_by_the_tiny_vae_and_results_by_the_one_asked_for(
    tiny_service: BatchingService, runs: Counter[str]
) -> None:
    for vae, expected in (
        ("full", {"tiny_vae_decoder": 2, "vae_decoder": 1}),
        ("tiny", {"tiny_vae_decoder": 3}),
    ):
        runs.clear()
        ear = Ear()
        hand_in(tiny_service, ask(vae=vae, task="text-to-image"), ear, preview_steps={1, 3})
        assert [event.exact for event in stepped(ear)] == [vae == "tiny"] * 2
        assert runs == expected


def test_the_last_preview_of_what_is_interrupted_is_decoded_like_a_result(
    tiny_service: BatchingService, runs: Counter[str]
) -> None:
    images = []
    for interrupted in (False, True):
        runs.clear()
        steps, ear = PreviewsOnDemand(), Ear()
        steps.interrupted = interrupted
        steps.ask()
        hand_in(tiny_service, ask(task="text-to-image"), ear, preview_steps=steps)
        (event,) = stepped(ear)
        assert event.exact == interrupted
        assert runs["tiny_vae_decoder"] == (not interrupted)
        images.append(event.previews[0])
    assert largest_difference(*images) > 1


def test_requests_choose_a_vae_by_a_field(address: str, loaded: LoadedBundle) -> None:
    found = {}
    for vae in ("full", "tiny"):
        answer = httpx.post(f"{address}/v1/inpaint", json={**BODY, "vae": vae}, timeout=60)
        assert answer.status_code == 200, answer.text
        found[vae] = opened(answer.content)
        options: dict[str, Any] = {"strength": 0.6, "seed": 3, "scheduler": None, "image_seed": 0, "vae": vae}
        (expected,) = paint_alone(loaded, ask(**options))
        assert largest_difference(found[vae], expected) <= 1
    assert largest_difference(found["full"], found["tiny"]) > 1


def test_information_names_the_vaes(address: str, server: str) -> None:
    assert httpx.get(f"{address}/info").json()["vaes"] == ["full", "tiny"]
    assert httpx.get(f"{server}/info").json()["vaes"] == ["full"]


def test_a_vae_that_is_not_there_is_refused(server: str) -> None:
    answer = httpx.post(f"{server}/v1/inpaint", json={**BODY, "vae": "tiny"}, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["field"]) == (422, "vae")
    assert "add-tiny-vae" in error["what_to_do"]


def test_the_webuis_preview_is_an_image(address: str) -> None:
    fields = {"prompt": "a red balloon", "steps": 200, "width": 64, "height": 64}
    with httpx.Client(base_url=f"{address}/sdapi/v1", timeout=60) as client:
        shown: list[str] = []

        def sees_preview() -> bool:
            image = client.get("/progress").json()["current_image"]
            shown.extend([image] if image else [])
            return bool(shown)

        answers: list[httpx.Response] = []
        thread = Thread(target=lambda: answers.append(client.post("/txt2img", json=fields)))
        thread.start()
        wait_until(sees_preview)
        client.post("/interrupt")
        thread.join()
    assert opened(base64.b64decode(shown[0])).size == (64, 64)
    assert opened(base64.b64decode(answers[0].json()["images"][0])).size == (64, 64)


def test_memory_of_the_tiny_vae_counts(loaded: LoadedBundle) -> None:
    architecture = loaded.manifest.architecture
    without = {name: engine for name, engine in loaded.engines.items() if not name.startswith("tiny_")}
    limits = [
        MemoryBudget(engines, None, available=0, architecture=architecture).limit
        for engines in (without, {"tiny_vae_decoder": loaded.engines["tiny_vae_decoder"]}, loaded.engines)
    ]
    own, tiny, both = (limit or 0 for limit in limits)
    assert both == max(own, tiny) > 0
    assert tiny > 0
