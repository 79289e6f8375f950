"""The interface of OpenAI for editing images."""

from inpaintrt_server.apis.openai.router import make_api

__all__ = ["make_api"]
