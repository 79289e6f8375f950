"""OpenAI's own client against a real server."""

import asyncio
import base64
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import ImageEditCompletedEvent, ImageEditPartialImageEvent, ImagesResponse
from PIL import Image

from inpaintrt.loading import LoadedBundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.admission import Permit
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.settings import read_settings
from runtime.image_tools import largest_difference
from server.conftest import Serve, wait_until
from server.uploads import SCENE, hole, opened, png_of

KEY = "a key of enough letters"
PROMPT = SCENE.script.prompts[0]
LARGE_PNG = png_of(Image.new("1", (6000, 6000)))
IMAGE = png_of(SCENE.image)
SHORT: dict[str, Any] = {"seed": 3, "steps": 4}


def images(answer: ImagesResponse) -> list[Image.Image]:
    assert answer.data is not None
    return [decoded(item.b64_json) for item in answer.data]


def decoded(text: str | None) -> Image.Image:
    assert text is not None
    return opened(base64.b64decode(text))


def release(permits: Sequence[Permit]) -> None:
    for permit in permits:
        permit.release()


@pytest.fixture
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def pipeline(demo: LoadedBundle) -> InpaintPipeline:
    return InpaintPipeline(demo)


def test_an_edit_is_the_pipelines_image(client: openai.OpenAI, pipeline: InpaintPipeline) -> None:
    answer = client.images.edit(image=IMAGE, mask=hole(), prompt=PROMPT, extra_body=SHORT)
    expected = pipeline(PROMPT, SCENE.image, SCENE.mask, num_inference_steps=4, seed=3).images[0]
    (image,) = images(answer)
    assert largest_difference(image, expected) <= 1
    assert image.format == "PNG"
    assert answer.size == "128x128"
    assert answer.background == "opaque"
    assert answer.output_format == "png"
    assert answer.quality == "high"
    assert answer.created > 0


def test_every_field_acts(client: openai.OpenAI, pipeline: InpaintPipeline) -> None:
    answer = client.images.edit(
        image=[("image.png", IMAGE, "image/png")],
        mask=("mask.png", hole(), "image/png"),
        prompt=PROMPT,
        n=2,
        size="64x64",
        model="demo",
        user="me",
        background="opaque",
        output_format="jpeg",
        output_compression=80,
        extra_body={
            **SHORT,
            "strength": 0.8,
            "negative_prompt": "night",
            "guidance_scale": 4,
            "scheduler": "euler_a",
        },
    )
    expected = pipeline(
        PROMPT,
        SCENE.image,
        SCENE.mask,
        num_inference_steps=4,
        seed=3,
        strength=0.8,
        negative_prompt="night",
        guidance_scale=4.0,
        scheduler="euler_a",
        num_images_per_prompt=2,
        width=64,
        height=64,
    ).images
    found = images(answer)
    assert [image.format for image in found] == ["JPEG", "JPEG"]
    assert answer.size == "64x64"
    for image, exact in zip(found, expected, strict=True):
        assert image.size == (64, 64)
        assert largest_difference(image.resize((8, 8)), exact.resize((8, 8))) < 12


def test_the_images_own_transparency_says_where(client: openai.OpenAI, pipeline: InpaintPipeline) -> None:
    answer = client.images.edit(image=hole(), prompt=PROMPT, extra_body=SHORT)
    expected = pipeline(PROMPT, SCENE.image, SCENE.mask, num_inference_steps=4, seed=3).images[0]
    (image,) = images(answer)
    assert image.mode == "RGB"
    assert largest_difference(image, expected) <= 1


def test_without_a_seed_one_is_chosen_and_told(client: openai.OpenAI) -> None:
    first = client.images.edit(image=hole(), prompt=PROMPT, extra_body={"steps": 4})
    assert first.data is not None
    seed = first.data[0].model_extra["seed"]  # type: ignore[index]
    again = client.images.edit(image=hole(), prompt=PROMPT, extra_body={"steps": 4, "seed": seed})
    assert largest_difference(images(first)[0], images(again)[0]) <= 1


def test_a_low_quality_is_the_fast_one(client: openai.OpenAI, pipeline: InpaintPipeline) -> None:
    answer = client.images.edit(image=hole(), prompt=PROMPT, quality="low", extra_body={"seed": 3})
    expected = pipeline(PROMPT, SCENE.image, SCENE.mask, quality="fast", seed=3).images[0]
    assert largest_difference(images(answer)[0], expected) <= 1


def test_a_stream_brings_partial_images_and_the_result(
    client: openai.OpenAI, pipeline: InpaintPipeline
) -> None:
    with client.images.edit(
        image=IMAGE, mask=hole(), prompt=PROMPT, stream=True, partial_images=3, extra_body=SHORT
    ) as stream:
        *partial, last = list(stream)
    assert [
        event.partial_image_index for event in partial if isinstance(event, ImageEditPartialImageEvent)
    ] == [0, 1, 2]
    assert isinstance(last, ImageEditCompletedEvent)
    assert last.usage.total_tokens == 0
    expected = pipeline(PROMPT, SCENE.image, SCENE.mask, num_inference_steps=4, seed=3).images[0]
    assert largest_difference(decoded(last.b64_json), expected) <= 1
    for event in partial:
        assert event.size == "128x128"
        assert largest_difference(decoded(event.b64_json), expected) > 0


def test_a_stream_without_partial_images_has_one_event(client: openai.OpenAI) -> None:
    events = list(client.images.edit(image=hole(), prompt=PROMPT, stream=True, extra_body=SHORT))
    assert [event.type for event in events] == ["image_edit.completed"]


def test_the_async_client_too(server: str) -> None:
    async def run() -> tuple[Image.Image, Image.Image]:
        async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
            answer = await client.images.edit(image=hole(), prompt=PROMPT, extra_body=SHORT)
            stream = await client.images.edit(image=hole(), prompt=PROMPT, stream=True, extra_body=SHORT)
            events = [event async for event in stream]
        return images(answer)[0], decoded(events[-1].b64_json)

    plain, streamed = asyncio.run(run())
    assert largest_difference(plain, streamed) <= 1


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "inpaintrt"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("another/one")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("given", "kind", "code", "param"),
    [
        ({"image": IMAGE}, openai.BadRequestError, "invalid_mask", "mask"),
        ({"mask": png_of(SCENE.mask)}, openai.BadRequestError, "invalid_mask", "mask"),
        ({"image": b"GIF89a..."}, openai.BadRequestError, "invalid_image", "image"),
        ({"image": [hole(), hole()]}, openai.BadRequestError, "invalid_field", "image"),
        ({"markup": hole()}, openai.BadRequestError, "invalid_field", "markup"),
        ({"model": "gpt-image-1"}, openai.NotFoundError, "model_not_found", "model"),
        ({"response_format": "url"}, openai.BadRequestError, "invalid_field", "response_format"),
        ({"size": "1024x512"}, openai.BadRequestError, "invalid_field", "size"),
        ({"extra_body": {"scheduler": "best"}}, openai.BadRequestError, "unknown_sampler", "scheduler"),
        ({"mask": LARGE_PNG}, openai.APIStatusError, "image_too_large", "mask"),
        ({"image": LARGE_PNG}, openai.APIStatusError, "image_too_large", "image"),
        ({"n": 9}, openai.BadRequestError, "invalid_parameter", "n"),
        ({"n": 11}, openai.BadRequestError, "invalid_field", "n"),
        ({"size": "2048x2048"}, openai.BadRequestError, "invalid_parameter", "size"),
        ({"size": "132x132"}, openai.BadRequestError, "invalid_parameter", "size"),
        ({"size": "large"}, openai.BadRequestError, "invalid_field", "size"),
        ({"quality": "best"}, openai.BadRequestError, "invalid_field", "quality"),
        ({"output_format": "tiff"}, openai.BadRequestError, "invalid_field", "output_format"),
        ({"prompt": "a" * 10_001}, openai.BadRequestError, "invalid_prompt", "prompt"),
        (
            {"extra_body": {"negative_prompt": "a" * 10_001}},
            openai.BadRequestError,
            "invalid_prompt",
            "negative_prompt",
        ),
        ({"extra_body": {"steps": 100_000}}, openai.BadRequestError, "invalid_parameter", "steps"),
        ({"extra_body": {"steps": 0}}, openai.BadRequestError, "invalid_field", "steps"),
        ({"extra_body": {"strength": 0, **SHORT}}, openai.BadRequestError, "invalid_parameter", "strength"),
        ({"extra_body": {"seed": -1}}, openai.BadRequestError, "invalid_field", "seed"),
        ({"extra_body": {"loras": "x"}}, openai.BadRequestError, "invalid_field", "loras"),
    ],
)
def test_refusals_fill_the_clients_exceptions(
    client: openai.OpenAI,
    given: dict[str, Any],
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
) -> None:
    with pytest.raises(kind) as caught:
        client.images.edit(**{"image": hole(), "prompt": PROMPT, **given})
    assert caught.value.code == code
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id == caught.value.response.headers["x-request-id"]


def test_a_mask_of_another_size_is_named_with_both_sizes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="mask 64 x 64, image 128 x 128"):
        client.images.edit(image=IMAGE, mask=png_of(opened(hole()).resize((64, 64))), prompt=PROMPT)


def test_fields_that_come_twice_or_not_at_all_are_named(client: openai.OpenAI) -> None:
    for parts, param in (
        ({"data": {"prompt": ["one", "two"]}, "files": {"image": hole()}}, "prompt"),
        ({"data": {}, "files": {"image": hole()}}, "prompt"),
        ({"data": {"prompt": "one"}, "files": {"mask": hole()}}, "image"),
    ):
        answer = client._client.post(f"{client.base_url}images/edits", **parts)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


def test_other_paths_of_openai_are_refused_with_those_there_are(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/images/edits or /v1/images/generations"):
        client.post("/images/variations", cast_to=object)


def test_a_full_queue_is_a_rate_limit_and_the_client_tries_again(
    server: str, service: BatchingService
) -> None:
    permits = [service.admit() for _ in range(service.snapshot.capacity)]
    try:
        with (
            openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client,
            pytest.raises(openai.RateLimitError) as caught,
        ):
            client.images.edit(image=hole(), prompt=PROMPT, extra_body=SHORT)
        assert caught.value.code == "queue_full"
        assert caught.value.type == "rate_limit_error"
        assert int(caught.value.response.headers["retry-after"]) >= 1
        # It waits a second before it tries again, so by then there is room.
        threading.Timer(0.2, release, [permits]).start()
        with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=1) as client:
            assert client.images.edit(image=hole(), prompt=PROMPT, extra_body=SHORT).size == "128x128"
    finally:
        release(permits)


def test_a_stopping_server_is_unavailable(demo: LoadedBundle, serve: Serve) -> None:
    with BatchingService(demo, BatchingSettings(slots=1, queue=0)) as stopping:
        address = serve(make_application(stopping, read_settings()))
        stopping.drain()
        with (
            openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
            pytest.raises(openai.InternalServerError) as caught,
        ):
            client.images.edit(image=hole(), prompt=PROMPT)
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (
        503,
        "draining",
        "server_error",
    )


def test_a_request_out_of_time_is_not_repeated(server: str) -> None:
    late = {"X-Request-Timeout": "0.001"}
    with openai.OpenAI(
        base_url=f"{server}/v1", api_key="none", max_retries=2, default_headers=late
    ) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.images.edit(image=hole(), prompt=PROMPT)
        assert caught.value.status_code == 504
        assert caught.value.code == "deadline_exceeded"
        assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
        with pytest.raises(openai.APIError) as in_stream:
            list(client.images.edit(image=hole(), prompt=PROMPT, stream=True))
        assert in_stream.value.code == "deadline_exceeded"


def test_hanging_up_gives_the_request_up(client: openai.OpenAI, service: BatchingService) -> None:
    stream = client.images.edit(
        image=hole(), prompt=PROMPT, stream=True, partial_images=3, extra_body={"steps": 200}
    )
    next(iter(stream))
    stream.close()
    wait_until(lambda: service.snapshot.outstanding == 0 and service.snapshot.active == 0)


def test_keys_are_asked_for(service: BatchingService, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\n")
    address = serve(make_application(service, read_settings({"api_key_file": tmp_path / "keys"})))
    with openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client:
        assert client.models.retrieve("demo").id == "demo"
    with (
        openai.OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "unauthorized"
