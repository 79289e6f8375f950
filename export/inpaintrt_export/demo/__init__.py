"""The demo checkpoint: a small inpainting model trained on pictures that this package draws."""
