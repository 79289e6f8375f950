"""OpenVINO under our own pipeline: the bundle's networks in another engine, a yardstick for CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino  # type: ignore[import-not-found]

from inpaintrt.backends.engine import check_inputs
from inpaintrt.bundle import Build, TensorSpec, load_manifest, verify_files
from inpaintrt.loading import LoadedBundle
from inpaintrt.prompts import PromptTokenizer
from inpaintrt_bench.workers.messages import Case, Outcome, Source
from inpaintrt_bench.workers.ours import paint

__all__ = ["OpenVinoEngine", "OpenVinoRunner", "make_runner"]

_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class OpenVinoEngine:
    """A network in OpenVINO on the CPU, compiled for each set of shapes: fixed shapes run faster."""

    def __init__(self, core: openvino.Core, path: Path, build: Build) -> None:
        self._core, self._path, self._build = core, path, build
        self._compiled: dict[_Shapes, Any] = {}

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Inputs by name."""
        return self._build.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Outputs by name."""
        return self._build.outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the network once.

        Raises:
            EngineInputError: The inputs do not fit.
        """
        check_inputs(self._build.inputs, inputs)
        shapes = tuple((name, array.shape) for name, array in inputs.items())
        if shapes not in self._compiled:
            self._compiled[shapes] = self._compile(dict(shapes))
        results = self._compiled[shapes].infer(dict(inputs))
        return {name: results[name].copy() for name in self._build.outputs}

    def _compile(self, shapes: dict[str, tuple[int, ...]]) -> Any:  # noqa: ANN401
        model = self._core.read_model(self._path)
        model.reshape({name: openvino.PartialShape(list(shape)) for name, shape in shapes.items()})
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        return self._core.compile_model(model, "CPU", settings).create_infer_request()

    def close(self) -> None:
        """Release the network."""
        self._compiled.clear()


class OpenVinoRunner:
    """A bundle whose networks OpenVINO runs, in float32."""

    def __init__(self) -> None:
        self._loaded: LoadedBundle | None = None

    def prepare(self, source: Source) -> None:
        """A bundle is all that is needed."""

    def start(self, source: Source) -> None:
        """Open the bundle; networks are compiled when their shapes are known, in the first run."""
        if source.bundle is None:
            raise ValueError("there is no bundle: name one with --bundle")
        folder = Path(source.bundle)
        manifest = load_manifest(folder)
        verify_files(manifest, folder)
        core = openvino.Core()
        if source.threads is not None:
            core.set_property("CPU", {"INFERENCE_NUM_THREADS": source.threads})
        engines = {
            name: OpenVinoEngine(core, folder / build.file, build)
            for name, build in manifest.exported.items()
        }
        settings = manifest.tokenizers["text_encoder"]
        tokenizer = PromptTokenizer(
            folder / settings.file,
            max_length=settings.max_length,
            bos_id=settings.start_token,
            eos_id=settings.end_token,
            pad_id=settings.pad_token,
        )
        self._loaded = LoadedBundle(manifest, engines, {"text_encoder": tokenizer})

    def run(self, case: Case) -> Outcome:
        """Paint once."""
        if self._loaded is None:
            raise RuntimeError("the runner was not started")
        return paint(self._loaded, case)

    def close(self) -> None:
        """Release the networks."""
        self._loaded = None


def make_runner() -> OpenVinoRunner:
    """The runner of this module."""
    return OpenVinoRunner()
