"""Which runners there are."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from inpaintrt.errors import ParameterError

__all__ = ["BASELINE", "Device", "Environment", "RunnerSpec", "choose_runners", "runner_names"]

_WORKERS = "inpaintrt_bench.workers"
Device = Literal["cpu", "cuda"]
BASELINE = "diffusers"
"""The runner whose times and images the others are compared with: PyTorch, as diffusers' users run it."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Packages for a runner.

    Attributes:
        name: Its name in the cache.
        requirements: What pip installs into it.
        on_top: Whether the packages of this process can be seen beneath.
    """

    name: str
    requirements: tuple[str, ...]
    on_top: bool = False

    @property
    def key(self) -> str:
        """Name and digest of what decides the content."""
        text = " ".join([sys.version, *self.requirements, sys.prefix if self.on_top else ""])
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, kw_only=True)
class RunnerSpec:
    """One entry of a comparison.

    Attributes:
        name: Its name in reports.
        module: The module whose `make_runner` makes it in the process that is measured.
        options: Handed to the module.
        environment: The interpreter's packages; None for those of this process.
        needs: What it cannot do without, of "bundle" and "checkpoint".
        prepares: What it makes of the checkpoint once, before it can start, by a name under which runners
            share it; None for nothing.
        notes: What a reader must know of it.
    """

    name: str
    module: str
    options: Mapping[str, str | bool | int | None] = field(default_factory=dict)
    environment: Environment | None = None
    needs: Literal["bundle", "checkpoint"]
    prepares: str | None = None
    notes: tuple[str, ...] = ()


_OPTIMUM = Environment(
    name="optimum",
    requirements=(
        "optimum-onnx[onnxruntime]==0.1.*",
        "transformers<4.58",
        "diffusers<0.40",
        "torch==2.13.*",
        "accelerate",
    ),
)


_GENAI = Environment(
    name="openvino-genai",
    requirements=(
        "openvino-genai==2026.4.*",
        "optimum-intel[openvino]==2.0.*",
        "diffusers",
        "torch==2.13.*",
        "accelerate",
    ),
)


_LIBRARIES = {"openvino": Environment(name="openvino", requirements=("openvino>=2025.3",), on_top=True)}


def _ours(backend: str) -> RunnerSpec:
    return RunnerSpec(
        name=f"inpaintrt-{backend}",
        module=f"{_WORKERS}.ours",
        options={"backend": backend},
        environment=_LIBRARIES.get(backend),
        needs="bundle",
    )


def _diffusers(
    device: Device, name: str, *, channels_last: bool = False, compile_mode: str | None = None
) -> RunnerSpec:
    options = {
        "device": device,
        "dtype": "float16" if device == "cuda" else "float32",
        "channels_last": channels_last,
        "compile": compile_mode,
    }
    compiled = ("torch.compile of the UNet and of the VAE's decoder",) if compile_mode else ()
    memory = ("channels_last",) if channels_last else ()
    return RunnerSpec(
        name=name,
        module=f"{_WORKERS}.torch_pipeline",
        options=options,
        needs="checkpoint",
        notes=compiled + memory,
    )


def _genai(name: str, *notes: str, precision: str | None = "f32", fixed_shapes: bool = False) -> RunnerSpec:
    return RunnerSpec(
        name=name,
        module=f"{_WORKERS}.openvino_genai",
        options={"precision": precision, "fixed_shapes": fixed_shapes},
        environment=_GENAI,
        needs="checkpoint",
        prepares="openvino-genai",
        notes=notes,
    )


_GENAI_RUNNERS = (
    _genai("openvino-genai", "in the precision that OpenVINO takes by itself", precision=None),
    _genai("openvino-genai-f32"),
    _genai("openvino-genai-fixed", "compiled for the size, at its first run", fixed_shapes=True),
)


def _catalogue(device: Device) -> dict[str, RunnerSpec]:
    gpu = device == "cuda"
    provider = "CUDAExecutionProvider" if gpu else "CPUExecutionProvider"
    backends = ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx") if gpu else ("onnxruntime", "openvino")
    specs = [
        _diffusers(device, BASELINE, channels_last=gpu),
        *map(_ours, backends),
        *([] if gpu else [_diffusers(device, "diffusers-channels-last", channels_last=True)]),
        _diffusers(device, "diffusers-compile", channels_last=gpu, compile_mode="default"),
        _diffusers(device, "diffusers-max-autotune", channels_last=gpu, compile_mode="max-autotune"),
        RunnerSpec(
            name="optimum",
            module=f"{_WORKERS}.optimum",
            options={"provider": provider},
            environment=_OPTIMUM,
            needs="checkpoint",
            prepares="optimum",
        ),
        *(() if gpu else _GENAI_RUNNERS),
    ]
    return {spec.name: spec for spec in specs}


def runner_names(device: Device) -> tuple[str, ...]:
    """All runners of a device, the baseline first."""
    return tuple(_catalogue(device))


def choose_runners(names: tuple[str, ...], device: Device) -> list[RunnerSpec]:
    """The runners of some names, in the catalogue's order; no names mean all.

    Raises:
        ParameterError: There is no such runner.
    """
    known = _catalogue(device)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ParameterError(
            f"there is no such runner on {device}", received=", ".join(unknown), expected=", ".join(known)
        )
    return [spec for name, spec in known.items() if not names or name in names]
