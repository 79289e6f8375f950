"""The interface of the Stable Diffusion WebUI: img2img with a mask, and what its clients ask around it."""
