"""Families of checkpoints: the parts they consist of, and what the runtime must know of them."""

from inpaintrt_export.families import sd

__all__ = ["sd"]
