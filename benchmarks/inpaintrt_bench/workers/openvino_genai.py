"""openvino-genai: Intel's pipeline in C++, on networks that optimum-intel has converted."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from numpy.typing import NDArray
from openvino import opset13
from PIL import Image

from inpaintrt_bench.workers.checkpoints import readable_checkpoint
from inpaintrt_bench.workers.messages import Case, Outcome, Source

__all__ = ["GenaiRunner", "make_runner"]

_DEVICE = "CPU"
_MILLISECONDS, _MICROSECONDS = 1000, 1_000_000  # of a second
_SCHEDULER = Path("scheduler") / "scheduler_config.json"


class _Draws(openvino_genai.Generator):  # type: ignore[misc]
    """Hands out noise that was drawn before, in its order."""

    def __init__(self, path: str) -> None:
        super().__init__()
        with np.load(path) as file:
            self._draws = [file[name] for name in file.files]

    def randn_tensor(self, shape: Sequence[int]) -> openvino.Tensor:
        shapes = [draw.shape for draw in self._draws]
        if not shapes or shapes[0] != tuple(shape):
            raise ValueError(f"noise of the shape {tuple(shape)} was asked for; what is left is {shapes}")
        return openvino.Tensor(self._draws.pop(0))

    def next(self) -> float:
        raise NotImplementedError("noise is handed out as whole tensors")

    def seed(self, new_seed: int) -> None:
        raise NotImplementedError(f"the noise was drawn before, from another seed than {new_seed}")


class GenaiRunner:
    """`InpaintingPipeline`, with the noise that diffusers draws.

    Options of the source: `precision`, a value for INFERENCE_PRECISION_HINT or None for what OpenVINO takes
    by itself, and `fixed_shapes`: whether the networks are compiled for the case's size, at its first run.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._pipe: Any = None
        self._properties: dict[str, str | int] = {}
        self._fixed_shapes = False
        self._compiled: tuple[int, int, int, float] | None = None

    def prepare(self, source: Source) -> None:
        """Convert the checkpoint, unless an earlier process did."""
        folder = _folder(source)
        if folder.is_dir():
            return
        with tempfile.TemporaryDirectory(dir=source.work) as scratch:
            checkpoint = readable_checkpoint(Path(str(source.checkpoint)), Path(scratch) / "checkpoint")
            converted = Path(scratch) / "converted"
            command = ["optimum.commands.optimum_cli", "export", "openvino", "--task", "inpainting"]
            options = ["--weight-format", "fp32", "--model", str(checkpoint), str(converted)]
            subprocess.run([sys.executable, "-m", *command, *options], check=True)
            converted.rename(folder)

    def start(self, source: Source) -> None:
        """Load what `prepare` converted."""
        self._folder = _folder(source)
        self._fixed_shapes = source.options["fixed_shapes"]
        if source.options["precision"] is not None:
            self._properties["INFERENCE_PRECISION_HINT"] = source.options["precision"]
        if source.threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = source.threads
        if self._fixed_shapes:
            self._pipe = openvino_genai.InpaintingPipeline(self._folder)
        else:
            self._pipe = openvino_genai.InpaintingPipeline(self._folder, _DEVICE, **self._properties)

    def run(self, case: Case) -> Outcome:
        """Paint once."""
        self._pipe.set_scheduler(self._scheduler(case))
        noise = _Draws(case.noise)
        with Image.open(case.image) as image, Image.open(case.mask_image) as mask:
            image.load()
            mask.load()
            started = time.perf_counter()
            if self._fixed_shapes:
                self._compile(case)
            result = self._pipe.generate(
                case.prompt,
                _pixels(image),
                _pixels(mask),
                height=case.height,
                width=case.width,
                num_inference_steps=case.num_inference_steps,
                guidance_scale=case.guidance_scale,
                strength=case.strength,
                num_images_per_prompt=case.batch,
                generator=noise,
            )
            images = np.array(result.data)
            total = time.perf_counter() - started
        return self._outcome(images, total)

    def _scheduler(self, case: Case) -> Any:  # noqa: ANN401
        """The checkpoint's own or the case's; openvino-genai reads it from a file."""
        config = json.loads((self._folder / _SCHEDULER).read_text())
        name, changes = case.scheduler or (config["_class_name"], {})
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / _SCHEDULER.name
            path.write_text(json.dumps({**config, **changes, "_class_name": name}))
            return openvino_genai.Scheduler.from_config(path)

    def _compile(self, case: Case) -> None:
        shape = (case.batch, case.height, case.width, case.guidance_scale)
        if self._compiled == shape:
            return
        if self._compiled is not None:  # what is compiled cannot be compiled for another size
            self._pipe = openvino_genai.InpaintingPipeline(self._folder)
        self._pipe.reshape(*shape)
        self._pipe.compile(_DEVICE, **self._properties)
        self._compiled = shape

    def _outcome(self, images: NDArray[np.uint8], total: float) -> Outcome:
        metrics = self._pipe.get_performance_metrics()
        steps = tuple(step / _MICROSECONDS for step in metrics.raw_metrics.iteration_durations)
        milliseconds = {
            "text_encode": sum(metrics.get_text_encoder_infer_duration().values()),
            "image_encode": metrics.get_vae_encoder_infer_duration(),
            "image_decode": metrics.get_vae_decoder_infer_duration(),
        }
        stages = {stage: duration / _MILLISECONDS for stage, duration in milliseconds.items()}
        precision = self._properties.get("INFERENCE_PRECISION_HINT") or _own_precision()
        return Outcome(
            images=images,
            total=total,
            steps=steps,
            stages={**stages, "denoise": sum(steps)},
            notes=(f"computes in {precision}", "times of single stages in whole milliseconds"),
        )

    def close(self) -> None:
        """Forget the networks."""
        self._pipe = None


def _pixels(image: Image.Image) -> openvino.Tensor:
    """`[1, height, width, 3]` uint8, as in openvino-genai's samples."""
    return openvino.Tensor(np.asarray(image.convert("RGB"))[None])


def _own_precision() -> str:
    """What OpenVINO computes in on this CPU if nothing is asked for: only compiled networks know."""
    parameter = opset13.parameter([1], np.float32)
    model = openvino.Model([opset13.relu(parameter)], [parameter], "precision")
    compiled = openvino.Core().compile_model(model, _DEVICE)
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def _folder(source: Source) -> Path:
    return Path(source.work) / "openvino"


def make_runner() -> GenaiRunner:
    """The runner of this module."""
    return GenaiRunner()
