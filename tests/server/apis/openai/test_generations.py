"""OpenAI's own client generates images, and edits them without a mask."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse
from PIL import Image

from inpaintrt.loading import LoadedBundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService
from inpaintrt_server.settings import read_settings
from runtime.image_tools import largest_difference
from server.conftest import Serve
from server.uploads import SCENE, opened, png_of

PROMPT = SCENE.script.prompts[0]
SHORT: dict[str, Any] = {"seed": 3, "steps": 4}


def images(answer: ImagesResponse) -> list[Image.Image]:
    assert answer.data is not None
    return [decoded(item.b64_json) for item in answer.data]


def decoded(text: str | None) -> Image.Image:
    assert text is not None
    return opened(base64.b64decode(text))


@pytest.fixture
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def pipeline(demo: LoadedBundle) -> InpaintPipeline:
    return InpaintPipeline(demo)


def test_a_generation_is_the_pipelines_image(client: openai.OpenAI, pipeline: InpaintPipeline) -> None:
    answer = client.images.generate(prompt=PROMPT, extra_body=SHORT)
    expected = pipeline(PROMPT, num_inference_steps=4, seed=3).images[0]
    (image,) = images(answer)
    assert largest_difference(image, expected) <= 1
    assert (image.format, answer.output_format) == ("PNG", "png")
    assert (answer.size, answer.background, answer.quality) == ("128x128", "opaque", "high")
    assert answer.created > 0
    assert answer.usage is not None
    assert answer.usage.total_tokens == 0


def test_every_field_acts(client: openai.OpenAI, pipeline: InpaintPipeline) -> None:
    answer = client.images.generate(
        prompt=PROMPT,
        n=2,
        size="96x64",
        model="demo",
        user="me",
        style="natural",
        moderation="low",
        background="opaque",
        output_format="jpeg",
        output_compression=80,
        extra_body={**SHORT, "negative_prompt": "night", "guidance_scale": 4, "scheduler": "euler_a"},
    )
    expected = pipeline(
        PROMPT,
        num_inference_steps=4,
        seed=3,
        negative_prompt="night",
        guidance_scale=4.0,
        scheduler="euler_a",
        num_images_per_prompt=2,
        width=96,
        height=64,
    ).images
    found = images(answer)
    assert answer.size == "96x64"
    for image, exact in zip(found, expected, strict=True):
        assert (image.format, image.size) == ("JPEG", (96, 64))
        assert largest_difference(image.resize((12, 8)), exact.resize((12, 8))) < 12


def test_a_stream_brings_partial_images_and_the_result(
    client: openai.OpenAI, pipeline: InpaintPipeline
) -> None:
    with client.images.generate(prompt=PROMPT, stream=True, partial_images=2, extra_body=SHORT) as stream:
        *partial, last = list(stream)
    assert [
        event.partial_image_index for event in partial if isinstance(event, ImageGenPartialImageEvent)
    ] == [0, 1]
    assert isinstance(last, ImageGenCompletedEvent)
    assert last.type == "image_generation.completed"
    assert last.usage.total_tokens == 0
    expected = pipeline(PROMPT, num_inference_steps=4, seed=3).images[0]
    assert largest_difference(decoded(last.b64_json), expected) <= 1
    assert all(largest_difference(decoded(event.b64_json), expected) > 0 for event in partial)


@pytest.mark.parametrize(
    ("given", "kind", "code", "param"),
    [
        ({"model": "gpt-image-1"}, openai.NotFoundError, "model_not_found", "model"),
        ({"response_format": "url"}, openai.BadRequestError, "invalid_field", "response_format"),
        ({"background": "transparent"}, openai.BadRequestError, "invalid_field", "background"),
        ({"size": "132x132"}, openai.BadRequestError, "invalid_parameter", "size"),
        ({"size": "2048x2048"}, openai.BadRequestError, "invalid_parameter", "size"),
        ({"n": 9}, openai.BadRequestError, "invalid_parameter", "n"),
        ({"prompt": "a" * 10_001}, openai.BadRequestError, "invalid_prompt", "prompt"),
        ({"extra_body": {"scheduler": "best"}}, openai.BadRequestError, "unknown_sampler", "scheduler"),
        ({"extra_body": {"strength": 0.5}}, openai.BadRequestError, "invalid_field", "strength"),
    ],
)
def test_refusals_fill_the_clients_exceptions(
    client: openai.OpenAI, given: dict[str, Any], kind: type[openai.APIStatusError], code: str, param: str
) -> None:
    with pytest.raises(kind) as caught:
        client.images.generate(**{"prompt": PROMPT, **given})
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error"


def test_a_body_that_is_not_json_is_refused(server: str) -> None:
    for content, kind, status in ((b"{", "application/json", 400), (b"prompt=a", "text/plain", 415)):
        answer = httpx.post(
            f"{server}/v1/images/generations", content=content, headers={"Content-Type": kind}
        )
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_edit_without_a_mask_is_refused_with_the_option(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="--edits-without-mask") as caught:
        client.images.edit(image=png_of(SCENE.image), prompt=PROMPT)
    assert (caught.value.code, caught.value.param) == ("invalid_mask", "mask")


def test_an_edit_without_a_mask_is_image_to_image_where_the_server_allows_it(
    service: BatchingService, serve: Serve, pipeline: InpaintPipeline
) -> None:
    address = serve(make_application(service, read_settings({"edits_without_mask": True})))
    strengths: list[dict[str, Any]] = [{}, {"strength": 0.5}]
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        for strength in strengths:
            answer = client.images.edit(
                image=png_of(SCENE.image.convert("RGBA")), prompt=PROMPT, extra_body={**SHORT, **strength}
            )
            expected = pipeline(PROMPT, SCENE.image, num_inference_steps=4, seed=3, **strength).images[0]
            (image,) = images(answer)
            assert image.mode == "RGB"
            assert largest_difference(image, expected) <= 1
