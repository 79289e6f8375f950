"""Prompts: text to token windows, and token windows to embeddings that are kept for the next request."""

from inpaintrt.prompts.embedding import EncodeTokens, PromptEncoder
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
    "LongPrompts",
    "PromptEncoder",
    "PromptTokenizer",
    "TokenWindows",
]
