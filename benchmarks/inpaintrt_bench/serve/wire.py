"""How a request is written for each of the server's interfaces, and where the picture is in the answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
from PIL import Image

from inpaintrt_bench.serve.tasks import Task

__all__ = ["Call", "make_call"]

_GUIDANCE = 7.5
# The WebUI's names of the samplers that mixtures are made of.
_WEBUI_NAMES = {"ddim": "DDIM", "euler": "Euler", "dpmpp_2m": "DPM++ 2M", "unipc": "UniPC"}


@dataclass(frozen=True)
class Call:
    """A request that is ready to be sent, again and again.

    Attributes:
        path: Where to.
        headers: Headers that belong to the body.
        body: The whole body.
        api: The interface that it is written for, as `make_call` knows it.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    api: str

    def read_picture(self, content: bytes) -> bytes:
        """The PNG in the body of an answer."""
        if self.api == "inpaint":
            return content
        answer = msgspec.json.decode(content)
        encoded = answer["data"][0]["b64_json"] if self.api == "openai" else answer["images"][0]
        return base64.b64decode(encoded)


def make_call(task: Task, api: str) -> Call:
    """Write a task for an interface: "inpaint", "openai" or "webui"."""
    path, parts = _WRITERS[api](task)
    request = httpx.Request("POST", f"http://server{path}", **parts)
    headers = {"content-type": request.headers["content-type"]}
    if api == "inpaint":
        headers["accept"] = "image/png"
    return Call(path, headers, request.read(), api)


def _as_inpaint(task: Task) -> tuple[str, dict[str, Any]]:
    fields = {
        "prompt": task.prompt,
        "num_inference_steps": task.steps,
        "guidance_scale": _GUIDANCE,
        "scheduler": task.sampler,
        "seed": task.seed,
    }
    if task.run_size is not None:
        fields |= dict(zip(("width", "height"), task.run_size, strict=True))
    files = {"image": ("image.png", task.image, "image/png"), "mask": ("mask.png", task.mask, "image/png")}
    return "/v1/inpaint", {"data": fields, "files": files}


def _as_openai(task: Task) -> tuple[str, dict[str, Any]]:
    fields = {
        "prompt": task.prompt,
        "response_format": "b64_json",
        "steps": task.steps,
        "guidance_scale": _GUIDANCE,
        "scheduler": task.sampler,
        "seed": task.seed,
    }
    files = {
        "image": ("image.png", task.image, "image/png"),
        "mask": ("mask.png", _clear_where_white(task.mask), "image/png"),
    }
    return "/v1/images/edits", {"data": fields, "files": files}


def _clear_where_white(mask: bytes) -> bytes:
    """The mask as OpenAI has it: transparent where to paint."""
    grey = Image.open(io.BytesIO(mask)).convert("L")
    picture = Image.new("RGBA", grey.size)
    picture.putalpha(grey.point(lambda value: 255 - value))
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def _as_webui(task: Task) -> tuple[str, dict[str, Any]]:
    width, height = task.size
    fields = {
        "prompt": task.prompt,
        "init_images": [base64.b64encode(task.image).decode()],
        "mask": base64.b64encode(task.mask).decode(),
        "mask_blur": 0,
        "inpainting_fill": 1,
        "inpaint_full_res": False,
        "denoising_strength": 1.0,
        "steps": task.steps,
        "cfg_scale": _GUIDANCE,
        "sampler_name": _WEBUI_NAMES[task.sampler],
        "seed": task.seed,
        "width": width,
        "height": height,
    }
    return "/sdapi/v1/img2img", {"json": fields}


_WRITERS: Mapping[str, Callable[[Task], tuple[str, dict[str, Any]]]] = {
    "inpaint": _as_inpaint,
    "openai": _as_openai,
    "webui": _as_webui,
}
