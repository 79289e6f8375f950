"""Timesteps and sigmas that a caller gives have the effect that they have in diffusers' three pipelines."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest

from inpaintrt import InpaintPipeline
from inpaintrt.errors import ParameterError
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import Reference

# diffusers hands PyTorch tensors to NumPy in its schedulers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

PROMPT = "a red balloon over the hills"
SIDE = 64
IMAGE = gradient(SIDE, SIDE)
SIZE: dict[str, Any] = {"height": SIDE, "width": SIDE}
INPAINTING: dict[str, Any] = {"image": IMAGE, "mask_image": disc_mask(SIDE, SIDE), **SIZE}
TASKS: dict[str, dict[str, Any]] = {
    "inpainting": INPAINTING,
    "inpainting, strength 0.6": {**INPAINTING, "strength": 0.6},
    "image-to-image": {"image": IMAGE},
    "image-to-image, strength 0.6": {"image": IMAGE, "strength": 0.6},
    "text-to-image": SIZE,
}
TIMESTEPS = [981, 800, 500, 300, 120, 20]
SIGMAS = [12.5, 7.0, 3.1, 1.5, 0.6, 0.2, 0.0]
SAMPLERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {"clip_sample": False}, {"timesteps": TIMESTEPS}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}, {"timesteps": TIMESTEPS}),
    "dpmpp_2m_sde": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++"},
        {"timesteps": TIMESTEPS},
    ),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}, {"timesteps": TIMESTEPS}),
    "euler": ("EulerDiscreteScheduler", {}, {"timesteps": [*TIMESTEPS[:-1], 19.5]}),
    "euler_karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, {"sigmas": SIGMAS}),
    "heun": ("HeunDiscreteScheduler", {}, {"timesteps": TIMESTEPS}),
    "lcm": ("LCMScheduler", {}, {"timesteps": TIMESTEPS}),
    "tcd": ("TCDScheduler", {}, {"timesteps": TIMESTEPS}),
}


def _compare(
    pipe: InpaintPipeline, reference: Reference, name: str, task: dict[str, Any], **more: Any
) -> None:
    scheduler, changes, given = SAMPLERS[name]
    case: dict[str, Any] = {"prompt": PROMPT, "seed": 4, **task, **given, **more}
    theirs = getattr(diffusers, scheduler).from_config(reference.scheduler.config, **changes)
    (expected,) = reference(**case, scheduler=theirs)
    (found,) = pipe(**case, scheduler=name, compat="diffusers").images
    assert np.asarray(expected).std() > 10, "the reference is a blank image, which proves nothing"
    assert largest_difference(found, expected) <= 1


@pytest.fixture(scope="module")
def ours(tiny_text_to_image_bundle: Path) -> InpaintPipeline:
    return InpaintPipeline.from_bundle(tiny_text_to_image_bundle)


@pytest.fixture(scope="module")
def theirs(tiny_text_to_image_checkpoint: Path) -> Reference:
    return Reference(tiny_text_to_image_checkpoint)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_images_equal_diffusers(ours: InpaintPipeline, theirs: Reference, name: str, task: str) -> None:
    _compare(ours, theirs, name, TASKS[task])


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("name", SAMPLERS)
def test_images_of_an_inpainting_checkpoint_equal_diffusers(
    tiny_bundle: Path, tiny_checkpoint: Path, name: str, strength: float
) -> None:
    with InpaintPipeline.from_bundle(tiny_bundle) as pipe:
        _compare(pipe, Reference(tiny_checkpoint), name, INPAINTING, strength=strength)


def test_num_inference_steps_does_not_count_then(ours: InpaintPipeline, theirs: Reference) -> None:
    _compare(ours, theirs, "dpmpp_2m", INPAINTING, num_inference_steps=3)
    sigmas: Any = np.array(SIGMAS)
    steps = [*ours.stream(PROMPT, scheduler="euler", sigmas=sigmas, num_inference_steps=3, **SIZE)]
    assert len(steps) == len(SIGMAS) - 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheduler": "ddim", "timesteps": TIMESTEPS}, "DDIMScheduler takes no timesteps"),
        ({"scheduler": "dpmpp_2m", "sigmas": SIGMAS}, "DPMSolverMultistepScheduler takes no sigmas"),
        ({"scheduler": "euler", "timesteps": TIMESTEPS, "sigmas": SIGMAS}, "both given"),
        ({"scheduler": "euler:3+heun:3", "timesteps": TIMESTEPS}, "hybrid of samplers takes no timesteps"),
        ({"scheduler": "lcm", "timesteps": [500, 900]}, "each smaller than the one before"),
        ({"scheduler": "euler", "sigmas": [1.0, 2.0]}, "none larger than the one before"),
        ({"scheduler": "euler", "timesteps": [1000.0]}, "from 0 to 999"),
    ],
)
def test_what_the_sampler_cannot_run_is_refused(
    ours: InpaintPipeline, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        ours(PROMPT, **options)
    assert caught.value.parameter in ("timesteps", "sigmas")
