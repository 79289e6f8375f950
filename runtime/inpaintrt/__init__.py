"""Run Stable Diffusion inpainting from a bundle of engines, without PyTorch."""
