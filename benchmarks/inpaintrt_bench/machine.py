"""The machine that a measurement runs on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

from inpaintrt_bench.gpus import describe_gpus
from inpaintrt_bench.schema import Machine, Peak

__all__ = ["describe_machine", "measure_peak", "package_versions"]

_PACKAGES = (
    *("inpaintrt", "numpy", "Pillow", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx"),
    *("tokenizers", "msgspec", "torch", "diffusers", "transformers"),
)


def describe_machine(peak: Peak | None = None) -> Machine:
    """Processor, memory, GPUs, system, and versions of the packages that matter."""
    frequency = psutil.cpu_freq()
    return Machine(
        processor=_processor(),
        cores=os.cpu_count(),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        packages=package_versions(_PACKAGES),
        memory=psutil.virtual_memory().total,
        clock_mhz=frequency.current if frequency else None,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        gpus=describe_gpus(),
        peak=peak,
    )


def measure_peak(device: str) -> Peak:
    """The speed of a matrix product, in a process of its own.

    Args:
        device: "cpu" or "cuda".

    Raises:
        subprocess.CalledProcessError: There is no such device, or nothing that multiplies on it.
    """
    command = [sys.executable, "-m", "inpaintrt_bench.workers.peak", device]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return msgspec.convert(json.loads(result.stdout), Peak)


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    return {name: number for name in names if (number := _version(name)) is not None}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
