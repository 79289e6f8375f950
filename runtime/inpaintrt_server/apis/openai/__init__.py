"""The interface of OpenAI for editing and for making images."""

from inpaintrt_server.apis.openai.router import make_api

__all__ = ["make_api"]
