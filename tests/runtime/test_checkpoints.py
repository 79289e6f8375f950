"""Checkpoints that differ from Stable Diffusion 1.5 in a part do what diffusers' pipelines do with them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from bundles import make_tiny_bundle, make_tiny_checkpoint
from inpaintrt import InpaintPipeline
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import Reference, compare

# diffusers hands PyTorch tensors to NumPy in its schedulers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE = gradient(SIDE, SIDE)
INPAINTING: dict[str, Any] = {"image": IMAGE, "mask_image": disc_mask(SIDE, SIDE)}
TASKS: dict[str, dict[str, Any]] = {
    "inpainting": INPAINTING,
    "inpainting, strength 0.6": {**INPAINTING, "strength": 0.6},
    "image-to-image": {"image": IMAGE},
    "text-to-image": {},
}


Pair = tuple[InpaintPipeline, Reference]


@pytest.fixture(scope="module")
def sd2(bundle_cache: Path) -> Iterator[Pair]:
    """In the runtime and in diffusers: v-prediction, the projections of SD 2.x, and a VAE of factor 4."""
    with InpaintPipeline.from_bundle(make_tiny_bundle(bundle_cache, name="tiny-sd2")) as pipe:
        assert pipe.manifest.architecture.vae_scale_factor == 4
        assert pipe.manifest.architecture.prediction_type == "v_prediction"
        yield pipe, Reference(make_tiny_checkpoint(bundle_cache, "tiny-sd2"))


@pytest.mark.parametrize("task", TASKS)
def test_images_equal_diffusers_with_v_prediction_and_another_vae_factor(sd2: Pair, task: str) -> None:
    ours, theirs = sd2
    case: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": 4, "seed": 3, **TASKS[task]}
    compare(ours(**case, compat="diffusers").images, theirs(**case))


def _grey_mask() -> NDArray[np.uint8]:
    """Bands from black to white, each two latent pixels wide."""
    return np.repeat(np.array([0, 60, 180, 255], np.uint8), SIDE // 4)[None].repeat(SIDE, axis=0)


def _differential(theirs: Reference, scheduler: Any, seed: int) -> Callable[..., dict[str, torch.Tensor]]:
    """A callback of diffusers' inpainting that keeps, after every step, what the mask does not yet free."""
    generator = torch.Generator().manual_seed(seed)
    vae = theirs.pipe.vae
    pixels = theirs.pipe.image_processor.preprocess(IMAGE)
    with torch.no_grad():
        image = vae.encode(pixels).latent_dist.sample(generator) * vae.config.scaling_factor
    noise = torch.randn(image.shape, generator=generator)
    mask = torch.nn.functional.avg_pool2d(torch.from_numpy(_grey_mask())[None, None] / 255, 8)

    def keep(
        pipe: Any, step: int, timestep: Any, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        count = pipe.num_timesteps
        later = scheduler.timesteps[len(scheduler.timesteps) - count :][step + 1 :]
        known = scheduler.add_noise(image, noise, later[:1]) if len(later) else image
        free = mask >= (count - 1 - step) / count
        return {"latents": torch.where(free, tensors["latents"], known)}

    return keep


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_a_soft_mask_is_differential_diffusion_with_an_inpainting_checkpoint_too(
    tiny_bundle: Path, tiny_checkpoint: Path, name: str
) -> None:
    theirs = Reference(tiny_checkpoint)
    kind = {"ddim": diffusers.DDIMScheduler, "euler": diffusers.EulerDiscreteScheduler}[name]
    scheduler = kind.from_config(
        theirs.scheduler.config, **({"clip_sample": False} if name == "ddim" else {})
    )
    case: dict[str, Any] = {"prompt": PROMPT, "image": IMAGE, "mask_image": Image.fromarray(_grey_mask())}
    case |= {"num_inference_steps": 10, "strength": 0.7, "seed": 5}
    with InpaintPipeline.from_bundle(tiny_bundle) as pipe:
        soft, hard = (
            pipe(**case, scheduler=name, compat="diffusers", mask_mode=mode).images
            for mode in ("soft", "hard")
        )
    compare(
        soft, theirs(**case, scheduler=scheduler, callback_on_step_end=_differential(theirs, scheduler, 5))
    )
    assert largest_difference(soft[0], hard[0]) > 10
