"""What clients ask for: a mixture of requests, written for each of the server's interfaces."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
import httpx
import msgspec
from PIL import Image

from inpaintrt.backends import DEFAULT_BACKEND
from inpaintrt.demo import load_scene
from inpaintrt_bench.load.server import ServerSetup

__all__ = ["Call", "Load", "Task", "load_options", "make_call", "make_mixture"]

_COLORS = ("red", "blue", "green", "yellow", "purple")
_THINGS = ("balloon", "boat", "house")
_GUIDANCE = 7.5
# The WebUI's names of the samplers that mixtures are made of.
_WEBUI_NAMES = {"ddim": "DDIM", "euler": "Euler", "dpmpp_2m": "DPM++ 2M", "unipc": "UniPC"}
_SAMPLERS = ("ddim", "euler", "dpmpp_2m", "unipc")
_OPTIONS = (
    click.option(
        "--api",
        "apis",
        type=click.Choice(["inpaint", "openai", "webui"]),
        multiple=True,
        default=("inpaint",),
        show_default=True,
        help="Interface to ask; may be repeated.",
    ),
    click.option(
        "--size",
        "sizes",
        multiple=True,
        default=("128x128", "128x128", "128x128", "96x128"),
        show_default=True,
        help="Of an image; may be repeated, and one that is named twice is twice as likely.",
    ),
    click.option("--fewest-steps", type=click.IntRange(1), default=10, show_default=True),
    click.option("--most-steps", type=click.IntRange(1), default=50, show_default=True),
    click.option(
        "--tasks", "count", type=click.IntRange(1), default=32, show_default=True, help="Different requests."
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of arrivals and requests."),
    click.option(
        "--backend", default=DEFAULT_BACKEND, show_default=True, help="What the server's engines run on."
    ),
    click.option("--backend-options", help="What the backend lets its users set, such as threads=2."),
    click.option(
        "--server-option",
        "server_options",
        multiple=True,
        metavar="WORD",
        help="A word for the server's command line, such as --server-option=--slots=4; may be repeated.",
    ),
)


@dataclass(frozen=True)
class Task:
    """One request, independent of the interface.

    Attributes:
        prompt: What to paint.
        image: A PNG file.
        mask: A PNG file of the same size, white where to paint.
        steps: Steps of the sampler.
        sampler: The sampler, by our name.
        seed: The seed.
        size: Width and height of the image.
        run_size: Width and height to run at; None for what the server chooses.
    """

    prompt: str
    image: bytes
    mask: bytes
    steps: int
    sampler: str
    seed: int
    size: tuple[int, int]
    run_size: tuple[int, int] | None = None


def make_mixture(
    count: int,
    *,
    steps: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    samplers: Sequence[str],
    seed: int,
) -> tuple[Task, ...]:
    """Requests around the demo's image.

    Args:
        count: How many.
        steps: The fewest and the most steps; each number between is equally likely.
        sizes: Width and height of the images; one that is named twice is twice as likely.
        samplers: Samplers to choose from.
        seed: What the choice depends on.
    """
    random_source = random.Random(seed)  # noqa: S311  (a load need not be secret)
    scene = load_scene()
    tasks = []
    for _ in range(count):
        size = random_source.choice(sizes)
        tasks.append(
            Task(
                prompt=f"a {random_source.choice(_COLORS)} {random_source.choice(_THINGS)}",
                image=_as_png(_cut(scene.image, scene.mask, size)),
                mask=_as_png(_cut(scene.mask, scene.mask, size)),
                steps=random_source.randint(*steps),
                sampler=random_source.choice(samplers),
                seed=random_source.randrange(2**32),
                size=size,
            )
        )
    return tuple(tasks)


def _cut(image: Image.Image, mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The part of that size around the mask's centre; a larger size is the whole image, enlarged."""
    box = mask.getbbox()
    if box is None or size[0] > image.width or size[1] > image.height:
        return image.resize(size, Image.Resampling.BICUBIC)
    left = min(max((box[0] + box[2] - size[0]) // 2, 0), image.width - size[0])
    top = min(max((box[1] + box[3] - size[1]) // 2, 0), image.height - size[1])
    return image.crop((left, top, left + size[0], top + size[1]))


def _as_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


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

    def read_image(self, content: bytes) -> bytes:
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
    image = Image.new("RGBA", grey.size)
    image.putalpha(grey.point(lambda value: 255 - value))
    file = io.BytesIO()
    image.save(file, "png")
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


@dataclass(frozen=True)
class Load:
    """What the server is asked for.

    Attributes:
        apis: Interfaces to ask.
        sizes: Of images, such as "128x96".
        fewest_steps: Of the sampler.
        most_steps: Of the sampler.
        count: How many different requests there are.
        seed: Of arrivals and requests.
        backend: What the server's engines run on.
        backend_options: What the backend lets its users set, such as "threads=2"; None for nothing.
        server_options: Further words for the server's command line.
    """

    apis: tuple[str, ...]
    sizes: tuple[str, ...]
    fewest_steps: int
    most_steps: int
    count: int
    seed: int
    backend: str
    backend_options: str | None
    server_options: tuple[str, ...]

    def setup(self, bundle: str) -> ServerSetup:
        """What is served, and on what.

        Raises:
            BadParameter: The backend is named among the server's options, where it would concern the server
                alone.
        """
        for word in self.server_options:
            if word.startswith("--backend"):
                raise click.BadParameter(
                    f"{word!r} would not concern the images that the server's are compared with: "
                    "name it as an option of this command",
                    param_hint="--server-option",
                )
        return ServerSetup(bundle, self.backend, self.backend_options, self.server_options)

    def tasks(self) -> tuple[Task, ...]:
        """The requests.

        Raises:
            BadParameter: A size looks different.
        """
        return make_mixture(
            self.count,
            steps=(self.fewest_steps, self.most_steps),
            sizes=[_parse_size(size) for size in self.sizes],
            samplers=_SAMPLERS,
            seed=self.seed,
        )


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise click.BadParameter(f"{text!r} is not a size such as 128x96", param_hint="--size")
    return int(width), int(height)


def load_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, whose function gets them as one argument, `load`."""

    @wraps(function)
    def with_load(**options: Any) -> None:  # noqa: ANN401  what click hands over
        load = Load(**{name: options.pop(name) for name in Load.__dataclass_fields__})
        function(load=load, **options)

    command: Callable[..., None] = with_load
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
