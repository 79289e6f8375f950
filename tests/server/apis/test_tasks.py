"""Every task through every interface, of checkpoints for inpainting and others: the pipeline's image."""

import base64
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import httpx
import openai
import pytest
from PIL import Image, ImageOps

from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import Task
from inpaintrt_server.application import make_application
from inpaintrt_server.batching.service import BatchingService, BatchingSettings
from inpaintrt_server.settings import ServerSettings
from runtime.image_tools import largest_difference
from server.conftest import serving, wait_until
from server.uploads import SCENE, base64_of, opened, png_of

PROMPT = SCENE.script.prompts[1]
OPTIONS: Mapping[str, Any] = MappingProxyType({"num_inference_steps": 6, "guidance_scale": 5.0, "seed": 11})
TASKS: tuple[Task, ...] = ("inpainting", "image-to-image", "text-to-image")
STRENGTH = 0.9


@pytest.fixture(scope="module", params=["9 channels", "4 channels"])
def loaded(request: pytest.FixtureRequest, demo: LoadedBundle) -> LoadedBundle:
    """A bundle with a UNet of so many channels."""
    if request.param == "9 channels":
        return demo
    bundle = request.getfixturevalue("tiny_text_to_image_bundle")
    return load_bundle(bundle, backend_options={"threads": 1})


@pytest.fixture(scope="module")
def address(loaded: LoadedBundle) -> Iterator[str]:
    """The address of a server of `loaded` that edits images without a mask."""
    with BatchingService(loaded, BatchingSettings(slots=4, queue=16)) as service:
        wait_until(lambda: service.snapshot.ready)
        with serving(make_application(service, ServerSettings(edits_without_mask=True))) as address:
            yield address


@pytest.fixture(scope="module")
def pipeline(loaded: LoadedBundle) -> InpaintPipeline:
    return InpaintPipeline(loaded)


@pytest.fixture(scope="module")
def images(loaded: LoadedBundle) -> tuple[Image.Image, Image.Image]:
    """An image and its mask, of the checkpoint's size."""
    height, width = loaded.manifest.architecture.native_resolution
    return SCENE.image.resize((width, height)), SCENE.mask.resize((width, height))


Sources = Mapping[str, Image.Image]


def sources_of(task: Task, images: tuple[Image.Image, Image.Image]) -> Sources:
    image, mask = images
    given: dict[Task, dict[str, Image.Image]] = {
        "inpainting": {"image": image, "mask": mask},
        "image-to-image": {"image": image},
        "text-to-image": {},
    }
    return given[task]


def strength_of(sources: Sources, name: str = "strength") -> dict[str, float]:
    return {name: STRENGTH} if sources else {}


def through_json(address: str, sources: Sources) -> Image.Image:
    files = {name: base64_of(image) for name, image in sources.items()}
    body = {"prompt": PROMPT, **OPTIONS, **strength_of(sources), **files}
    return opened(httpx.post(f"{address}/v1/inpaint", json=body, timeout=60).raise_for_status().content)


def through_form(address: str, sources: Sources) -> Image.Image:
    fields = {"prompt": PROMPT, **OPTIONS, **strength_of(sources)}
    parts = {name: (None, str(value)) for name, value in fields.items()}
    files = {name: (f"{name}.png", png_of(image), "image/png") for name, image in sources.items()}
    answer = httpx.post(f"{address}/v1/inpaint", files={**parts, **files}, timeout=60)
    return opened(answer.raise_for_status().content)


def through_openai(address: str, sources: Sources) -> Image.Image:
    extra = {"steps": 6, "guidance_scale": 5, "seed": 11, **strength_of(sources)}
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        if not sources:
            answer = client.images.generate(prompt=PROMPT, extra_body=extra)
        else:
            answer = client.images.edit(image=_openai_image(sources), prompt=PROMPT, extra_body=extra)
    assert answer.data is not None
    return opened(base64.b64decode(answer.data[0].b64_json or ""))


def _openai_image(sources: Sources) -> bytes:
    image = sources["image"].copy()
    if "mask" in sources:
        image.putalpha(ImageOps.invert(sources["mask"]))
    return png_of(image)


def through_webui(address: str, sources: Sources) -> Image.Image:
    body: dict[str, Any] = {"prompt": PROMPT, "steps": 6, "cfg_scale": 5, "seed": 11}
    body |= {"sampler_name": "Euler a", **strength_of(sources, "denoising_strength")}
    if sources:
        body |= {"init_images": [base64_of(sources["image"])]}
    if "mask" in sources:
        of_mask = {"mask_blur": 0, "inpainting_fill": 1, "inpaint_full_res": False}
        body |= {"mask": base64_of(sources["mask"]), **of_mask}
    path = "img2img" if sources else "txt2img"
    answer = httpx.post(f"{address}/sdapi/v1/{path}", json=body, timeout=60).raise_for_status()
    return opened(base64.b64decode(answer.json()["images"][0]))


Way = Callable[[str, Sources], Image.Image]
WAYS: tuple[tuple[Way, str | None], ...] = (
    (through_json, None),
    (through_form, None),
    (through_openai, None),
    (through_webui, "euler_a"),
)
"""The interfaces, and the sampler that each asks for."""


def test_every_interface_gives_the_pipelines_image_of_every_task(
    address: str, pipeline: InpaintPipeline, images: tuple[Image.Image, Image.Image]
) -> None:
    cases = [(way, sampler, sources_of(task, images)) for way, sampler in WAYS for task in TASKS]
    with ThreadPoolExecutor(len(cases)) as pool:
        found = list(pool.map(lambda case: case[0](address, case[2]), cases))
    for image, (_, sampler, sources) in zip(found, cases, strict=True):
        expected = pipeline(
            PROMPT,
            sources.get("image"),
            sources.get("mask"),
            **strength_of(sources),  # type: ignore[arg-type]
            **OPTIONS,
            scheduler=sampler,
        ).images[0]
        assert largest_difference(image, expected) <= 1
        assert largest_difference(image, images[0]) > 1
