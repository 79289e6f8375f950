"""Every option of a request, declared once.

Type, range, description and default of an option are one annotation of `Options`. The checks of a call, the
options of `inpaintrt run`, and the fields of the server's `/v1/inpaint` are derived from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias, TypedDict, Unpack, cast

from msgspec import Meta

from inpaintrt.array_like import ArrayLike
from inpaintrt.declaration import Default, FiniteFloats, Option, current_names, declared_options
from inpaintrt.errors import LatentsError, ParameterError, PromptError
from inpaintrt.presets import check_steps, with_preset
from inpaintrt.quality import DOCUMENTED, Qualities, Quality, with_quality

__all__ = [
    "OPTIONS",
    "RENAMED",
    "Fill",
    "NegativeMode",
    "Options",
    "Task",
    "TimestepSpacing",
    "VaeName",
    "make_options",
    "step_count",
]

Fill: TypeAlias = Literal["original", "grey", "gray", "noise", "blur"]
Task: TypeAlias = Literal["inpainting", "image-to-image", "text-to-image"]
NegativeMode: TypeAlias = Literal["replace", "symmetric"]
TimestepSpacing: TypeAlias = Literal["leading", "linspace", "trailing"]
VaeName: TypeAlias = Literal["full", "tiny"]

_Side: TypeAlias = Annotated[int, Meta(ge=8, le=16384)]
_Pixels: TypeAlias = Annotated[int, Meta(ge=0, le=16384)]
_Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
_Share: TypeAlias = Annotated[float, Meta(gt=0, lt=1)]
_Count: TypeAlias = Annotated[int, Meta(ge=0)]
_Size: TypeAlias = tuple[Annotated[int, Meta(ge=1, le=65536)], Annotated[int, Meta(ge=1, le=65536)]]
_Corner: TypeAlias = tuple[Annotated[int, Meta(ge=0, le=65536)], Annotated[int, Meta(ge=0, le=65536)]]

_MAX_STEPS = 1000


class Options(TypedDict, total=False):
    """Every option of a request. Names and meanings are diffusers' where diffusers has them.

    Without `height`, `width` and `padding_mask_crop` an image runs at its own size where it fits the
    checkpoint's native size; of a larger one only the surroundings of the mask run. The result always has the
    source's size then. With `height` or `width` the image is stretched and the result has that size; if
    only one is given, the other keeps the image's proportions (nearest multiple of 8). With
    `padding_mask_crop` the mask's bounding box runs at `height` x `width` (or the native size), and the
    result has the source's size.

    With `compat="diffusers"` the image is stretched to `height` x `width` (default native), and nothing is
    pasted back unless `padding_mask_crop` is given, bit by bit as in StableDiffusionInpaintPipeline.
    """

    negative_prompt: Annotated[
        str | Sequence[str] | None, Meta(description="What not to paint; one text, or one for each prompt.")
    ]
    prompt_2: Annotated[
        str | Sequence[str] | None,
        Meta(description="What SDXL's second text encoder reads, if not the prompt."),
    ]
    negative_prompt_2: Annotated[
        str | Sequence[str] | None,
        Meta(description="What SDXL's second text encoder reads, if not the negative prompt."),
    ]
    prompt_embeds: Annotated[
        ArrayLike | None,
        Meta(description="Embeddings [prompts, tokens, width], instead of prompts."),
        FiniteFloats(PromptError),
    ]
    negative_prompt_embeds: Annotated[
        ArrayLike | None,
        Meta(description="Embeddings [prompts, tokens, width], instead of negative prompts."),
        FiniteFloats(PromptError),
    ]
    pooled_prompt_embeds: Annotated[
        ArrayLike | None,
        Meta(description="SDXL's embeddings [prompts, width] of whole prompts, with prompt_embeds."),
        FiniteFloats(PromptError),
    ]
    negative_pooled_prompt_embeds: Annotated[
        ArrayLike | None,
        Meta(
            description="SDXL's embeddings [prompts, width] of whole negative prompts, with "
            "negative_prompt_embeds."
        ),
        FiniteFloats(PromptError),
    ]
    preset: Annotated[
        str | None,
        Meta(
            description="A preset for few-step checkpoints or LoRAs, as `inpaintrt presets` lists them: it "
            "sets sampler, steps, guidance and what belongs to them, where they are not given."
        ),
    ]
    quality: Annotated[
        Quality,
        Meta(
            description='Quality against speed: "balanced" and "fast" set sampler, steps and guidance '
            'interval where they are not given, as measured on the bundle; "exact" changes nothing.'
        ),
        Default("exact"),
    ]
    num_inference_steps: Annotated[
        int, Meta(ge=1, le=_MAX_STEPS, description="Steps of the sampler."), Default(50)
    ]
    timesteps: Annotated[
        Annotated[Sequence[float], Meta(min_length=1, max_length=_MAX_STEPS)] | None,
        Meta(
            description="Timestep of each step, in falling order, in place of num_inference_steps; for "
            "samplers that take them."
        ),
    ]
    sigmas: Annotated[
        Annotated[Sequence[float], Meta(min_length=2, max_length=_MAX_STEPS + 1)] | None,
        Meta(
            description="Sigma of each step and the one after the last step, in falling order, in place of "
            "num_inference_steps; for samplers that take them."
        ),
    ]
    timestep_spacing: Annotated[
        TimestepSpacing | None,
        Meta(
            description="Where the steps lie among the timesteps of training, for samplers that have a "
            "choice. If absent, as in the checkpoint's scheduler."
        ),
    ]
    guidance_scale: Annotated[
        float | None,
        Meta(
            description="How strongly the prompt is followed; at 1 or below there is no guidance. If absent, "
            "7.5, and 5 for SDXL without a mask."
        ),
    ]
    strength: Annotated[
        _Fraction | None,
        Meta(
            description="How much of the image is forgotten; if absent, 1 with a mask and 0.8 without one, "
            "for SDXL 0.9999 and 0.3."
        ),
    ]
    num_images_per_prompt: Annotated[int, Meta(ge=1, description="Images for each prompt."), Default(1)]
    eta: Annotated[_Fraction, Meta(description="Noise of DDIM; gamma of TCD."), Default(0.0)]
    seed: Annotated[
        int | Sequence[int] | None,
        Meta(
            description="One seed, from which further results count up, or one for each result; -1 or "
            "absent: one is chosen and reported. With compat='diffusers' all results share one seed."
        ),
    ]
    scheduler: Annotated[str | None, Meta(description="Name of a sampler; if absent, the checkpoint's own.")]
    padding_mask_crop: Annotated[
        _Pixels | None, Meta(description="Run only the mask's bounding box and this many pixels around it.")
    ]
    height: Annotated[_Side | None, Meta(description="Height to run at, in pixels; a multiple of 8.")]
    width: Annotated[_Side | None, Meta(description="Width to run at, in pixels; a multiple of 8.")]
    clip_skip: Annotated[_Count | None, Meta(description="Last layers of the text encoder to skip.")]
    latents: Annotated[
        ArrayLike | None,
        Meta(description="First latents [results, channels, h, w], unit Gaussian, instead of seeded ones."),
        FiniteFloats(LatentsError),
    ]
    image_latents: Annotated[
        ArrayLike | None,
        Meta(
            description="Scaled latents [images, channels, h, w] in the place of images, as output_type "
            '"latent" gives them.'
        ),
        FiniteFloats(LatentsError),
    ]
    denoising_start: Annotated[
        _Share | None,
        Meta(description="Share of the schedule that another run has done; image_latents are its result."),
    ]
    denoising_end: Annotated[
        _Share | None,
        Meta(description="Share of the schedule after which to stop, for another run to go on."),
    ]
    output_type: Annotated[
        Literal["pil", "np", "latent"],
        Meta(
            description='"pil" for images, "np" for float32 [results, height, width, 3] in [0, 1], "latent" '
            "for scaled latents [results, channels, h, w]."
        ),
        Default("pil"),
    ]
    vae: Annotated[
        VaeName,
        Meta(
            description='What encodes and decodes images: "full" is the checkpoint\'s own VAE, "tiny" a '
            "faster and less exact one, of bundles that have it."
        ),
        Default("full"),
    ]
    compat: Annotated[
        Literal["diffusers"] | None, Meta(description="Follow diffusers in size, cropping and pasting back.")
    ]
    negative_mode: Annotated[
        NegativeMode,
        Meta(
            description='How the negative prompt acts: "replace" puts it in the place of the empty prompt, '
            '"symmetric" subtracts it.'
        ),
        Default("replace"),
    ]
    guidance_interval: Annotated[
        tuple[_Fraction, _Fraction],
        Meta(description="First and last part of the run in which guidance acts."),
        Default((0.0, 1.0)),
    ]
    cache_interval: Annotated[
        int,
        Meta(
            ge=1,
            le=_MAX_STEPS,
            description="Step caching (DeepCache): evaluate the whole UNet once in so many evaluations, and "
            "its first and last layers alone in the others; for bundles that have it. 1 for none.",
        ),
        Default(1),
    ]
    long_prompts: Annotated[
        Literal["truncate", "windows"],
        Meta(
            description='Prompts longer than the text encoder\'s window: "truncate" cuts them off, "windows" '
            "joins several windows."
        ),
        Default("truncate"),
    ]
    mask_blur: Annotated[
        float,
        Meta(
            ge=0,
            le=512,
            description="Soften the mask's edge, for pasting back; a Gaussian's sigma in pixels.",
        ),
        Default(0.0),
    ]
    mask_grow: Annotated[
        int,
        Meta(ge=-4096, le=4096, description="Grow the mask by this many pixels; shrink it if negative."),
        Default(0),
    ]
    mask_invert: Annotated[
        bool, Meta(description="Repaint what is black instead of what is white."), Default(value=False)
    ]
    match_colors: Annotated[
        bool,
        Meta(description="Shift the result's colors so that they meet the image's at the mask's edge."),
        Default(value=True),
    ]
    fill: Annotated[
        Fill, Meta(description="What is under the mask when strength is below 1."), Default("original")
    ]
    margins: Annotated[
        tuple[_Pixels, _Pixels, _Pixels, _Pixels],
        Meta(description="Pixels to paint beyond the left, top, right and bottom edge."),
        Default((0, 0, 0, 0)),
    ]
    mask_mode: Annotated[
        Literal["hard", "soft"],
        Meta(
            description='"hard" repaints where the mask is at least half white; in a "soft" mask, a grey '
            "value says how much may change (differential diffusion)."
        ),
        Default("hard"),
    ]
    guidance_rescale: Annotated[
        _Fraction,
        Meta(description="How far the contrast that guidance adds is taken back (arXiv:2305.08891)."),
        Default(0.0),
    ]
    original_size: Annotated[
        _Size | None,
        Meta(
            description="Height and width of the image before it was scaled, for SDXL; if absent, of the run."
        ),
    ]
    crops_coords_top_left: Annotated[
        _Corner,
        Meta(description="Top and left pixel that the image was cropped at, for SDXL."),
        Default((0, 0)),
    ]
    target_size: Annotated[
        _Size | None,
        Meta(description="Height and width that SDXL aims at; if absent, of the run."),
    ]
    negative_original_size: Annotated[
        _Size | None,
        Meta(description="As original_size, for the negative prompt; if absent, the same."),
    ]
    negative_crops_coords_top_left: Annotated[
        _Corner | None,
        Meta(description="As crops_coords_top_left, for the negative prompt; if absent, the same."),
    ]
    negative_target_size: Annotated[
        _Size | None,
        Meta(description="As target_size, for the negative prompt; if absent, the same."),
    ]
    aesthetic_score: Annotated[
        float, Meta(description="Aesthetic score that an SDXL refiner aims at."), Default(6.0)
    ]
    negative_aesthetic_score: Annotated[
        float, Meta(description="As aesthetic_score, for the negative prompt."), Default(2.5)
    ]


OPTIONS: Mapping[str, Option] = declared_options(Options)
"""All options by name."""

RENAMED: Mapping[str, str] = MappingProxyType({"match_colours": "match_colors"})
"""Former names that still work in this version, and the names of today."""

Options.__doc__ = f"{Options.__doc__}\n    Attributes:\n" + "\n".join(
    f"        {option.name}: {option.description}" for option in OPTIONS.values()
)


def make_options(qualities: Qualities = DOCUMENTED, /, **given: Unpack[Options]) -> Options:
    """Check options, and add those that are not given: what preset or quality say, then the defaults.

    Args:
        qualities: What the words of `quality` stand for with the bundle, from `qualities_of`.
        given: The options.

    Raises:
        ParameterError: An option is unknown or out of its range, or two options exclude each other.
        SchedulerError: There is a preset or a quality, and the sampler is unknown.
        LatentsError: The latents are not finite.
        PromptError: Embeddings are not finite.
    """
    named, notes = current_names(given, RENAMED)
    for note in notes:
        warnings.warn(note, FutureWarning, stacklevel=2)
    unknown = sorted(set(named) - set(OPTIONS))
    if unknown:
        raise ParameterError(
            "there is no such option", received=", ".join(unknown), expected=", ".join(sorted(OPTIONS))
        )
    named = with_preset(with_quality(named, qualities))
    values = {
        name: option.checked(named[name]) if name in named else option.default
        for name, option in OPTIONS.items()
    }
    options = cast("Options", values)
    _check_compat(options)
    check_steps(options["preset"], *step_count(options))
    return options


def step_count(options: Options) -> tuple[str, int]:
    """The option that says how many steps there are, and their number."""
    timesteps, sigmas = options["timesteps"], options["sigmas"]
    if timesteps is not None:
        return "timesteps", len(timesteps)
    if sigmas is not None:
        return "sigmas", len(sigmas) - 1
    return "num_inference_steps", options["num_inference_steps"]


def _check_compat(options: Options) -> None:
    fill, margins = options["fill"], options["margins"]
    if options["compat"] == "diffusers" and (fill != "original" or any(margins)):
        raise ParameterError(
            "diffusers has neither fills nor margins",
            received=f"fill={fill!r}, margins={margins}",
            expected='fill="original", margins=(0, 0, 0, 0)',
            hint="leave compat out to use them",
            parameter="compat",
        )
