"""A checkpoint of SDXL behind every interface: the pipeline's image, at the checkpoint's size."""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.settings import ServerSettings
from runtime.image_tools import largest_difference
from runtime.sdxl_cases import IMAGE, MASK, PROMPT
from server.conftest import serving, wait_until
from server.uploads import base64_of, opened, png_of

OPTIONS: Mapping[str, Any] = MappingProxyType({"num_inference_steps": 4, "guidance_scale": 5.0, "seed": 11})
CONDITIONS: Mapping[str, Any] = MappingProxyType(
    {
        "prompt_2": "a blue house",
        "negative_prompt": "a dog",
        "negative_prompt_2": "a yellow cat",
        "original_size": [100, 200],
        "crops_coords_top_left": [3, 7],
        "negative_target_size": [30, 20],
    }
)


@pytest.fixture(scope="module")
def loaded(tiny_sdxl_bundle: Path) -> LoadedBundle:
    return load_bundle(tiny_sdxl_bundle, backend_options={"threads": 1})


@pytest.fixture(scope="module")
def address(loaded: LoadedBundle) -> Iterator[str]:
    """The address of a server of SDXL."""
    with BatchingService(loaded, BatchingSettings(slots=4, queue=16)) as service:
        wait_until(lambda: service.snapshot.ready)
        with serving(make_application(service, ServerSettings())) as address:
            yield address


@pytest.fixture(scope="module")
def pipeline(loaded: LoadedBundle) -> InpaintPipeline:
    return InpaintPipeline(loaded)


def painted(pipeline: InpaintPipeline, *sources: Image.Image, **options: Any) -> Any:
    return pipeline(PROMPT, *sources, **{**OPTIONS, **options}).images[0]


def post(address: str, path: str, **content: Any) -> httpx.Response:
    return httpx.post(f"{address}{path}", timeout=60, **content)


def as_parts(fields: Mapping[str, Any]) -> dict[str, tuple[None, str]]:
    """Fields as parts of a form."""
    return {
        name: (None, json.dumps(value) if isinstance(value, list) else str(value))
        for name, value in fields.items()
    }


def test_generations_have_the_checkpoints_size(address: str, pipeline: InpaintPipeline) -> None:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        extra = {"steps": 4, "guidance_scale": 5, "seed": 11, "negative_prompt": "a dog"}
        answer = client.images.generate(prompt=PROMPT, extra_body=extra)
    assert answer.data is not None
    image = opened(base64.b64decode(answer.data[0].b64_json or ""))
    assert image.size == (64, 64)
    assert largest_difference(image, painted(pipeline, negative_prompt="a dog")) <= 1


def test_txt2img_has_the_checkpoints_size(address: str, pipeline: InpaintPipeline) -> None:
    body = {"prompt": PROMPT, "steps": 4, "cfg_scale": 5, "seed": 11, "sampler_name": "Euler a"}
    answer = post(address, "/sdapi/v1/txt2img", json=body).raise_for_status()
    image = opened(base64.b64decode(answer.json()["images"][0]))
    assert image.size == (64, 64)
    assert largest_difference(image, painted(pipeline, scheduler="euler_a")) <= 1


@pytest.mark.parametrize("sources", [(), (IMAGE,), (IMAGE, MASK)], ids=["text", "image", "image and mask"])
def test_json_and_form_hand_on_what_sdxl_takes(
    address: str, pipeline: InpaintPipeline, sources: tuple[Image.Image, ...]
) -> None:
    fields = {"prompt": PROMPT, **OPTIONS, **CONDITIONS}
    images = dict(zip(("image", "mask"), sources, strict=False))
    expected = painted(pipeline, *sources, **CONDITIONS)
    texts = {name: base64_of(image) for name, image in images.items()}
    as_json = post(address, "/v1/inpaint", json={**fields, **texts}).raise_for_status()
    assert largest_difference(opened(as_json.content), expected) <= 1
    files = {name: (f"{name}.png", png_of(image), "image/png") for name, image in images.items()}
    as_form = post(address, "/v1/inpaint", files={**as_parts(fields), **files}).raise_for_status()
    assert largest_difference(opened(as_form.content), expected) <= 1
    assert largest_difference(expected, painted(pipeline, *sources)) > 1


@pytest.mark.parametrize("name", ["prompt_2", "negative_prompt_2"])
def test_second_prompts_have_the_limit_of_prompts(address: str, name: str) -> None:
    answer = post(address, "/v1/inpaint", json={"prompt": PROMPT, **OPTIONS, name: "a" * 10_001})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == ("invalid_prompt", name)
    assert "at most 10000" in error["expected"]
    document = httpx.get(f"{address}/openapi.json", timeout=60).json()
    bodies = document["paths"]["/v1/inpaint"]["post"]["requestBody"]["content"]
    for body in bodies.values():
        field = body["schema"]["properties"][name]
        assert {part.get("maxLength") for part in field.get("anyOf", [field])} >= {10_000}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt_2": ["a", "b"]}, "prompt_2"),
        ({"original_size": [64]}, "original_size"),
        ({"original_size": [0, 64]}, "original_size"),
        ({"crops_coords_top_left": [0, -1]}, "crops_coords_top_left"),
        ({"aesthetic_score": "high"}, "aesthetic_score"),
        ({"pooled_prompt_embeds": [[0.0]]}, "pooled_prompt_embeds"),
    ],
)
def test_fields_out_of_range_are_named(address: str, fields: dict[str, Any], field: str) -> None:
    answer = post(address, "/v1/inpaint", json={"prompt": PROMPT, **OPTIONS, **fields})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"].startswith(field)


@pytest.mark.parametrize(
    ("name", "value"),
    [("prompt_2", "a house"), ("original_size", [64, 64]), ("aesthetic_score", 3)],
)
def test_other_checkpoints_refuse_what_sdxl_takes(server: str, name: str, value: Any) -> None:
    """`server` is that of a checkpoint of Stable Diffusion."""
    bodies: list[dict[str, Any]] = [
        {"json": {"prompt": PROMPT, **OPTIONS, name: value}},
        {"files": as_parts({"prompt": PROMPT, **OPTIONS, name: value})},
    ]
    for body in bodies:
        answer = post(server, "/v1/inpaint", **body)
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert (error["code"], error["field"]) == ("invalid_parameter", name)
        assert "no meaning for this checkpoint" in error["message"]
        assert "sdxl" in error["expected"]
