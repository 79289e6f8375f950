"""From a picture, a mask and a prompt to an inpainted picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.backends import DEFAULT_BACKEND
from inpaintrt.denoiser import Slots, row_bucket
from inpaintrt.images import ImageSource, Prepared
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.output import InpaintOutput, StepEvent
from inpaintrt.request import Options, Request, make_request
from inpaintrt.stages import Entry, Stages, pasted, results, untouched
from inpaintrt.timing import Stopwatch

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

    Attributes:
        manifest: The bundle's manifest.
        stages: What happens to a request before and after its steps.
    """

    def __init__(self, loaded: LoadedBundle, *, row_buckets: Sequence[int] | None = None) -> None:
        self.manifest = loaded.manifest
        self._row_buckets = row_buckets
        self.stages = Stages(loaded)

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
        table = self.stages.compile(request)
        with clock.stage("prepare"):
            prepared = self.stages.prepare(request)
        notes = tuple(dict.fromkeys(note for picture in prepared for note in picture.warnings))
        if all(picture.empty for picture in prepared):
            unchanged = untouched(request, prepared)
            yield StepEvent(0, 0, InpaintOutput(unchanged, request.seeds, clock.timings(), notes))
            return
        with clock.stage("prompts"):
            contexts = self.stages.encode_prompts(request)
        with clock.stage("image_encode"):
            encoded = self.stages.encode_pictures(request, prepared)
            slots = self._enter(self.stages.start(request, prepared, table, contexts, encoded))
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
        finished = self._finish(request, prepared, latents, clock)
        output = InpaintOutput(finished, request.seeds, clock.timings(), notes + contexts.warnings)
        yield StepEvent(table.rows, table.rows, output)

    def _enter(self, entries: Sequence[Entry]) -> Slots:
        count, rows = len(entries), sum(entry.program.weights.shape[1] for entry in entries)
        # Empty slots up to the row bucket: matrix products of one size give every request the same bits.
        capacity = count if self._row_buckets is None else row_bucket(rows, self._row_buckets)
        channels, height, width = entries[0].latents.shape
        slots = Slots(
            self.stages.step,
            capacity=capacity,
            latent_shape=(channels, height, width),
            row_buckets=self._row_buckets,
        )
        for entry in entries:
            slots.join(*entry)
        return slots

    def _preview(
        self, request: Request, prepared: Sequence[Prepared], slots: Slots, members: Sequence[int]
    ) -> list[Image.Image]:
        decoded = [self.stages.decode(slots.denoised(slot)) for slot in members]
        return pasted(request, prepared, decoded)

    def _finish(
        self, request: Request, prepared: Sequence[Prepared], latents: Floats, clock: Stopwatch
    ) -> list[Image.Image] | Floats:
        if request.options["output_type"] == "latent":
            return latents
        with clock.stage("image_decode"):
            decoded = [self.stages.decode(latent) for latent in latents]
        with clock.stage("paste"):
            return results(request, prepared, decoded)

    def close(self) -> None:
        """Release the engines."""
        self.stages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
