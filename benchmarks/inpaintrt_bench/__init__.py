"""Benchmarks of the inpainting runtime."""
