"""Prompts: text to token windows, and token windows to embeddings that are kept for the next request."""

from inpaintrt.prompts.embedding import Encoded, EncodeTokens, PromptEncoder, encode_with_all
from inpaintrt.prompts.tokenizing import (
    MAX_CHARACTERS,
    MAX_WINDOWS,
    LongPrompts,
    PromptTokenizer,
    TokenWindows,
)

__all__ = [
    "MAX_CHARACTERS",
    "MAX_WINDOWS",
    "EncodeTokens",
    "Encoded",
    "LongPrompts",
    "PromptEncoder",
    "PromptTokenizer",
    "TokenWindows",
    "encode_with_all",
]
