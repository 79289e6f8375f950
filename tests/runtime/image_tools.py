"""Images and masks for tests."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["disc_mask", "gradient", "largest_difference"]


def gradient(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth colourful image."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def disc_mask(width: int, height: int, *, blur: float = 0.0) -> Image.Image:
    """White in an ellipse right of the middle."""
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).ellipse((width * 0.4, height * 0.3, width * 0.9, height * 0.8), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(blur)) if blur else mask


def largest_difference(first: Image.Image, second: Image.Image) -> int:
    """The largest difference of any channel of any pixel, in steps of 1/255."""
    one, two = (np.asarray(image.convert("RGB"), np.int16) for image in (first, second))
    assert one.shape == two.shape
    return int(np.abs(one - two).max())
