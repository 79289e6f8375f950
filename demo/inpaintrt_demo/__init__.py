"""The demo checkpoint: a small inpainting model trained on images that this package draws."""
