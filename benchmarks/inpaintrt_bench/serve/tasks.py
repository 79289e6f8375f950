"""What clients ask for: a mixture of requests of different length and size, the same in every run."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from inpaintrt.demo import load_scene

__all__ = ["Task", "make_mixture"]

_COLOURS = ("red", "blue", "green", "yellow", "purple")
_THINGS = ("balloon", "boat", "house")


@dataclass(frozen=True)
class Task:
    """One request, in words that every interface can be told.

    Attributes:
        prompt: What to paint.
        image: A PNG file.
        mask: A PNG file of the same size, white where to paint.
        steps: Steps of the sampler.
        sampler: The sampler, by our name.
        seed: The seed.
        size: Width and height of the picture.
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
    """Requests around the demo's picture.

    Args:
        count: How many.
        steps: The fewest and the most steps; each number between is equally likely.
        sizes: Width and height of the pictures; one that is named twice is twice as likely.
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
                prompt=f"a {random_source.choice(_COLOURS)} {random_source.choice(_THINGS)}",
                image=_as_png(_cut(scene.image, scene.mask, size)),
                mask=_as_png(_cut(scene.mask, scene.mask, size)),
                steps=random_source.randint(*steps),
                sampler=random_source.choice(samplers),
                seed=random_source.randrange(2**32),
                size=size,
            )
        )
    return tuple(tasks)


def _cut(picture: Image.Image, mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The part of that size around the mask's centre; a larger size is the whole picture, enlarged."""
    box = mask.getbbox()
    if box is None or size[0] > picture.width or size[1] > picture.height:
        return picture.resize(size, Image.Resampling.BICUBIC)
    left = min(max((box[0] + box[2] - size[0]) // 2, 0), picture.width - size[0])
    top = min(max((box[1] + box[3] - size[1]) // 2, 0), picture.height - size[1])
    return picture.crop((left, top, left + size[0], top + size[1]))


def _as_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()
