"""What a large picture costs, against the area of its mask."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from inpaintrt.errors import ParameterError
from inpaintrt.output import Timings
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt.request import make_request
from inpaintrt_bench.memory import peak_bytes, resident_bytes
from inpaintrt_bench.schema import Memory, Row
from inpaintrt_bench.statistics import make_series

__all__ = ["draw_mask", "draw_picture", "measure_mask"]

# The schema's name of each field of `Timings`; tokenising is in the time of the text encoder.
_STAGES = {
    "prepare": "prepare",
    "text_encode": "prompts",
    "image_encode": "image_encode",
    "denoise": "denoise",
    "image_decode": "image_decode",
    "paste": "paste",
}

_COARSE = (6, 8)
_LARGEST_SHARE = math.pi / 4
_PROMPT = "a red balloon"


def draw_picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Draw a smooth colourful picture, mode "RGB".

    Args:
        size: Width and height in pixels.
        seed: Of the colours.
    """
    colours = np.random.default_rng(seed).integers(0, 256, (*_COARSE, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def draw_mask(size: tuple[int, int], share: float) -> Image.Image:
    """Draw an ellipse of the picture's proportions in its middle, mode "L", white in black.

    Args:
        size: Width and height in pixels.
        share: Of the picture that is white, above 0 and at most pi / 4, an ellipse that touches the edges.

    Raises:
        ParameterError: The share is out of its range.
    """
    if not 0 < share <= _LARGEST_SHARE:
        raise ParameterError(
            "no ellipse has this share of a picture",
            received=share,
            expected=f"a number above 0, at most {_LARGEST_SHARE:.3f}",
        )
    mask = Image.new("L", size, 0)
    scale = math.sqrt(share / _LARGEST_SHARE)
    (left, right), (top, bottom) = (
        ((side - side * scale) / 2, (side + side * scale) / 2 - 1) for side in size
    )
    ImageDraw.Draw(mask).ellipse((left, top, right, bottom), fill=255)
    return mask


def measure_mask(bundle: str, size: tuple[int, int], share: float, *, steps: int, repeats: int) -> Row:
    """Paint the same large picture several times, after one warm-up.

    The memory is that of this process: call it in a process of its own.

    Args:
        bundle: A name in the engine store, or a path.
        size: Width and height of the picture.
        share: Of the picture that the mask covers, above 0 and at most pi / 4.
        steps: Of the sampler.
        repeats: Counted runs.

    Returns:
        A row whose `values` are `box_share`, the part of the picture that runs (the mask and its
        surroundings), `run_width` and `run_height`, what the networks see of it, and `bytes_before`, the
        resident memory before the first request, picture and bundle included.

    Raises:
        ParameterError: The share is out of its range.
        BundleError: There is no such bundle, or it is damaged.
    """
    picture, mask = draw_picture(size), draw_mask(size, share)
    with InpaintPipeline.from_bundle(bundle) as pipe:
        before = resident_bytes()
        box, run = _region(pipe, picture, mask)
        runs = [_timings(pipe, picture, mask, steps) for _ in range(1 + repeats)][1:]
    return Row(
        name=f"{share * 100:g} %",
        case={"share": share},
        values={
            "box_share": box[0] * box[1] / (size[0] * size[1]),
            "run_width": run[0],
            "run_height": run[1],
            "bytes_before": before,
        },
        series={"total": make_series([timings.total for timings in runs], warm_up=1)},
        stages={
            stage: make_series([getattr(timings, field) for timings in runs], warm_up=1)
            for stage, field in _STAGES.items()
        },
        memory=Memory(peak_resident=peak_bytes()),
    )


def _region(
    pipe: InpaintPipeline, picture: Image.Image, mask: Image.Image
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of the part that runs, and of the run."""
    (prepared,) = pipe.stages.prepare(make_request(_PROMPT, picture, mask, {}))
    height, width = prepared.image.shape[2:]
    return picture.size if prepared.box is None else prepared.box.size, (width, height)


def _timings(pipe: InpaintPipeline, picture: Image.Image, mask: Image.Image, steps: int) -> Timings:
    return pipe(_PROMPT, picture, mask, num_inference_steps=steps, seed=0).timings
