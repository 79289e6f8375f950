"""An image that is ready to run, and the way back from what the run made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inpaintrt.errors import ImageError
from inpaintrt.images.arrays import image_from_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from inpaintrt.images.masks import Box
    from inpaintrt.images.pasting import Paste
    from inpaintrt.options import Fill

__all__ = ["LatentImage", "Prepared", "assemble", "paste_back"]


@dataclass(frozen=True, eq=False)
class LatentImage:
    """An image that is encoded already.

    Attributes:
        latents: `[channels, height/factor, width/factor]` float32, scaled.
    """

    latents: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Prepared:
    """One image, ready to run.

    Attributes:
        image: `[1, 3, height, width]` float32 in [-1, 1], what the run starts from.
        mask: `[1, 1, height, width]` float32 in {0, 1}; 1 is repainted.
        masked_image: `[1, 3, height, width]` float32, the image with 0 under the mask.
        latent_mask: `[1, 1, height/factor, width/factor]` float32 in {0, 1}, the nearest pixels of the mask.
        box: The part of the canvas that runs; None if it is the whole.
        warnings: What the caller should know, one sentence each.
        empty: Nothing is to be repainted, and `original` is the answer. Never set where diffusers runs
            anyway.
        fill: What the first image is to hold under the mask; "noise" is left to whoever makes the latents.
        paste: How a result is handed back.
        soft_latent_mask: `[1, 1, height/factor, width/factor]` float32 in [0, 1], how much of each latent
            pixel may change; None where the mask's edge is hard.
        latents: `[1, channels, height/factor, width/factor]` float32, the scaled latents that were handed in
            for the image, which is blank then; None where the VAE has to encode it.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.float32]
    masked_image: NDArray[np.float32]
    latent_mask: NDArray[np.float32]
    box: Box | None
    warnings: tuple[str, ...]
    empty: bool
    fill: Fill
    paste: Paste
    soft_latent_mask: NDArray[np.float32] | None = None
    latents: NDArray[np.float32] | None = None

    @property
    def original(self) -> Image.Image:
        """The image that comes back if nothing is repainted; it may be the caller's own."""
        return self.paste.untouched()


def assemble(
    image: NDArray[np.float32],
    mask: NDArray[np.float32],
    *,
    box: Box | None,
    warnings: tuple[str, ...],
    empty: bool,
    fill: Fill,
    paste: Paste,
    factor: int,
    soft_mask: NDArray[np.float32] | None = None,
    latents: NDArray[np.float32] | None = None,
) -> Prepared:
    """Derive the masked image and the latent masks: torch's "nearest" at a factor of 8 is every 8th pixel."""
    masked_image = image * (mask < 0.5)
    latent_mask = np.ascontiguousarray(mask[:, :, ::factor, ::factor])
    soft = None if soft_mask is None else _block_means(soft_mask, factor)
    return Prepared(image, mask, masked_image, latent_mask, box, warnings, empty, fill, paste, soft, latents)


def _block_means(mask: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    height, width = mask.shape[2] // factor, mask.shape[3] // factor
    means: NDArray[np.float32] = mask.reshape(1, 1, height, factor, width, factor).mean(axis=(3, 5))
    return means


def paste_back(prepared: Prepared, decoded: NDArray[np.float32]) -> Image.Image:
    """Turn a decoded image into the one to hand back.

    Outside `compat="diffusers"` pixels where the mask (grown and blurred as asked) is 0 are the source's, bit
    by bit, once the source was converted to 8-bit RGB; its transparency is kept.

    Args:
        prepared: What `prepare` made.
        decoded: `[3, height, width]` float32 in [-1, 1], of the run's size.

    Raises:
        ImageError: The decoded image does not have the run's size.
        EngineRunError: It holds NaN or infinite values.
    """
    expected = prepared.image.shape[1:]
    if decoded.shape != expected:
        raise ImageError(
            "the decoded image does not have the run's size",
            received=list(decoded.shape),
            expected=list(expected),
        )
    return prepared.paste.apply(image_from_tensor(decoded))
