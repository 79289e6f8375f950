"""From the WebUI's fields to our options."""

from __future__ import annotations

import re
import secrets

from inpaintrt.options import Fill, Options
from inpaintrt_server.apis.webui.checkpoint import Checkpoint
from inpaintrt_server.apis.webui.fields import Generation, Img2Img
from inpaintrt_server.apis.webui.lora_tags import choose_tagged, read_tags
from inpaintrt_server.apis.webui.overrides import Overrides
from inpaintrt_server.apis.webui.samplers import Sampler, choose_sampler
from inpaintrt_server.batching.loras import LoraChoice, LoraLibrary
from inpaintrt_server.http.refusals import FieldError

__all__ = ["loras_of", "options_of", "plain_prompt", "prompt_of"]

_FILLS: tuple[Fill, ...] = ("blur", "original", "noise", "grey")
_CHOOSE = -1
# The WebUI chooses seeds from this range, and so do we, so that clients can send them back.
_SEEDS = 2**32
_TAKE_ETA = ("ddim", "tcd")
_ESCAPED = re.compile(r"\\([()\[\]\\])")
# Patterns of a prompt without its escaped brackets, and what they mean to the WebUI.
_LANGUAGE = (
    (re.compile(r"<(?:lora|lyco|hypernet):[^>]*>"), "an extra network"),
    (re.compile(r"\bAND\b"), "a composition of prompts"),
    (re.compile(r"\bBREAK\b"), "a break between windows"),
    (re.compile(r"\[[^\[\]]*[:|][^\[\]]*\]"), "a part that changes during the run"),
)
_WEIGHT = (re.compile(r"\([^()]*\)|\[[^\[\]]*\]"), "a weight on words")


def prompt_of(fields: Generation, overrides: Overrides) -> str:
    """The prompt as the runtime reads it, without the LoRAs that it names.

    Raises:
        FieldError: It uses the WebUI's prompt language.
    """
    return plain_prompt(read_tags(fields.prompt).text, "prompt", weights=overrides.weights)


def loras_of(fields: Generation, library: LoraLibrary) -> LoraChoice:
    """The LoRAs that the prompt names.

    Raises:
        FieldError: One is unknown, or its tag cannot be read.
    """
    return choose_tagged(read_tags(fields.prompt), library, disabled=fields.disable_extra_networks)


def plain_prompt(prompt: str, field: str, *, weights: bool) -> str:
    r"""Check that a prompt means the same here as in the WebUI, and undo its escapes.

    Args:
        prompt: A prompt.
        field: The field that it came in.
        weights: Whether brackets weigh words; they do unless the WebUI's setting `emphasis` is "None".

    Returns:
        The prompt; where brackets weigh words, `\(` becomes `(`, and so on.

    Raises:
        FieldError: The prompt uses the WebUI's language.
    """
    rest = _ESCAPED.sub("", prompt)
    for pattern, meaning in (*_LANGUAGE, _WEIGHT) if weights else _LANGUAGE:
        found = pattern.search(rest)
        if found:
            raise FieldError(
                f"the prompt holds {meaning}, which this server does not have",
                field=field,
                received=found.group(),
                expected="plain text",
                hint=r'write brackets as \( and \), or send the override setting {"emphasis": "None"}, '
                "which reads them as they stand",
            )
    return _ESCAPED.sub(r"\1", prompt) if weights else prompt


def options_of(fields: Generation, overrides: Overrides, checkpoint: Checkpoint) -> Options:
    """The options that a body asks for.

    Image `i` of a request has the seed plus `i`, and prompts of more than one window are joined, both as
    in the WebUI.

    Raises:
        FieldError: The fields ask for something that this server does not have.
    """
    _check_overrides(fields)
    scheduler, sampler = choose_sampler(fields.sampler_name or fields.sampler_index, fields.scheduler)
    count = fields.batch_size * fields.n_iter
    first = secrets.randbelow(_SEEDS) if fields.seed == _CHOOSE else fields.seed
    negative = plain_prompt(fields.negative_prompt, "negative_prompt", weights=overrides.weights)
    options = Options(
        negative_prompt=negative or None,
        num_inference_steps=fields.steps,
        guidance_scale=fields.cfg_scale,
        num_images_per_prompt=count,
        eta=_eta(fields.eta, scheduler, sampler),
        seed=tuple(first + index for index in range(count)),
        scheduler=scheduler,
        height=checkpoint.native[0] if fields.height is None else fields.height,
        width=checkpoint.native[1] if fields.width is None else fields.width,
        clip_skip=overrides.clip_skip,
        long_prompts="windows",
    )
    return {**options, **_image_options(fields)} if isinstance(fields, Img2Img) else options


def _image_options(fields: Img2Img) -> Options:
    if fields.resize_mode and not fields.masked_region_only:
        raise FieldError(
            "where the whole image runs, it is stretched",
            field="resize_mode",
            received=fields.resize_mode,
            expected="0, or a mask and inpaint_full_res true",
        )
    if fields.mask is None:
        return Options(strength=fields.denoising_strength)
    return Options(
        strength=fields.denoising_strength,
        padding_mask_crop=fields.inpaint_full_res_padding if fields.inpaint_full_res else None,
        mask_blur=_blur(fields),
        mask_invert=bool(fields.inpainting_mask_invert),
        fill=_FILLS[fields.inpainting_fill],
    )


def _check_overrides(fields: Generation) -> None:
    if fields.override_settings and not fields.override_settings_restore_afterwards:
        raise FieldError(
            "settings of a request are not kept for the next one",
            field="override_settings_restore_afterwards",
            received=False,
            expected="true",
        )


def _blur(fields: Img2Img) -> float:
    if fields.mask_blur is not None:
        return float(fields.mask_blur)
    if fields.mask_blur_x != fields.mask_blur_y:
        raise FieldError(
            "the mask is blurred alike along both axes",
            field="mask_blur_y",
            received=f"mask_blur_x {fields.mask_blur_x}, mask_blur_y {fields.mask_blur_y}",
            expected="two equal numbers, or mask_blur",
        )
    return float(fields.mask_blur_x)


def _eta(eta: float | None, scheduler: str, sampler: Sampler | None) -> float:
    """Our eta, which is for DDIM and TCD alone; samplers that draw no noise have none in the WebUI either."""
    if any(name in scheduler.lower() for name in _TAKE_ETA):
        return 0.0 if eta is None else eta
    if sampler is not None and sampler.fresh_noise and eta not in (None, 1.0):
        raise FieldError(
            f"the sampler {sampler.name} has an eta of 1 here", field="eta", received=eta, expected="1"
        )
    return 0.0
