"""The reference: diffusers' pipelines, asked in the words of our own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from numpy.typing import NDArray
from PIL import Image

from runtime.image_tools import largest_difference

__all__ = ["SAMPLERS", "Reference", "compare", "generators"]

SAMPLERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ddim": ("ddim", "DDIMScheduler", {"clip_sample": False}),
    "ddim eta": ("ddim", "DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("ddpm", "DDPMScheduler", {"clip_sample": False}),
    "deis": ("deis", "DEISMultistepScheduler", {}),
    "dpmpp_2m_karras": ("dpmpp_2m_karras", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": (
        "dpmpp_2m_sde",
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++"},
    ),
    "dpmpp_2s": ("dpmpp_2s", "DPMSolverSinglestepScheduler", {}),
    "euler": ("euler", "EulerDiscreteScheduler", {}),
    "euler_a": ("euler_a", "EulerAncestralDiscreteScheduler", {}),
    "heun": ("heun", "HeunDiscreteScheduler", {}),
    "kdpm2": ("kdpm2", "KDPM2DiscreteScheduler", {}),
    "kdpm2_a": ("kdpm2_a", "KDPM2AncestralDiscreteScheduler", {}),
    "lcm": ("lcm", "LCMScheduler", {}),
    "lms": ("lms", "LMSDiscreteScheduler", {}),
    "pndm": ("pndm", "PNDMScheduler", {}),
    "tcd": ("tcd", "TCDScheduler", {}),
    "unipc": ("unipc", "UniPCMultistepScheduler", {}),
}
"""Samplers of ours, and the schedulers of diffusers that they are; with changes of a configuration."""


class Reference:
    """A checkpoint in diffusers, with our names for what it is asked.

    Args:
        checkpoint: The folder.
        components: What takes the place of components of the checkpoint.
    """

    def __init__(self, checkpoint: Path, **components: Any) -> None:
        self.pipe: Any = StableDiffusionInpaintPipeline.from_pretrained(
            checkpoint, safety_checker=None, **components
        )
        self.pipe.set_progress_bar_config(disable=True)
        self.scheduler = self.pipe.scheduler

    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Any = None,
        mask_image: Any = None,
        *,
        seed: int | Sequence[int] = 0,
        clip_skip: int | None = None,
        latents: NDArray[np.float32] | None = None,
        scheduler: Any = None,
        **options: Any,
    ) -> list[Image.Image]:
        """The images for these options; the task follows from what is given."""
        texts: dict[str, Any] = {"prompt": prompt}
        if clip_skip is not None:
            texts = self._skipping(prompt, options.pop("negative_prompt", None), clip_skip)
        given = {"image": image, "mask_image": mask_image}
        if latents is not None:
            given["latents"] = torch.from_numpy(latents)
        output = self._pipeline(image, mask_image, scheduler)(
            generator=generators(seed),
            **{name: value for name, value in given.items() if value is not None},
            **texts,
            **options,
        )
        images: list[Image.Image] = output.images
        return images

    def _pipeline(self, image: Any, mask_image: Any, scheduler: Any) -> Any:
        fresh = scheduler or type(self.scheduler).from_config(self.scheduler.config)
        self.pipe.scheduler = fresh
        if mask_image is not None:
            return self.pipe
        kind = StableDiffusionPipeline if image is None else StableDiffusionImg2ImgPipeline
        pipe: Any = kind(**self.pipe.components, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _skipping(self, prompt: Any, negative: Any, clip_skip: int) -> dict[str, Any]:
        # diffusers' own clip_skip asks for an attribute that transformers 5 no longer has.
        return {
            "prompt_embeds": self._embed(prompt, clip_skip),
            "negative_prompt_embeds": self._embed(negative or "", 0),
        }

    def _embed(self, text: str, clip_skip: int) -> torch.Tensor:
        ids = self.pipe.tokenizer(
            text, padding="max_length", max_length=self.pipe.tokenizer.model_max_length, truncation=True
        ).input_ids
        encoder = self.pipe.text_encoder
        with torch.no_grad():
            states = encoder(torch.tensor([ids]), output_hidden_states=True).hidden_states
            norm = getattr(encoder, "text_model", encoder).final_layer_norm
            embedding: torch.Tensor = norm(states[-(clip_skip + 1)])
        return embedding


def compare(ours: Any, theirs: Any) -> None:
    """Images differ by one level at most, and show something."""
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert np.asarray(reference).std() > 10, "the reference is a blank image, which proves nothing"
        assert largest_difference(mine, reference) <= 1


def generators(seed: int | Sequence[int]) -> torch.Generator | list[torch.Generator]:
    """What diffusers draws from for a seed, or a list of seeds."""
    if isinstance(seed, int):
        return torch.Generator("cpu").manual_seed(seed)
    return [torch.Generator("cpu").manual_seed(one) for one in seed]
