"""Export of inpainting checkpoints to bundles."""
