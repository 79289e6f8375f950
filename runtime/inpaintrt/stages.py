"""The stages of a request before and after its steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.backends import image_sizes
from inpaintrt.bundle import SHALLOW_DENOISER, Architecture
from inpaintrt.denoiser import Entry, FusedStep, PlainStep, Program, Step, shallow_rows
from inpaintrt.errors import EngineInputError, ImageError, LatentsError, ParameterError, PromptError
from inpaintrt.families import FAMILIES, Conditions, step_specs
from inpaintrt.guidance import Guidance
from inpaintrt.images import ImageSource, LatentImage, Prepared, paste_back, prepare
from inpaintrt.latents import images_to_encode, make_start
from inpaintrt.loading import LoadedBundle
from inpaintrt.noise import NoiseSource, StepNoise
from inpaintrt.presets import check_checkpoint
from inpaintrt.quality import qualities_of
from inpaintrt.request import Request
from inpaintrt.samplers import Table, compile_table
from inpaintrt.text_encoding import Contexts, TextEncoding
from inpaintrt.vae import LatentDistribution, Vaes

__all__ = ["Contexts", "Entry", "Stages", "pasted", "results", "untouched"]

Floats = NDArray[np.float32]

_TABLES_KEPT = 64


class Stages:
    """What happens to a request before its first step and after its last.

    `prepare` and `compile` run no engine and may be called by any thread at any time.

    Args:
        loaded: Manifest, engines and tokenizer.
        prompt_cache: Windows of prompts whose embeddings are kept.
        prompts: Encodes prompts in the place of an encoder of its own: that of another bundle with the same
            text encoders.

    Attributes:
        manifest: The bundle's manifest.
        engines: The components by name.
        family: The bundle's family.
        prompts: Encodes prompts, and counts how often it had to.
        vaes: The bundle's VAEs.
        step: Computes a step of all slots.
        sizes: Heights and widths in pixels that the engines were built for; empty if they take any.
        qualities: What the words of the option `quality` stand for.

    Raises:
        BundleFormatError: The manifest's settings for a quality are not valid.
        PlanError: The engines were built for sizes that have none in common.
    """

    def __init__(
        self, loaded: LoadedBundle, *, prompt_cache: int = 256, prompts: TextEncoding | None = None
    ) -> None:
        self.manifest = loaded.manifest
        self.engines = loaded.engines
        self.family = FAMILIES[self.manifest.family]
        self.qualities = qualities_of(self.manifest)
        self.prompts = TextEncoding(loaded, cache_size=prompt_cache) if prompts is None else prompts
        self.vaes = Vaes(self.manifest, self.engines)
        fused = self.manifest.exported["denoiser"].form == "step"
        denoiser = self.engines["denoiser"]
        self.step: Step = (
            FusedStep(denoiser, self.engines.get(SHALLOW_DENOISER))
            if fused
            else PlainStep(denoiser, step_specs(self.family, self.manifest.architecture))
        )
        self.sizes = image_sizes(self.engines, self.manifest.architecture.vae_scale_factor)
        self._table = lru_cache(_TABLES_KEPT)(partial(compile_table, self.manifest.scheduler))

    def prepare(self, request: Request) -> list[Prepared]:
        """Turn the images and masks of a request into tensors of one size.

        Raises:
            ImageError: An image cannot be read, or the images would run at different sizes.
            MaskError: A mask cannot be read or does not fit its image.
            ParameterError: A size does not fit the checkpoint, or the engines were not built for it.
            LatentsError: Latents in the place of an image have another number of channels, or the UNet has to
                see the image itself.
        """
        architecture = self.manifest.architecture
        _check_latents(request, architecture)
        prepared = [
            prepare(
                image,
                mask,
                request.options,
                native=architecture.native_resolution,
                factor=architecture.vae_scale_factor,
                built=self.sizes,
            )
            for image, mask in _sources(request)
        ]
        sizes = {each.image.shape[2:] for each in prepared}
        if len(sizes) > 1:
            raise ImageError(
                "the images of one request would run at different sizes",
                received=", ".join(f"{width} x {height}" for height, width in sorted(sizes)),
                expected="one size",
                hint="give height and width, or call the pipeline once for each image",
            )
        return prepared

    def compile(self, request: Request) -> Table:
        """The sampler's table of a request; the latest tables are kept.

        Raises:
            ParameterError: An option is out of its range, for the sampler or for the checkpoint.
            SchedulerError: The sampler is unknown.
        """
        options = request.options
        self._check_step_cache(options["cache_interval"])
        self.prompts.check_clip_skip(options["clip_skip"])
        check_checkpoint(options["preset"], self.family.name, guidance_embedding=self.takes_guidance_scale)
        table = self._table(
            options["scheduler"],
            options["num_inference_steps"],
            strength=request.strength,
            eta=options["eta"],
            from_image=request.task == "image-to-image",
            timesteps=_hashable(options["timesteps"]),
            sigmas=_hashable(options["sigmas"]),
            timestep_spacing=options["timestep_spacing"],
            denoising_start=options["denoising_start"],
            denoising_end=options["denoising_end"],
        )
        self.step.check_timesteps(table.timesteps)
        return table

    def _check_step_cache(self, interval: int) -> None:
        if interval > 1 and not self.step.caches:
            raise ParameterError(
                f"the bundle {self.manifest.name!r} has no step caching",
                received=f"cache_interval {interval}",
                expected="cache_interval 1, which caches nothing",
                hint=f"add it with `inpaintrt add-step-cache {self.manifest.name}`",
                parameter="cache_interval",
            )

    @property
    def takes_guidance_scale(self) -> bool:
        """Whether the UNet takes the guidance scale as an input, as those of latent consistency models do."""
        return self.manifest.architecture.guidance_embedding_width is not None

    def warm_up(self) -> None:
        """Run text encoders and VAEs at the first size, once to choose kernels and once to record launches.

        Raises:
            EngineError: One of them failed.
        """
        architecture = self.manifest.architecture
        height, width = self.sizes[0] if self.sizes else architecture.native_resolution
        factor = architecture.vae_scale_factor
        latent_shape = (architecture.latent_channels, height // factor, width // factor)
        for _ in range(2):
            self.prompts.warm_up()
            for vae in self.vaes.by_name.values():
                vae.encode(np.zeros((1, 3, height, width), np.float32))
                vae.decode(np.zeros(latent_shape, np.float32))

    def encode_prompts(self, request: Request) -> Contexts:
        """Encode all prompts of a request, those that guidance needs included.

        Raises:
            PromptError: A prompt cannot be tokenized, or embeddings do not fit the checkpoint or the texts.
            EngineError: A text encoder failed.
        """
        return self.prompts.encode(request, self._guidance(request))

    def encode_images(self, request: Request, prepared: Sequence[Prepared]) -> list[LatentDistribution]:
        """Encode what a request starts from, image by image.

        Raises:
            ParameterError: The bundle does not have the VAE that the request asks for.
            EngineError: The VAE's encoder failed.
        """
        vae = self.vaes.find(request.options["vae"])
        return [vae.encode(image) for image in self.images_to_encode(request, prepared)]

    def images_to_encode(self, request: Request, prepared: Sequence[Prepared]) -> list[Floats]:
        """What the VAE has to encode for a request, `[1, 3, height, width]` each."""
        return images_to_encode(self.manifest.architecture, request, prepared)

    def start(
        self,
        request: Request,
        prepared: Sequence[Prepared],
        table: Table,
        contexts: Contexts,
        encoded: Sequence[LatentDistribution],
    ) -> list[Entry]:
        """Draw the first noise, and say what each result enters its slot with. No engine runs.

        Raises:
            LatentsError: The caller's latents have another shape.
            PromptError: The engines were not built for prompts of so many windows.
            EngineInputError: They do not take so many contexts of one result.
        """
        self._check_engine(prepared[0], contexts.of_results[0].context.shape)
        source = NoiseSource(request.noise_seeds)
        architecture = self.manifest.architecture
        vae = self.vaes.find(request.options["vae"])
        start = make_start(architecture, request, prepared, vae, encoded, table.init, source)
        count, *shape = start.latents.shape
        noise = StepNoise(source, count, shape)
        weights = self._guidance(request).weights(table.rows, has_negative=request.negatives is not None)
        interval = request.options["cache_interval"]
        thresholds = _thresholds(table, soft=start.soft_mask is not None)
        factor = architecture.vae_scale_factor
        size = (shape[1] * factor, shape[2] * factor)
        conditions = Conditions(request.task, request.guidance.scale, size, request.options)
        programs = [
            Program(
                table,
                weights,
                self.family.per_row(architecture, texts, conditions),
                partial(noise.draw, result),
                thresholds,
                request.options["guidance_rescale"],
                shallow_rows(weights, interval) if interval > 1 else None,
            )
            for result, texts in enumerate(contexts.of_results)
        ]
        held = self.family.residents(architecture, start)
        return [Entry(*parts) for parts in zip(programs, start.latents, held, strict=True)]

    def _guidance(self, request: Request) -> Guidance:
        """How predictions combine; a UNet that is told the guidance scale evaluates the prompt alone."""
        told = self.manifest.architecture.guidance_embedding_width is not None
        return Guidance(scale=1.0) if told else request.guidance

    def _check_engine(self, prepared: Prepared, context_shape: tuple[int, ...]) -> None:
        """Check that the denoiser takes one result."""
        latent_shape = (self.manifest.architecture.latent_channels, *prepared.latent_mask.shape[2:])
        rows, tokens, width = context_shape
        window = self.manifest.window
        try:
            self.step.check(1, latent_shape, context_shape)
        except EngineInputError as error:
            self.step.check(1, latent_shape, (rows, window, width))  # other reasons come up here
            windows, rest = divmod(tokens, window)
            raise PromptError(
                "the plans were not built for prompts of this length",
                received=f"{tokens} tokens" if rest else f"{windows} windows of {window} tokens",
                expected=error.expected,
                hint="shorten the prompt, leave long_prompts='windows' out, or add plans: `inpaintrt build` "
                f"with --prompt-windows {windows + bool(rest)}",
            ) from error

    def close(self) -> None:
        """Release the engines."""
        for engine in self.engines.values():
            engine.close()


def _sources(request: Request) -> list[tuple[ImageSource | LatentImage | None, ImageSource | None]]:
    """Images with their masks; for text-to-image one blank image, from which all results start."""
    images: Sequence[ImageSource | LatentImage | None] = request.images or (None,)
    masks: Sequence[ImageSource | None] = request.masks or (None,) * len(images)
    return list(zip(images, masks, strict=True))


def _check_latents(request: Request, architecture: Architecture) -> None:
    """Check what is handed in in the place of images."""
    given = [image.latents for image in request.images if isinstance(image, LatentImage)]
    if given and architecture.condition_channels:
        raise LatentsError(
            "the UNet of an inpainting checkpoint sees the masked image itself",
            received="image_latents",
            expected="image",
            hint="decode the latents, or use a text-to-image checkpoint",
            parameter="image_latents",
        )
    for latents in given:
        if len(latents) != architecture.latent_channels:
            raise LatentsError(
                "image_latents have another number of channels than the checkpoint",
                received=[len(given), *latents.shape],
                expected=f"[images, {architecture.latent_channels}, height, width]",
                parameter="image_latents",
            )


def _hashable(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def _thresholds(table: Table, *, soft: bool) -> Floats:
    """How white a mask must be for a latent pixel to change, after each row `[rows]`."""
    return table.thresholds if soft else np.full(table.rows, 0.5, np.float32)


def pasted(request: Request, prepared: Sequence[Prepared], decoded: Sequence[Floats]) -> list[Image.Image]:
    """Results as images.

    Raises:
        EngineRunError: A decoded image is not finite.
    """
    pairs = zip(request.image_indices, decoded, strict=True)
    return [paste_back(prepared[index], image) for index, image in pairs]


def results(
    request: Request, prepared: Sequence[Prepared], decoded: Sequence[Floats]
) -> list[Image.Image] | Floats:
    """Results in the type that the request asks for.

    Where nothing is pasted back, as in diffusers' way, an array keeps the VAE's precision.

    Raises:
        EngineRunError: A decoded image is not finite.
    """
    options = request.options
    if (
        options["output_type"] == "np"
        and options["compat"] == "diffusers"
        and not options["padding_mask_crop"]
    ):
        return np.clip(np.stack(decoded).transpose(0, 2, 3, 1) / 2 + 0.5, 0, 1)
    return _as_asked(request, pasted(request, prepared, decoded))


def _as_asked(request: Request, images: list[Image.Image]) -> list[Image.Image] | Floats:
    if request.options["output_type"] == "np":
        return np.stack([np.asarray(image.convert("RGB"), np.float32) / 255 for image in images])
    return images


def untouched(request: Request, prepared: Sequence[Prepared]) -> list[Image.Image] | Floats:
    """The images themselves, where every mask leaves nothing to repaint.

    Raises:
        ParameterError: The request asks for latents.
    """
    if request.options["output_type"] == "latent":
        raise ParameterError(
            "the mask leaves nothing to repaint, so there are no latents",
            received="output_type 'latent'",
            expected="a mask with something white, or output_type 'pil' or 'np'",
        )
    return _as_asked(request, [prepared[index].original.copy() for index in request.image_indices])
