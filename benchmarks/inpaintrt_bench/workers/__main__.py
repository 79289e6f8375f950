"""The process that is measured: `python -m inpaintrt_bench.workers MODULE` reads orders, and answers each.

An order is a JSON object with `do`: "prepare", "start", "run" or "close". An answer has what was asked for,
or `error` with one line and `trace` with the whole story.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from inpaintrt_bench.workers.messages import Case, Runner, Source

__all__ = ["main"]

_PACKAGES = (
    *("inpaintrt", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "numpy"),
    *("torch", "diffusers", "transformers", "optimum", "optimum-onnx", "optimum-intel"),
    *("openvino-genai", "openvino-tokenizers"),
)
_STATUS = Path("/proc/self/status")
_KIBIBYTE = 1024


class _Worker:
    """Answers orders with a runner, whose module is imported with the first one."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._runner: Runner | None = None
        self._import_seconds = 0.0

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        runner = self._runner or self._load()
        match order["do"]:
            case "prepare":
                runner.prepare(Source(**order["source"]))
                return {}
            case "start":
                return self._start(runner, Source(**order["source"]))
            case "run":
                return _run(runner, Case(**order["case"]), Path(order["images"]))
            case _:
                runner.close()
                return {}

    def _load(self) -> Runner:
        started = time.perf_counter()
        runner: Runner = importlib.import_module(self._module).make_runner()
        self._import_seconds = time.perf_counter() - started
        self._runner = runner
        return runner

    def _start(self, runner: Runner, source: Source) -> dict[str, Any]:
        started = time.perf_counter()
        runner.start(source)
        seconds = time.perf_counter() - started
        return {"import": self._import_seconds, "start": seconds, "versions": _versions()}


def _run(runner: Runner, case: Case, images: Path) -> dict[str, Any]:
    outcome = runner.run(case)
    np.save(images, outcome.images)
    return {
        "total": outcome.total,
        "steps": outcome.steps,
        "stages": outcome.stages,
        "notes": outcome.notes,
        "peak_resident": _peak_resident(),
    }


def _peak_resident() -> int | None:
    """Linux's VmHWM; `ru_maxrss` would also count the process that started this one."""
    if not _STATUS.exists():
        return None
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * _KIBIBYTE


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _serve(worker: _Worker, orders: TextIO, answers: TextIO) -> None:
    for line in orders:
        order = json.loads(line)
        try:
            answer = worker.answer(order)
        except Exception as error:  # noqa: BLE001  whatever a library raises is a row of the report
            text = f"{type(error).__name__}: {error}".strip()
            answer = {"error": text, "trace": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if order["do"] == "close":
            return


def main() -> None:
    """Serve orders from standard input until it ends; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answers:
        _serve(_Worker(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
