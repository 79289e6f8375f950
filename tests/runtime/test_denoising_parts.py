"""A schedule is run in parts, one run after the other, as diffusers' base and refiner do."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bundles import make_tiny_bundle, make_tiny_checkpoint
from inpaintrt import InpaintPipeline
from inpaintrt.errors import LatentsError, ParameterError
from runtime.image_tools import disc_mask, gradient, largest_difference

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE, MASK = gradient(SIDE, SIDE), disc_mask(SIDE, SIDE)
SIZE = {"height": SIDE, "width": SIDE}
STEPS, SHARE = 8, 0.6
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


class Pipelines:
    """Diffusers' three pipelines of one SDXL checkpoint."""

    def __init__(self, checkpoint: Path) -> None:
        kinds = ("", "Img2Img", "Inpaint")
        base: Any = diffusers.StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False)
        self.config = base.scheduler.config
        self.pipes: dict[str, Any] = {}
        for kind in kinds:
            make: Any = getattr(diffusers, f"StableDiffusionXL{kind}Pipeline")
            self.pipes[kind] = make(**base.components, add_watermarker=False)
            self.pipes[kind].set_progress_bar_config(disable=True)

    def __call__(self, kind: str, sampler: str, **options: Any) -> Any:
        """The images or latents."""
        name, changes = SAMPLERS[sampler]
        pipe = self.pipes[kind]
        pipe.scheduler = getattr(diffusers, name).from_config(self.config, **changes)
        generator = torch.Generator().manual_seed(3)
        return pipe(PROMPT, num_inference_steps=STEPS, generator=generator, **options).images


@pytest.fixture(scope="module")
def theirs(bundle_cache: Path) -> Pipelines:
    return Pipelines(make_tiny_checkpoint(bundle_cache, "tiny-sdxl"))


@pytest.fixture(scope="module")
def pipe(bundle_cache: Path) -> InpaintPipeline:
    return InpaintPipeline.from_bundle(make_tiny_bundle(bundle_cache, name="tiny-sdxl"))


def _ours(pipe: InpaintPipeline, sampler: str, **options: Any) -> Any:
    given: dict[str, Any] = {"num_inference_steps": STEPS, "seed": 3, "scheduler": sampler, **options}
    return pipe(PROMPT, compat="diffusers", **given).images


def _latents_of(pipe: InpaintPipeline, **options: Any) -> NDArray[np.float32]:
    latents: NDArray[np.float32] = _ours(pipe, "euler", output_type="latent", **options)
    return latents


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_base_and_refiner_share_a_schedule(pipe: InpaintPipeline, theirs: Pipelines, sampler: str) -> None:
    # With more guidance, KDPM2 makes rounding errors so large that diffusers' own latents differ between
    # one thread and two by more than what is allowed here.
    part = {"denoising_end": SHARE, "output_type": "latent", "guidance_scale": 1.0, **SIZE}
    found = _ours(pipe, sampler, **part)
    latents = theirs("", sampler, **part)
    assert np.abs(found - latents.numpy()).max() < 1e-3 * latents.std()
    refined = _ours(pipe, sampler, denoising_start=SHARE, image_latents=latents)
    expected = theirs("Img2Img", sampler, denoising_start=SHARE, image=latents)
    assert largest_difference(refined[0], expected[0]) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_inpainting_stops_early_and_goes_on(pipe: InpaintPipeline, theirs: Pipelines, sampler: str) -> None:
    task = {"mask_image": MASK, "strength": 0.99, "output_type": "latent", "guidance_scale": 1.0, **SIZE}
    found = _ours(pipe, sampler, image=IMAGE, denoising_end=SHARE, **task)
    latents = theirs("Inpaint", sampler, image=IMAGE, denoising_end=SHARE, **task)
    assert np.abs(found - latents.numpy()).max() < 1e-3 * latents.std()
    refined = _ours(pipe, sampler, denoising_start=SHARE, image_latents=latents, mask_image=MASK)
    expected = theirs("Inpaint", sampler, denoising_start=SHARE, image=latents, mask_image=MASK, **SIZE)
    assert largest_difference(refined[0], expected[0]) <= 1


@pytest.mark.parametrize("sampler", ["euler", "euler_a", "ddim", "heun"])
def test_an_image_is_taken_for_noisy_latents(pipe: InpaintPipeline, theirs: Pipelines, sampler: str) -> None:
    for kind, task in {"Img2Img": {}, "Inpaint": {"mask_image": MASK, **SIZE}}.items():
        found = _ours(pipe, sampler, image=IMAGE, denoising_start=SHARE, **task)
        expected = theirs(kind, sampler, image=IMAGE, denoising_start=SHARE, **task)
        assert largest_difference(found[0], expected[0]) <= 1


def test_both_parts_give_the_image_of_the_whole(pipe: InpaintPipeline) -> None:
    whole = _ours(pipe, "euler", **SIZE)
    first = _latents_of(pipe, denoising_end=SHARE, **SIZE)
    assert (
        largest_difference(_ours(pipe, "euler", denoising_start=SHARE, image_latents=first)[0], whole[0]) <= 1
    )


def test_image_latents_take_the_place_of_an_image(pipe: InpaintPipeline) -> None:
    latents = _latents_of(pipe, **SIZE)
    repainted = _latents_of(pipe, image_latents=latents, mask_image=MASK, strength=0.7)
    change = np.abs(repainted - latents).max(axis=(0, 1))
    kept = np.asarray(MASK.convert("L"))[::8, ::8] < 128
    assert change[kept].max() < 1e-4
    assert change[~kept].min() > 1e-2


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"denoising_start": 0.5}, "denoising_start"),
        ({"denoising_start": 0.7, "denoising_end": 0.6, "image": IMAGE}, "denoising_start"),
        ({"denoising_start": 0.999, "image": IMAGE}, "denoising_start"),
        ({"denoising_end": 0.001}, "denoising_end"),
        ({"denoising_end": 1.0}, "denoising_end"),
        ({"denoising_end": 0.0}, "denoising_end"),
        ({"denoising_end": 0.5, "scheduler": "ddim:4+euler:4"}, "denoising_end"),
        ({"denoising_start": 0.5, "scheduler": "ddim:4+euler:4", "image": IMAGE}, "denoising_start"),
        ({"denoising_start": 0.5, "image": IMAGE, "latents": np.zeros((1, 4, 8, 8))}, "denoising_start"),
        ({"image_latents": np.zeros((1, 4, 8, 8)), "image": IMAGE}, "image_latents"),
        ({"image_latents": np.zeros((1, 4, 8, 8)), "height": 64}, "height"),
        (
            {"image_latents": np.zeros((1, 4, 8, 8)), "mask_image": MASK, "padding_mask_crop": 3},
            "padding_mask_crop",
        ),
    ],
)
def test_parts_that_cannot_run_are_refused(
    pipe: InpaintPipeline, options: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(ParameterError) as refused:
        _ours(pipe, options.pop("scheduler", "euler"), **options)
    assert refused.value.parameter == parameter


@pytest.mark.parametrize("shape", [(4, 8, 8), (1, 3, 8, 8), (1, 4, 0, 8)])
def test_image_latents_of_another_shape_are_refused(pipe: InpaintPipeline, shape: tuple[int, ...]) -> None:
    with pytest.raises(LatentsError, match="image_latents"):
        _ours(pipe, "euler", image_latents=np.zeros(shape, np.float32))


def test_an_inpainting_unet_needs_the_image_itself(tiny_bundle: Path) -> None:
    with (
        InpaintPipeline.from_bundle(tiny_bundle) as inpainting,
        pytest.raises(LatentsError, match="sees the masked image itself"),
    ):
        inpainting(PROMPT, image_latents=np.zeros((1, 4, 8, 8), np.float32), mask_image=MASK)
