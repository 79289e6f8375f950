"""Images and masks: load, orient, crop, resize, binarise, fill, and paste the result back."""

from inpaintrt.images.loading import DEFAULT_MAX_PIXELS, ImageSource, image_size, load_image, load_mask
from inpaintrt.images.masks import Box
from inpaintrt.images.prepared import LatentImage, Prepared, paste_back
from inpaintrt.images.preparing import prepare

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Box",
    "ImageSource",
    "LatentImage",
    "Prepared",
    "image_size",
    "load_image",
    "load_mask",
    "paste_back",
    "prepare",
]
