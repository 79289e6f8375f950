"""Families of checkpoints: what a denoiser is conditioned on, and how its slots are filled."""
