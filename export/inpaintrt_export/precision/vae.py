"""May this checkpoint's VAE compute in half precision? Some overflow, which shows as black images."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diffusers import AutoencoderKL, AutoencoderTiny
    from torch import Tensor
    from torch._ops import OpOverload

    from inpaintrt.bundle import Precision

__all__ = ["HALF_TOLERANCE", "choose_vae_precision", "half_error", "test_images"]

HALF_TOLERANCE = 1 / 255
"""Root mean square of the difference that half precision may make to a decoded image in [-1, 1].

It is half a level of an 8-bit image, so that on the whole rounding hides it.
"""

_IMAGE_SIZE = 64


def choose_vae_precision(vae: AutoencoderKL | AutoencoderTiny, precision: Precision) -> Precision:
    """The precision that the VAE gets in a bundle of `precision`."""
    if precision == "fp16" and half_error(vae) <= HALF_TOLERANCE:
        return "fp16"
    return "fp32"


class _HalfConvolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes convolutions of halves in float32 and rounds, as GPUs do: 90 times faster on a CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        operator: OpOverload,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> object:
        options = {} if options is None else options
        if operator is not torch.ops.aten.convolution.default or arguments[0].dtype != torch.float16:
            return operator(*arguments, **options)
        widened = [value.float() if isinstance(value, torch.Tensor) else value for value in arguments]
        return operator(*widened, **options).half()


@torch.no_grad()
def half_error(vae: AutoencoderKL | AutoencoderTiny) -> float:
    """What half precision does to test images that are encoded and decoded again.

    Args:
        vae: In float32; it stays as it is.

    Returns:
        Root mean square difference of the decoded images, or infinity where half precision overflows.
    """
    images = test_images()
    expected = _round_trip(vae, images)
    half = nn.Module.half(copy.deepcopy(vae))
    with _HalfConvolutions():
        decoded = _round_trip(half, images.half()).float()
    if not bool(torch.isfinite(decoded).all()):
        return float("inf")
    return float((decoded - expected).square().mean().sqrt())


def _round_trip(vae: AutoencoderKL | AutoencoderTiny, images: Tensor) -> Tensor:
    encoded = vae.encode(images)
    latents = encoded.latents if "latents" in encoded else encoded.latent_dist.mode()
    decoded: Tensor = vae.decode(latents).sample
    return decoded


def test_images() -> Tensor:
    """`[4, 3, 64, 64]` in [-1, 1]: a gradient, hard edges, noise, and white."""
    steps = torch.linspace(-1, 1, _IMAGE_SIZE)
    vertical, horizontal = torch.meshgrid(steps, steps, indexing="ij")
    gradient = torch.stack([vertical, horizontal, -vertical])
    edges = torch.sign(torch.sin(8 * vertical) * torch.sin(8 * horizontal)).expand(3, -1, -1)
    noise = torch.rand(gradient.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.stack([gradient, edges, noise, torch.ones_like(gradient)])
