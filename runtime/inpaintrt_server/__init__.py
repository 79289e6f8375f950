"""The inpainting server: one engine, many requests, the interfaces that clients already speak."""
