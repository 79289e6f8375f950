"""Characters that Python and `tokenizers` read alike: each has its own version of Unicode."""

import unicodedata

from hypothesis import strategies as st
from tokenizers.normalizers import NFC

__all__ = ["ASSIGNED", "CHARACTERS", "NEW_MARKS", "any_text"]

CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
ASSIGNED = [character for character in CHARACTERS if unicodedata.category(character) != "Cn"]
NEW_MARKS = [
    mark
    for mark in filter(unicodedata.combining, ASSIGNED)
    if NFC().normalize_str("\u0345" + mark) != unicodedata.normalize("NFC", "\u0345" + mark)
]
"""Marks that tokenizers' older tables for NFC do not know, so that it does not sort them among others."""


def any_text(max_size: int) -> st.SearchStrategy[str]:
    """Texts of characters that both know."""
    return st.text(
        st.characters(exclude_categories=["Cs", "Cn"], exclude_characters=NEW_MARKS), max_size=max_size
    )
