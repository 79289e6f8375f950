"""What the WebUI writes about its images: the infotext in their metadata, and `info` in its answers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType

from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.fields import Generation, Img2Img
from inpaintrt_server.apis.webui.overrides import Overrides

__all__ = ["infotexts_of", "write_info"]

# What the WebUI's clients expect in `info`, of features that are not here.
_UNSUPPORTED: Mapping[str, object] = MappingProxyType(
    {
        "subseed_strength": 0,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "extra_generation_params": {},
        "styles": [],
    }
)


def infotexts_of(
    fields: Generation,
    overrides: Overrides,
    checkpoint: Checkpoint,
    seeds: Sequence[int],
    size: tuple[int, int],
) -> list[str]:
    """The text that tells how each image was made.

    Args:
        fields: What was asked for.
        overrides: The same, from its settings.
        checkpoint: What made the images.
        seeds: One for each image.
        size: Width and height of the run.
    """
    return [_infotext(fields, _parameters(fields, overrides, checkpoint, seed, size)) for seed in seeds]


def _infotext(fields: Generation, parameters: Mapping[str, object]) -> str:
    listed = ", ".join(f"{name}: {_quote(str(value))}" for name, value in parameters.items())
    negative = [f"Negative prompt: {fields.negative_prompt}"] if fields.negative_prompt else []
    return "\n".join([fields.prompt, *negative, listed])


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:\n"') else value


def _parameters(
    fields: Generation, overrides: Overrides, checkpoint: Checkpoint, seed: int, size: tuple[int, int]
) -> dict[str, object]:
    skip = {} if overrides.clip_skip is None else {"Clip skip": overrides.clip_skip + 1}
    image = fields if isinstance(fields, Img2Img) else None
    strength = {} if image is None else {"Denoising strength": image.denoising_strength}
    mask = {} if image is None or image.mask is None else _mask_parameters(image)
    return {
        "Steps": fields.steps,
        "Sampler": fields.sampler_name or fields.sampler_index,
        "Schedule type": fields.scheduler.capitalize(),
        "CFG scale": fields.cfg_scale,
        "Seed": seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model hash": checkpoint.short_hash,
        "Model": checkpoint.name,
        **strength,
        **skip,
        **mask,
        "Version": f"inpaintrt {version('inpaintrt')}",
    }


def _mask_parameters(fields: Img2Img) -> dict[str, object]:
    blur: dict[str, object] = {
        "Mask blur": fields.mask_blur_x if fields.mask_blur is None else fields.mask_blur
    }
    if not fields.inpaint_full_res:
        return blur
    return {**blur, "Inpaint area": "Only masked", "Masked area padding": fields.inpaint_full_res_padding}


def write_info(
    fields: Generation,
    overrides: Overrides,
    checkpoint: Checkpoint,
    *,
    seeds: Sequence[int],
    size: tuple[int, int],
    infotexts: Sequence[str],
    warnings: Sequence[str],
    interrupted: bool,
) -> str:
    """The JSON text `info` of an answer; `warnings` and `interrupted` are not the WebUI's.

    Args:
        fields: What was asked for.
        overrides: The same, from its settings.
        checkpoint: What made the images.
        seeds: One for each image.
        size: Width and height of the run.
        infotexts: One for each image.
        warnings: What the client should know.
        interrupted: Whether the images are unfinished.
    """
    return json.dumps(
        {
            **_prompts_and_seeds(fields, seeds),
            **_sampling(fields, overrides, size),
            "sd_model_name": checkpoint.name,
            "sd_model_hash": checkpoint.short_hash,
            **_UNSUPPORTED,
            "index_of_first_image": 0,
            "infotexts": list(infotexts),
            "job_timestamp": time.strftime("%Y%m%d%H%M%S"),
            "version": f"inpaintrt {version('inpaintrt')}",
            "warnings": list(warnings),
            "interrupted": interrupted,
        }
    )


def _prompts_and_seeds(fields: Generation, seeds: Sequence[int]) -> dict[str, object]:
    count = len(seeds)
    return {
        "prompt": fields.prompt,
        "all_prompts": [fields.prompt] * count,
        "negative_prompt": fields.negative_prompt,
        "all_negative_prompts": [fields.negative_prompt] * count,
        "seed": seeds[0],
        "all_seeds": list(seeds),
        "subseed": seeds[0],
        "all_subseeds": list(seeds),
    }


def _sampling(fields: Generation, overrides: Overrides, size: tuple[int, int]) -> dict[str, object]:
    image = fields if isinstance(fields, Img2Img) else None
    return {
        "width": size[0],
        "height": size[1],
        "sampler_name": fields.sampler_name or fields.sampler_index,
        "cfg_scale": fields.cfg_scale,
        "steps": fields.steps,
        "batch_size": fields.batch_size,
        "denoising_strength": None if image is None else image.denoising_strength,
        "clip_skip": (overrides.clip_skip or 0) + 1,
        "is_using_inpainting_conditioning": image is not None and image.mask is not None,
    }
