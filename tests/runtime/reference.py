"""The reference: diffusers' inpainting pipeline, asked in the words of our own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Reference"]


class Reference:
    """A checkpoint in diffusers, with our names for what it is asked."""

    def __init__(self, checkpoint: Path) -> None:
        self.pipe: Any = StableDiffusionInpaintPipeline.from_pretrained(checkpoint, safety_checker=None)
        self.pipe.set_progress_bar_config(disable=True)
        self.scheduler = self.pipe.scheduler

    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Any,
        mask_image: Any,
        *,
        seed: int | Sequence[int] = 0,
        clip_skip: int | None = None,
        latents: NDArray[np.float32] | None = None,
        scheduler: Any = None,
        **options: Any,
    ) -> list[Image.Image]:
        """The pictures for these options."""
        self.pipe.scheduler = scheduler or type(self.scheduler).from_config(self.scheduler.config)
        texts: dict[str, Any] = {"prompt": prompt}
        if clip_skip is not None:
            texts = self._skipping(prompt, options.pop("negative_prompt", None), clip_skip)
        output = self.pipe(
            image=image,
            mask_image=mask_image,
            generator=_generators(seed),
            latents=None if latents is None else torch.from_numpy(latents),
            **texts,
            **options,
        )
        pictures: list[Image.Image] = output.images
        return pictures

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


def _generators(seed: int | Sequence[int]) -> torch.Generator | list[torch.Generator]:
    if isinstance(seed, int):
        return torch.Generator("cpu").manual_seed(seed)
    return [torch.Generator("cpu").manual_seed(one) for one in seed]
