"""From a picture, a mask and a prompt to an inpainted picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.backends import DEFAULT_BACKEND
from inpaintrt.denoiser import FusedStep, PlainStep, Program, Slots, Step, row_bucket
from inpaintrt.errors import ImageError, ParameterError
from inpaintrt.images import ImageSource, Prepared, paste_back, prepare
from inpaintrt.latents import make_start
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.noise import NoiseSource, StepNoise
from inpaintrt.output import InpaintOutput, StepEvent
from inpaintrt.prompts import PromptEncoder
from inpaintrt.request import Options, Request, make_request
from inpaintrt.samplers import Table, compile_table
from inpaintrt.timing import Stopwatch
from inpaintrt.vae import Vae

__all__ = ["InpaintPipeline"]

Floats = NDArray[np.float32]


class InpaintPipeline:
    """An inpainting checkpoint, ready to paint. Several threads may share one pipeline.

    Example:
        ```python
        pipe = InpaintPipeline.from_bundle("demo")
        result = pipe("a red balloon", "photo.png", "mask.png", num_inference_steps=20, seed=0)
        result.images[0].save("painted.png")
        ```

    Args:
        loaded: Manifest, engines and tokenizer.
        row_buckets: Numbers of UNet rows to pad a step to; None for exactly as many as there are.
    """

    def __init__(self, loaded: LoadedBundle, *, row_buckets: Sequence[int] | None = None) -> None:
        self.manifest = loaded.manifest
        self._engines = loaded.engines
        self._row_buckets = row_buckets
        self._prompts = PromptEncoder(loaded.tokenizer, self._encode_tokens)
        self._vae = Vae(
            self._engines["vae_encoder"],
            self._engines["vae_decoder"],
            self.manifest.architecture.latent_scale,
        )
        fused = self.manifest.components["denoiser"].form == "step"
        self._step: Step = (FusedStep if fused else PlainStep)(self._engines["denoiser"])

    @classmethod
    def from_bundle(
        cls,
        bundle: str | os.PathLike[str],
        *,
        backend: str = DEFAULT_BACKEND,
        verify: bool = True,
        row_buckets: Sequence[int] | None = None,
        **backend_options: object,
    ) -> Self:
        """Load a bundle.

        Args:
            bundle: The name of a bundle in the engine store, or a path.
            backend: What runs the engines; there is no fallback to another.
            verify: Compare every file with its hash. Only skip this for a store that you trust.
            row_buckets: Numbers of UNet rows to pad a step to; None for exactly as many as there are.
            backend_options: What the backend lets its users set; `threads` for "onnxruntime".

        Raises:
            BundleError: There is no such bundle, or it is damaged.
            EngineUnavailableError: The backend is unknown, or cannot run here.
        """
        loaded = load_bundle(bundle, backend=backend, verify=verify, backend_options=backend_options)
        return cls(loaded, row_buckets=row_buckets)

    def __call__(
        self,
        prompt: str | Sequence[str],
        image: ImageSource | Sequence[ImageSource],
        mask_image: ImageSource | Sequence[ImageSource],
        **options: Unpack[Options],
    ) -> InpaintOutput:
        """Paint what the prompt says where the mask is white.

        Args:
            prompt: What to paint; one text, or one for each picture.
            image: Pictures as PIL images, NumPy arrays or paths.
            mask_image: White where to paint, black where to keep; one for each picture, or one for all.
            options: See `inpaintrt.Options`.

        Raises:
            InputError: Something of the request cannot be served; nothing has run then.
            EngineError: An engine failed.
        """
        for event in self.stream(prompt, image, mask_image, **options):
            if event.output is not None:
                return event.output
        raise AssertionError("the stream ended without results: this is a bug")

    def stream(
        self,
        prompt: str | Sequence[str],
        image: ImageSource | Sequence[ImageSource],
        mask_image: ImageSource | Sequence[ImageSource],
        **options: Unpack[Options],
    ) -> Iterator[StepEvent]:
        """Paint step by step: an event after each step, the last one with the results.

        Closing the iterator cancels the request. Arguments and errors are those of calling the pipeline.
        """
        return self._run(make_request(prompt, image, mask_image, options))

    def _run(self, request: Request) -> Iterator[StepEvent]:
        clock = Stopwatch()
        self._check_clip_skip(request.options["clip_skip"])
        with clock.stage("prepare"):
            prepared = self._prepare(request)
        notes = tuple(dict.fromkeys(note for picture in prepared for note in picture.warnings))
        table = self._compile(request)
        if all(picture.empty for picture in prepared):
            results = _untouched(request, prepared)
            yield StepEvent(0, 0, InpaintOutput(results, request.seeds, clock.timings(), notes))
            return
        with clock.stage("prompts"):
            contexts, cut = self._encode_prompts(request)
        with clock.stage("image_encode"):
            slots = self._start(request, prepared, table, contexts)
        members = slots.active
        for index in range(1, table.rows):
            with clock.step():
                slots.step()
            yield StepEvent(
                index, table.rows, _preview=lambda: self._preview(request, prepared, slots, members)
            )
        with clock.step():
            slots.step()
        latents = np.stack([slots.leave(slot) for slot in members])
        results = self._finish(request, prepared, latents, clock)
        output = InpaintOutput(results, request.seeds, clock.timings(), notes + cut)
        yield StepEvent(table.rows, table.rows, output)

    def _prepare(self, request: Request) -> list[Prepared]:
        architecture = self.manifest.architecture
        prepared = [
            prepare(
                image,
                mask,
                request.image_options,
                native=architecture.native_resolution,
                multiple=architecture.vae_scale_factor,
            )
            for image, mask in zip(request.images, request.masks, strict=True)
        ]
        sizes = {picture.image.shape[2:] for picture in prepared}
        if len(sizes) > 1:
            raise ImageError(
                "the pictures of one request would run at different sizes",
                received=", ".join(f"{width} x {height}" for height, width in sorted(sizes)),
                expected="one size",
                hint="give height and width, or call the pipeline once for each picture",
            )
        return prepared

    def _compile(self, request: Request) -> Table:
        options = request.options
        return compile_table(
            self.manifest.scheduler,
            options["scheduler"],
            options["num_inference_steps"],
            strength=options["strength"],
            eta=options["eta"],
        )

    def _check_clip_skip(self, clip_skip: int | None) -> None:
        layers = self.manifest.architecture.text_layers or 1
        if clip_skip is not None and clip_skip >= layers:
            raise ParameterError(
                "clip_skip leaves no layer of the text encoder",
                received=clip_skip,
                expected=f"0 to {layers - 1}",
                hint="a bundle of imported ONNX files has its last layer only",
            )

    def _encode_tokens(self, input_ids: NDArray[np.int64], clip_skip: int) -> NDArray[np.floating]:
        engine = self._engines["text_encoder"]
        inputs = {"input_ids": input_ids}
        if "clip_skip" in engine.inputs:
            inputs["clip_skip"] = np.full(len(input_ids), clip_skip, np.int64)
        embeddings: NDArray[np.floating] = engine.run(inputs)["last_hidden_state"]
        return embeddings

    def _encode_prompts(self, request: Request) -> tuple[list[NDArray[np.floating]], tuple[str, ...]]:
        """Contexts `[contexts, tokens, width]` of each result, in the order of the guidance's weights."""
        groups: list[tuple[str, ...]] = [request.prompts]
        if request.guidance.active:
            if request.negatives is not None:
                groups.insert(0, request.negatives)
            if request.negatives is None or request.guidance.negative == "symmetric":
                groups.insert(0, ("",) * len(request.prompts))
        # Skipping layers is for the prompt only; the other texts use the last layer, as in diffusers.
        skips = [0] * (len(groups) - 1) + [request.options["clip_skip"] or 0]
        texts = [(text, skip) for group, skip in zip(groups, skips, strict=True) for text in group]
        embeddings, warnings = self._prompts.encode(
            [text for text, _ in texts],
            clip_skip=[skip for _, skip in texts],
            long_prompts=request.options["long_prompts"],
        )
        by_group = embeddings.reshape(len(groups), len(request.prompts), *embeddings.shape[1:])
        return [by_group[:, picture] for picture in range(len(request.prompts))], warnings

    def _start(
        self,
        request: Request,
        prepared: Sequence[Prepared],
        table: Table,
        contexts: Sequence[NDArray[np.floating]],
    ) -> Slots:
        source = NoiseSource(request.noise_seeds)
        start = make_start(
            request,
            prepared,
            table.init,
            vae=self._vae,
            source=source,
            channels=self.manifest.architecture.latent_channels,
        )
        count, *shape = start.latents.shape
        noise = StepNoise(source, count, shape)
        weights = request.guidance.weights(table.rows, has_negative=request.negatives is not None)
        # Empty slots up to the row bucket: matrix products of one size give every request the same bits.
        rows = count * weights.shape[1]
        capacity = count if self._row_buckets is None else row_bucket(rows, self._row_buckets)
        slots = Slots(self._step, capacity=capacity, latent_shape=tuple(shape), row_buckets=self._row_buckets)
        for result, (latents, condition) in enumerate(zip(start.latents, start.conditions, strict=True)):
            program = Program(table, weights, contexts[result], partial(noise.draw, result))
            slots.join(program, latents, condition)
        return slots

    def _preview(
        self, request: Request, prepared: Sequence[Prepared], slots: Slots, members: Sequence[int]
    ) -> list[Image.Image]:
        decoded = [self._vae.decode(slots.denoised(slot)) for slot in members]
        return _pasted(request, prepared, decoded)

    def _finish(
        self, request: Request, prepared: Sequence[Prepared], latents: Floats, clock: Stopwatch
    ) -> list[Image.Image] | Floats:
        if request.options["output_type"] == "latent":
            return latents
        with clock.stage("image_decode"):
            decoded = [self._vae.decode(latent) for latent in latents]
        with clock.stage("paste"):
            return _results(request, prepared, decoded)

    def close(self) -> None:
        """Release the engines."""
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pasted(request: Request, prepared: Sequence[Prepared], decoded: Sequence[Floats]) -> list[Image.Image]:
    pairs = zip(request.picture_indices, decoded, strict=True)
    return [paste_back(prepared[index], picture) for index, picture in pairs]


def _results(
    request: Request, prepared: Sequence[Prepared], decoded: Sequence[Floats]
) -> list[Image.Image] | Floats:
    """Results in the type that the request asks for.

    Where nothing is pasted back, as in diffusers' way, an array keeps the VAE's precision.
    """
    options = request.options
    if (
        options["output_type"] == "np"
        and options["compat"] == "diffusers"
        and not options["padding_mask_crop"]
    ):
        return np.clip(np.stack(decoded).transpose(0, 2, 3, 1) / 2 + 0.5, 0, 1)
    return _as_asked(request, _pasted(request, prepared, decoded))


def _as_asked(request: Request, images: list[Image.Image]) -> list[Image.Image] | Floats:
    if request.options["output_type"] == "np":
        return np.stack([np.asarray(image.convert("RGB"), np.float32) / 255 for image in images])
    return images


def _untouched(request: Request, prepared: Sequence[Prepared]) -> list[Image.Image] | Floats:
    if request.options["output_type"] == "latent":
        raise ParameterError(
            "the mask leaves nothing to repaint, so there are no latents",
            received="output_type 'latent'",
            expected="a mask with something white, or output_type 'pil' or 'np'",
        )
    return _as_asked(request, [prepared[index].original.copy() for index in request.picture_indices])
