"""diffusers in the worker: its own image in float32, and float32's noise in half precision."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaintrt_bench.report.image_comparison import LIMITS, compare_images, why_wrong
from inpaintrt_bench.runners.sources import make_case
from inpaintrt_bench.workers.messages import Case, Source
from inpaintrt_bench.workers.torch_pipeline import float32_noise, make_runner

CASES = [("ddim", 1.0, 1), ("ddim", 0.6, 2), ("euler_a", 1.0, 2)]
# 72 x 72 pixels are 81 latent pixels in 4 channels, no multiple of 16.
SIDE = 72

# The worker also runs in environments with older versions of diffusers, which know `torch_dtype` only.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def case_of(folder: Path, sampler: str, strength: float, batch: int) -> Case:
    case = make_case(folder, width=SIDE, height=SIDE, steps=3, batch=batch, sampler=sampler)
    return replace(case, strength=strength)


def worker_images(checkpoint: Path, case: Case, dtype: str) -> NDArray[np.uint8]:
    runner = make_runner()
    options = {"device": "cpu", "dtype": dtype}
    runner.start(Source(checkpoint=str(checkpoint), bundle=None, threads=None, work="", options=options))
    return runner.run(case).images


def diffusers_images(checkpoint: Path, case: Case) -> NDArray[np.uint8]:
    """What diffusers paints when no worker is around it."""
    pipe = diffusers.StableDiffusionInpaintPipeline.from_pretrained(checkpoint, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    assert case.scheduler is not None
    name, changes = case.scheduler
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **changes)
    with Image.open(case.image) as image, Image.open(case.mask_image) as mask:
        output = pipe(
            case.prompt,
            image=image,
            mask_image=mask,
            height=case.height,
            width=case.width,
            num_inference_steps=case.num_inference_steps,
            guidance_scale=case.guidance_scale,
            strength=case.strength,
            num_images_per_prompt=case.batch,
            generator=torch.Generator("cpu").manual_seed(case.seed),
        )
    return np.stack([np.asarray(image) for image in output.images])


@pytest.mark.parametrize(("sampler", "strength", "batch"), CASES)
def test_in_float32_the_image_is_diffusers_own(
    tmp_path: Path, tiny_checkpoint: Path, sampler: str, strength: float, batch: int
) -> None:
    case = case_of(tmp_path, sampler, strength, batch)
    expected = diffusers_images(tiny_checkpoint, case)
    assert np.array_equal(worker_images(tiny_checkpoint, case, "float32"), expected)


@pytest.mark.parametrize(("sampler", "strength", "batch"), CASES)
def test_in_half_precision_the_image_does_not_depend_on_pytorchs_half_noise(
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    strength: float,
    batch: int,
) -> None:
    case = case_of(tmp_path, sampler, strength, batch)
    draw = torch.randn

    def other_half_noise(*size: Any, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:
        noise = draw(*size, dtype=dtype, **options)
        return -noise if dtype == torch.float16 else noise

    ours = worker_images(tiny_checkpoint, case, "float16")
    monkeypatch.setattr(torch, "randn", other_half_noise)
    assert np.array_equal(worker_images(tiny_checkpoint, case, "float16"), ours)
    reference = worker_images(tiny_checkpoint, case, "float32")
    assert why_wrong(compare_images(ours, reference, "float32", LIMITS["float16"])) is None


@pytest.mark.parametrize("count", [1000, 1024])
def test_half_noise_is_float32s_rounded_whatever_the_size(count: int) -> None:
    def generator() -> torch.Generator:
        return torch.Generator("cpu").manual_seed(3)

    before = torch.randn
    with float32_noise():
        half = torch.randn(count, generator=generator(), dtype=torch.float16)
    assert torch.randn is before
    assert torch.equal(half, torch.randn(count, generator=generator()).half())
