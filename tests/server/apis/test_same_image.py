"""The same request through every interface, at the same time: one image, the pipeline's."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from PIL import Image, ImageOps

from inpaintrt.loading import LoadedBundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Options
from runtime.image_tools import largest_difference
from server.uploads import SCENE, base64_of, opened, png_of

PROMPT = SCENE.script.prompts[1]
OPTIONS = Options(
    num_inference_steps=6,
    guidance_scale=5.0,
    strength=1.0,
    seed=11,
    scheduler="dpmpp_2m_karras",
    negative_prompt="night",
)


def through_ours(server: str) -> Image.Image:
    body = {"prompt": PROMPT, "image": base64_of(SCENE.image), "mask": base64_of(SCENE.mask), **OPTIONS}
    return opened(httpx.post(f"{server}/v1/inpaint", json=body, timeout=60).content)


def through_openai(server: str) -> Image.Image:
    hole = SCENE.image.copy()
    hole.putalpha(ImageOps.invert(SCENE.mask))
    extra = {
        "steps": 6,
        "guidance_scale": 5,
        "strength": 1,
        "seed": 11,
        "scheduler": "dpmpp_2m_karras",
        "negative_prompt": "night",
    }
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        answer = client.images.edit(
            image=png_of(SCENE.image), mask=png_of(hole), prompt=PROMPT, extra_body=extra
        )
    assert answer.data is not None
    return opened(base64.b64decode(answer.data[0].b64_json or ""))


def through_webui(server: str) -> Image.Image:
    body = {
        "init_images": [base64_of(SCENE.image)],
        "mask": base64_of(SCENE.mask),
        "prompt": PROMPT,
        "negative_prompt": "night",
        "steps": 6,
        "cfg_scale": 5,
        "denoising_strength": 1,
        "seed": 11,
        "sampler_name": "DPM++ 2M",
        "scheduler": "Karras",
        "mask_blur": 0,
        "inpainting_fill": 1,
        "inpaint_full_res": False,
    }
    answer = httpx.post(f"{server}/sdapi/v1/img2img", json=body, timeout=60)
    return opened(base64.b64decode(answer.json()["images"][0]))


@pytest.fixture(scope="module")
def expected(demo: LoadedBundle) -> Image.Image:
    (image,) = InpaintPipeline(demo)(PROMPT, SCENE.image, SCENE.mask, **OPTIONS).images
    assert isinstance(image, Image.Image)
    return image


def test_every_interface_gives_the_pipelines_image(server: str, expected: Image.Image) -> None:
    ways: list[Callable[[str], Image.Image]] = [through_ours, through_openai, through_webui]
    with ThreadPoolExecutor(len(ways)) as pool:
        images = list(pool.map(lambda way: way(server), ways))
    assert largest_difference(expected, SCENE.image) > 20
    for image in images:
        assert largest_difference(image, expected) <= 1
