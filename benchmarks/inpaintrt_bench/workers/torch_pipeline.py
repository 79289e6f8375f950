"""diffusers' inpainting pipeline in PyTorch: eager, or compiled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import torch
from PIL import Image

from inpaintrt_bench.workers.clocks import Clock, HostClock, StageWatch
from inpaintrt_bench.workers.messages import Case, Outcome, Source

__all__ = ["CudaClock", "TorchRunner", "float32_noise", "make_runner", "paint", "watch_pipeline"]


class CudaClock:
    """A GPU's clock: CUDA events on the current stream."""

    def mark(self) -> torch.cuda.Event:
        """This moment of the stream."""
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """From one event to another, once both have happened."""
        end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds / 1000


class TorchRunner:
    """diffusers as its users run it, with the checkpoint's own scheduler or the case's.

    Options of the source: `device` ("cpu" or "cuda"), `dtype` ("float32" or "float16"), `channels_last`, and
    `compile`: a mode of torch.compile for the UNet and the VAE's decoder, or None.
    """

    def __init__(self) -> None:
        self._pipe: Any = None
        self._scheduler: Any = None
        self._watch = StageWatch(HostClock())

    def prepare(self, source: Source) -> None:
        """A checkpoint is all that is needed."""

    def start(self, source: Source) -> None:
        """Load the checkpoint."""
        options = source.options
        if options["device"] == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(f"PyTorch {torch.__version__} sees no CUDA device")
        if source.threads is not None:
            torch.set_num_threads(source.threads)
        pipe = diffusers.StableDiffusionInpaintPipeline.from_pretrained(
            source.checkpoint, torch_dtype=getattr(torch, options["dtype"]), safety_checker=None
        )
        pipe.to(options["device"])
        pipe.set_progress_bar_config(disable=True)
        if options.get("channels_last"):
            pipe.unet.to(memory_format=torch.channels_last)
            pipe.vae.to(memory_format=torch.channels_last)
        if options.get("compile"):
            pipe.unet = torch.compile(pipe.unet, mode=options["compile"])
            pipe.vae.decode = torch.compile(pipe.vae.decode, mode=options["compile"])
        clock: Clock = CudaClock() if options["device"] == "cuda" else HostClock()
        self._pipe, self._scheduler, self._watch = pipe, pipe.scheduler, StageWatch(clock)
        watch_pipeline(pipe, self._watch)

    def run(self, case: Case) -> Outcome:
        """Paint once."""
        return paint(self._pipe, self._scheduler, self._watch, case)

    def close(self) -> None:
        """Forget the checkpoint."""
        self._pipe = None


def watch_pipeline(pipe: Any, watch: StageWatch) -> None:  # noqa: ANN401
    """Time the parts of a diffusers pipeline."""
    watch.follow(pipe.image_processor, "preprocess", "prepare")
    watch.follow(pipe.mask_processor, "preprocess", "prepare")
    watch.follow(type(pipe.tokenizer), "__call__", "tokenise")
    watch.follow(pipe.text_encoder, "forward", "text_encode")
    watch.follow(pipe.vae, "encode", "image_encode")
    watch.follow_loop(pipe, "progress_bar")
    watch.follow(pipe.vae, "decode", "image_decode")
    watch.follow(pipe.image_processor, "postprocess", "paste")


@contextmanager
def float32_noise() -> Iterator[None]:
    """Let `torch.randn` draw in float32 what is then rounded to the dtype that was asked for.

    diffusers draws in the dtype of its networks. In half precision PyTorch draws other numbers than in
    float32: versions before 2.13 do for every shape, 2.13 does where the size is no multiple of 16. The noise
    would then depend on the version, and not be that of the other runners.
    """
    draw = torch.randn

    def randn(*size: Any, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:  # noqa: ANN401
        return draw(*size, dtype=torch.float32, **options).to(dtype or torch.get_default_dtype())

    with patch.object(torch, "randn", randn):
        yield


def paint(pipe: Any, own_scheduler: Any, watch: StageWatch, case: Case) -> Outcome:  # noqa: ANN401
    """Paint once with a diffusers pipeline whose parts are watched."""
    name, changes = case.scheduler or (type(own_scheduler).__name__, {})
    pipe.scheduler = getattr(diffusers, name).from_config(own_scheduler.config, **changes)

    def end_step(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        watch.end_step()
        return tensors

    with Image.open(case.image) as image, Image.open(case.mask_image) as mask:
        image.load()
        mask.load()
        watch.reset()
        with float32_noise():
            started = time.perf_counter()
            output = pipe(
                case.prompt,
                image=image,
                mask_image=mask,
                height=case.height,
                width=case.width,
                num_inference_steps=case.num_inference_steps,
                guidance_scale=case.guidance_scale,
                strength=case.strength,
                num_images_per_prompt=case.batch,
                generator=torch.Generator("cpu").manual_seed(case.seed),
                callback_on_step_end=end_step,
            )
            total = time.perf_counter() - started
    images = np.stack([np.asarray(image) for image in output.images])
    return Outcome(images=images, total=total, steps=watch.steps(), stages=watch.stages())


def make_runner() -> TorchRunner:
    """The runner of this module."""
    return TorchRunner()
