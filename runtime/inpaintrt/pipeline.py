"""From a prompt, and an image and a mask where there are any, to images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaintrt.backends import DEFAULT_BACKEND
from inpaintrt.flow import Flow, MicroBatches, Stage
from inpaintrt.images import ImageSource
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.lora import LoraSource
from inpaintrt.output import InpaintOutput, StepEvent
from inpaintrt.request import Options, Request, make_request
from inpaintrt.stages import Stages

__all__ = ["InpaintPipeline"]


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
        loras: Sequence[LoraSource] = (),
        **backend_options: object,
    ) -> Self:
        """Load a bundle.

        Args:
            bundle: The name of a bundle in the engine store, or a path.
            backend: What runs the engines; there is no fallback to another.
            verify: Compare every file with its hash. Only skip this for a store that you trust.
            row_buckets: Numbers of UNet rows to pad a step to; None for exactly as many as there are.
            loras: LoRA files, each alone or with a scale, such as `[("style.safetensors", 0.8)]`, applied in
                this order; see docs/lora.md. The bundle on the disk stays as it is; "tensorrt" and
                "tensorrt-rtx" need plans that `inpaintrt build` made with the same LoRAs.
            backend_options: What the backend lets its users set; `threads` for "onnxruntime" and "openvino".

        Raises:
            BundleError: There is no such bundle, or it is damaged.
            EngineUnavailableError: The backend is unknown, or cannot run here.
            LoraError: A LoRA cannot be read, or cannot be applied to the bundle or by the backend.
        """
        loaded = load_bundle(
            bundle, backend=backend, verify=verify, backend_options=backend_options, loras=loras
        )
        return cls(loaded, row_buckets=row_buckets)

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        image: ImageSource | Sequence[ImageSource] | None = None,
        mask_image: ImageSource | Sequence[ImageSource] | None = None,
        **options: Unpack[Options],
    ) -> InpaintOutput:
        """Paint what the prompt says: where the mask is white, over the whole image, or without any image.

        Args:
            prompt: What to paint; one text, or one for each image. None where there are `prompt_embeds`.
            image: Images as PIL images, arrays, tensors, paths, or bytes, see `inpaintrt.images.load_image`;
                None for text-to-image.
            mask_image: White where to paint, black where to keep; one for each image, or one for all. None
                for image-to-image.
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
        prompt: str | Sequence[str] | None = None,
        image: ImageSource | Sequence[ImageSource] | None = None,
        mask_image: ImageSource | Sequence[ImageSource] | None = None,
        **options: Unpack[Options],
    ) -> Iterator[StepEvent]:
        """Paint step by step: an event after each step, the last one with the results.

        Closing the iterator cancels the request. Arguments and errors are those of calling the pipeline.
        """
        stages = self.stages
        return self._run(make_request(prompt, image, mask_image, options, stages.family, stages.qualities))

    def _run(self, request: Request) -> Iterator[StepEvent]:
        flow = Flow(self.stages, request)
        steps = 0
        flow.prepare()
        if not flow.unchanged:
            _exhaust(flow.encode())
            with flow.clock.stage("image_encode"):
                batches = MicroBatches(self.stages.step, flow, self._row_buckets)
            steps = batches.total
            yield from _denoise(flow, batches)
            _exhaust(flow.decode())
        images = flow.paste()
        output = InpaintOutput(images, request.seeds, flow.clock.timings(), flow.warnings)
        yield StepEvent(steps, steps, output)

    def close(self) -> None:
        """Release the engines."""
        self.stages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _denoise(flow: Flow, batches: MicroBatches) -> Iterator[StepEvent]:
    """Do all steps; the event of the last is the caller's, since it has the results."""
    flow.enter(Stage.DENOISING)
    for index in range(1, batches.total + 1):
        with flow.clock.step(batches.clock):
            batches.step()
        if index < batches.total:
            yield StepEvent(index, batches.total, _preview=lambda: _preview(flow, batches))


def _preview(flow: Flow, batches: MicroBatches) -> list[Image.Image]:
    decoded: dict[int, NDArray[np.float32]] = {}
    _exhaust(flow.decode_estimates(flow.preview_vae, batches.estimates(), decoded))
    return flow.paste_estimates(decoded)


def _exhaust(pieces: Iterator[None]) -> None:
    for _ in pieces:
        pass
