"""The first latents of image-to-image are those of diffusers' StableDiffusionImg2ImgPipeline."""

from __future__ import annotations

from functools import cache

import diffusers
import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

from inpaintrt.samplers import compile_table
from runtime.samplers.configurations import (
    FAMILIES,
    SIGMA_SCHEDULES,
    SPACINGS,
    VELOCITY,
    configuration,
    label,
)
from runtime.samplers.reference import (
    IMAGE,
    SHAPE,
    FloatArray,
    diffusers_scheduler,
    relative_error,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning:diffusers.schedulers",
    "ignore:__array_wrap__ must accept context and return_scalar:DeprecationWarning",
)


@cache
def pipeline() -> diffusers.StableDiffusionImg2ImgPipeline:
    """diffusers' pipeline with a VAE, which is not called, and some scheduler."""
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    parts = dict.fromkeys(
        ("text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor", "image_encoder")
    )
    return diffusers.StableDiffusionImg2ImgPipeline(
        vae=vae,
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        requires_safety_checker=False,
        **parts,
    )


def first_latents(config: dict[str, object], steps: int, strength: float) -> tuple[FloatArray, FloatArray]:
    """What the UNet of diffusers sees first, and the noise in it."""
    pipe = pipeline()
    pipe.scheduler = diffusers_scheduler(config)
    pipe.scheduler.set_timesteps(steps)
    timesteps, _ = pipe.get_timesteps(steps, strength, "cpu")
    image = torch.from_numpy(IMAGE)
    latents = pipe.prepare_latents(
        image, timesteps[:1], 1, 1, torch.float64, "cpu", torch.Generator().manual_seed(5)
    )
    noise = randn_tensor(SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return pipe.scheduler.scale_model_input(latents, timesteps[0]).numpy(), noise.numpy()


@pytest.mark.parametrize("class_name", FAMILIES)
@pytest.mark.parametrize("strength", [1.0, 0.8, 0.2])
def test_the_image_is_in_the_first_latents_at_every_strength(class_name: str, strength: float) -> None:
    _, spacings, sigma_schedules, _ = FAMILIES[class_name]
    for spacing in spacings:
        for sigma_schedule in sigma_schedules:
            config = configuration(class_name, spacing, sigma_schedule, VELOCITY, {"steps_offset": 1})
            expected, noise = first_latents(config, 10, strength)
            init = compile_table(config, None, 10, strength=strength, from_image=True).init
            received = init.signal * IMAGE + init.noise * noise
            assert relative_error(received, expected) < 1e-5, label(config)
            assert init.signal > 0.0


@pytest.mark.parametrize("class_name", FAMILIES)
def test_only_full_strength_differs_from_inpainting(class_name: str) -> None:
    config = configuration(
        class_name, SPACINGS[0] if len(FAMILIES[class_name][1]) > 1 else SIGMA_SCHEDULES[0]
    )
    assert compile_table(config, None, 5).init.signal == 0.0
    image_to_image = compile_table(config, None, 5, from_image=True)
    np.testing.assert_array_equal(image_to_image.update, compile_table(config, None, 5).update)
    below = compile_table(config, None, 5, strength=0.6)
    assert compile_table(config, None, 5, strength=0.6, from_image=True).init == below.init
