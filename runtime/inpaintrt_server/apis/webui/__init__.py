"""The interface of the Stable Diffusion WebUI: img2img with a mask, and what its clients ask around it."""

from inpaintrt_server.apis.webui.router import make_api

__all__ = ["make_api"]
