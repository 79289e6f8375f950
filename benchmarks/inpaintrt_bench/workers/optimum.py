"""optimum-onnx: diffusers' pipeline around ONNX Runtime, which needs older libraries than the export does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnxruntime
from optimum.onnxruntime import ORTStableDiffusionInpaintPipeline  # type: ignore[import-not-found]

from inpaintrt_bench.workers.checkpoints import readable_checkpoint
from inpaintrt_bench.workers.clocks import HostClock, StageWatch
from inpaintrt_bench.workers.messages import Case, Outcome, Source
from inpaintrt_bench.workers.torch_pipeline import paint, watch_pipeline

__all__ = ["OptimumRunner", "make_runner"]


class OptimumRunner:
    """optimum's own export of the checkpoint; the option `provider` names ONNX Runtime's provider."""

    def __init__(self) -> None:
        self._pipe: Any = None
        self._scheduler: Any = None
        self._watch = StageWatch(HostClock())

    def prepare(self, source: Source) -> None:
        """Export the checkpoint, unless an earlier process did."""
        folder = _folder(source)
        if not (folder / "model_index.json").is_file():
            with tempfile.TemporaryDirectory(dir=source.work) as copy:
                readable = readable_checkpoint(Path(str(source.checkpoint)), Path(copy) / "checkpoint")
                pipe = ORTStableDiffusionInpaintPipeline.from_pretrained(
                    str(readable), export=True, safety_checker=None
                )
                pipe.save_pretrained(folder)

    def start(self, source: Source) -> None:
        """Load what `prepare` exported."""
        settings = onnxruntime.SessionOptions()
        if source.threads is not None:
            settings.intra_op_num_threads = source.threads
        pipe = ORTStableDiffusionInpaintPipeline.from_pretrained(
            _folder(source),
            provider=source.options["provider"],
            session_options=settings,
            safety_checker=None,
        )
        pipe.set_progress_bar_config(disable=True)
        self._pipe, self._scheduler = pipe, pipe.scheduler
        watch_pipeline(pipe, self._watch)

    def run(self, case: Case) -> Outcome:
        """Paint once."""
        return paint(self._pipe, self._scheduler, self._watch, case)

    def close(self) -> None:
        """Forget the networks."""
        self._pipe = None


def _folder(source: Source) -> Path:
    return Path(source.work) / "optimum-onnx"


def make_runner() -> OptimumRunner:
    """The runner of this module."""
    return OptimumRunner()
