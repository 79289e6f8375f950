"""The machine that a measurement runs on, and its GPUs as NVML sees them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped]
import pynvml  # type: ignore[import-untyped]

from inpaintrt_bench.report.schema import Gpu, Machine, Peak, Series, make_series

__all__ = [
    "GpuReadings",
    "clock_mhz",
    "describe_gpus",
    "describe_machine",
    "device_bytes",
    "joules",
    "measure_peak",
    "package_versions",
]

_PACKAGES = (
    *("inpaintrt", "numpy", "Pillow", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx"),
    *("tokenizers", "msgspec", "torch", "diffusers", "transformers"),
)
_MILLI = 1e-3


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


@contextmanager
def _handles() -> Iterator[list[Any]]:
    """All GPUs; none where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield []
        return
    try:
        yield [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def describe_gpus() -> tuple[Gpu, ...]:
    """Name, memory, driver, clocks and power limit of each GPU."""
    with _handles() as handles:
        return tuple(_describe(handle) for handle in handles)


def _describe(handle: Any) -> Gpu:  # noqa: ANN401
    capability = _ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    limit = _ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    return Gpu(
        name=pynvml.nvmlDeviceGetName(handle),
        memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=pynvml.nvmlSystemGetDriverVersion(),
        compute_capability=None if capability is None else ".".join(map(str, capability)),
        clock_mhz=_ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
        max_clock_mhz=_ask(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_SM),
        power_limit_watts=None if limit is None else limit * _MILLI,
    )


def clock_mhz() -> int | None:
    """The clock of the first GPU's multiprocessors now; None where it is unknown."""
    with _handles() as handles:
        return _ask(pynvml.nvmlDeviceGetClockInfo, handles[0], pynvml.NVML_CLOCK_SM) if handles else None


def joules() -> float | None:
    """Energy that the first GPU has used since its driver was loaded; None where it is unknown."""
    with _handles() as handles:
        energy = _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, handles[0]) if handles else None
        return None if energy is None else energy * _MILLI


def device_bytes(pid: int) -> int | None:
    """Memory of the first GPU that a process holds; None where it is unknown."""
    with _handles() as handles:
        processes = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handles[0]) if handles else None
        held = [process.usedGpuMemory for process in processes or () if process.pid == pid]
        return held[0] if held else None


class GpuReadings:
    """What NVML tells after each run of a process on the first GPU; nothing where there is none.

    Attributes:
        joules: That the GPU used during each run.
        bytes: Of device memory that the process held.
        clocks: Of the multiprocessors, in MHz.
    """

    def __init__(self) -> None:
        self.joules: list[float] = []
        self.bytes: list[int] = []
        self.clocks: list[int] = []

    def take(self, pid: int, joules_before: float | None) -> None:
        """Ask NVML after a run.

        Args:
            pid: Of the process that ran.
            joules_before: What `joules` returned before it.
        """
        after, held, clock = joules(), device_bytes(pid), clock_mhz()
        if after is not None and joules_before is not None:
            self.joules.append(after - joules_before)
        if held is not None:
            self.bytes.append(held)
        if clock is not None:
            self.clocks.append(clock)

    def series(self, warm_up: int) -> dict[str, Series]:
        """The series "energy" and "gpu_clock", as far as there are readings."""
        series = {}
        if self.joules:
            series["energy"] = make_series(self.joules, "J", warm_up=warm_up)
        if self.clocks:
            series["gpu_clock"] = make_series(self.clocks, "MHz", warm_up=warm_up)
        return series


def _ask(question: Any, *arguments: Any) -> Any:  # noqa: ANN401
    """NVML's answer, or None where this GPU or driver has none."""
    try:
        return question(*arguments)
    except pynvml.NVMLError:
        return None
