"""Families of checkpoints: what a denoiser is conditioned on, and how its slots are filled."""

from inpaintrt.families import sd

__all__ = ["sd"]
