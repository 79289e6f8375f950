"""The runtime of this project, on any of its backends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from inpaintrt.backends import Engine
from inpaintrt.bundle import TensorSpec
from inpaintrt.loading import LoadedBundle, load_bundle
from inpaintrt.options import Options
from inpaintrt.output import InpaintOutput
from inpaintrt.pipeline import InpaintPipeline
from inpaintrt_bench.workers.messages import Case, Outcome, Source

__all__ = ["OurRunner", "TimedEngine", "make_runner", "paint"]


class TimedEngine:
    """An engine that adds up the time and the number of its runs.

    Args:
        engine: The engine itself.

    Attributes:
        seconds: Of all runs since the last `reset`.
        runs: Their number.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.reset()

    def reset(self) -> None:
        """Count from 0 again."""
        self.seconds, self.runs = 0.0, 0

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Inputs by name."""
        return self._engine.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Outputs by name."""
        return self._engine.outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the network once."""
        started = time.perf_counter()
        outputs = self._engine.run(inputs)
        self.seconds += time.perf_counter() - started
        self.runs += 1
        return outputs

    def close(self) -> None:
        """Release the network."""
        self._engine.close()


class OurRunner:
    """A bundle on one backend, asked for diffusers' very images."""

    def __init__(self) -> None:
        self._loaded: LoadedBundle | None = None

    def prepare(self, source: Source) -> None:
        """A bundle is all that is needed."""

    def start(self, source: Source) -> None:
        """Load the bundle, its hashes verified.

        Raises:
            InpaintError: The bundle or the backend cannot be used.
        """
        if source.bundle is None:
            raise ValueError("there is no bundle: name one with --bundle")
        options = dict(source.options)
        backend = options.pop("backend")
        if source.threads is not None:
            options["threads"] = source.threads
        self._loaded = load_bundle(source.bundle, backend=backend, backend_options=options)

    def run(self, case: Case) -> Outcome:
        """Paint once."""
        if self._loaded is None:
            raise RuntimeError("the runner was not started")
        return paint(self._loaded, case)

    def close(self) -> None:
        """Release the engines."""
        for engine in self._loaded.engines.values() if self._loaded is not None else ():
            engine.close()
        self._loaded = None


def paint(loaded: LoadedBundle, case: Case) -> Outcome:
    """Paint once with a new pipeline, which has no embedding of a prompt from the run before."""
    text_encoder = TimedEngine(loaded.engines["text_encoder"])
    pipe = InpaintPipeline(replace(loaded, engines={**loaded.engines, "text_encoder": text_encoder}))
    with Image.open(case.image) as image, Image.open(case.mask_image) as mask:
        image.load()
        mask.load()
        started = time.perf_counter()
        output = pipe(
            case.prompt,
            image,
            mask,
            **_options(case),
        )
        total = time.perf_counter() - started
    return _outcome(output, total, text_encoder.seconds)


def _options(case: Case) -> Options:
    """What a case asks for; its quality stands in the place of steps and sampler, unless it is exact."""
    options = Options(
        height=case.height,
        width=case.width,
        guidance_scale=case.guidance_scale,
        strength=case.strength,
        seed=case.seed,
        num_images_per_prompt=case.batch,
        compat="diffusers",
        quality=case.quality,
    )
    if case.quality == "exact":
        options["num_inference_steps"] = case.num_inference_steps
        options["scheduler"] = case.sampler
    return options


def _outcome(output: InpaintOutput, total: float, text_encode: float) -> Outcome:
    times = output.timings
    stages = {
        "prepare": times.prepare,
        "tokenise": times.prompts - text_encode,
        "text_encode": text_encode,
        "image_encode": times.image_encode,
        "denoise": times.denoise,
        "image_decode": times.image_decode,
        "paste": times.paste,
    }
    images = np.stack([np.asarray(image) for image in output.images])
    return Outcome(images=images, total=total, steps=times.steps, stages=stages)


def make_runner() -> OurRunner:
    """The runner of this module."""
    return OurRunner()
