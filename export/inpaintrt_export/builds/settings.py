"""What plans are built for: backend, GPUs, image sizes and batch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from inpaintrt.errors import ParameterError
from inpaintrt.prompts.tokenizing import MAX_WINDOWS
from inpaintrt.validation import checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inpaintrt.backends.tensorrt_library import PlanBackend, PlanLibrary
    from inpaintrt.bundle import Precision
    from inpaintrt.lora import Lora

__all__ = ["BuildSettings", "VariantBackend", "check_targets", "parse_resolution"]

VariantBackend = Literal["onnxruntime", "onnxruntime-cuda"]
"""Backends that run ONNX files."""

_LARGEST_BATCH = 64
_RESOLUTION = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


@dataclass(frozen=True)
class BuildSettings:
    """What plans are built for.

    Attributes:
        backend: "tensorrt" or "tensorrt-rtx".
        targets: Compute capabilities such as "sm89"; empty for a portable plan (TensorRT-RTX), or for the GPU
            of this machine (TensorRT).
        resolutions: Heights and widths in pixels; empty for the checkpoint's native one.
        max_batch: Requests that share a step, from 1.
        prompt_windows: The longest prompts, in windows of the text encoder; from 1.
        precision: What the networks compute in.
        fresh: Drop the sizes of earlier builds instead of adding to them.
        loras: What changes the weights, in the order in which it is applied.

    Raises:
        ParameterError: `max_batch` or `prompt_windows` is out of range, or a target is no compute capability.
    """

    backend: PlanBackend
    targets: tuple[str, ...] = ()
    resolutions: tuple[tuple[int, int], ...] = ()
    max_batch: int = 4
    prompt_windows: int = 1
    precision: Precision = "fp16"
    fresh: bool = False
    loras: tuple[Lora, ...] = ()

    def __post_init__(self) -> None:
        checked("max_batch", self.max_batch, Annotated[int, Meta(ge=1, le=_LARGEST_BATCH)])
        checked("prompt_windows", self.prompt_windows, Annotated[int, Meta(ge=1, le=MAX_WINDOWS)])
        wrong = [target for target in self.targets if not re.fullmatch(r"sm[0-9]{2,3}", target)]
        if wrong:
            raise ParameterError(
                "a target is not a compute capability",
                received=", ".join(wrong),
                expected="names such as sm86, sm89, sm120",
            )


def parse_resolution(text: str) -> tuple[int, int]:
    """Height and width of a text such as "768x512", which is width x height.

    Raises:
        ParameterError: It is not of that form.
    """
    match = _RESOLUTION.fullmatch(text.strip().lower())
    if match is None:
        raise ParameterError(
            "this is not an image size", received=repr(text), expected="WIDTHxHEIGHT: 768x512"
        )
    width, height = int(match[1]), int(match[2])
    return height, width


def check_targets(library: PlanLibrary, targets: Sequence[str]) -> None:
    """Check that a library builds for GPUs of these compute capabilities.

    Raises:
        ParameterError: It does not, or it builds for the GPU of this machine only.
    """
    if not targets:
        return
    if not library.names_targets:
        raise ParameterError(
            "TensorRT builds for the GPU of this machine only",
            received=f"targets {', '.join(targets)}",
            expected="no targets",
            hint="build on the GPU that will run the plan, or use --backend tensorrt-rtx",
        )
    members = library.module.ComputeCapability.__members__
    known = sorted(
        (name.lower() for name in members if name.startswith("SM")), key=lambda name: int(name[2:])
    )
    unknown = [target for target in targets if target not in known]
    if unknown:
        raise ParameterError(
            f"TensorRT-RTX {library.version} does not build for these GPUs",
            received=", ".join(unknown),
            expected=", ".join(known),
            hint="use --backend tensorrt on such a GPU, or the backend 'onnxruntime-cuda'",
        )
