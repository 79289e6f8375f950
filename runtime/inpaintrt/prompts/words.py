"""What comes before byte-pair encoding: a text is normalized and cut into words, each spelt in bytes."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["ALPHABET", "normalize", "read_bytes", "spell", "split_words"]

# Unicode's White_Space. Python's \s would add U+001C to U+001F, which CLIP reads as punctuation.
_WHITE_SPACE = re.compile("[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_CONTRACTION = re.compile(_CONTRACTIONS)
_MARKER_OR_CONTRACTION = re.compile(rf"<\|startoftext\|>|<\|endoftext\|>|{_CONTRACTIONS}")
_RUN_OF_CATEGORIES = re.compile("L+|N|Z+|[^LNZ]+")


def _byte_alphabet() -> str:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256))


ALPHABET = _byte_alphabet()
"""The character that stands for each of the 256 bytes (`bytes_to_unicode` of GPT-2)."""

_CHARACTER_OF_BYTE = dict(enumerate(ALPHABET))
_BYTE_OF_CHARACTER = {character: byte for byte, character in enumerate(ALPHABET)}


# All of this follows Python's own version of Unicode: 14 in Python 3.11, 15.1 in 3.13. `tokenizers` 0.23 has
# tables of about version 9 for NFC, and newer ones than Python's for the rest. So the two differ only in
# characters that Python does not know yet (Cn), and in how marks newer than Unicode 9 are sorted and joined.


def normalize(text: str) -> str:
    """Compose characters (NFC), turn every run of white space into one space, and lower the case."""
    spaced = _WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", text))
    # CLIP lowers each character alone; str.lower makes a capital sigma at the end of a word a final one.
    return spaced.replace("\u03a3", "\u03c3").lower()


def split_words(text: str, *, markers: bool) -> list[str]:
    """Cut a normalized text into contractions, runs of letters, single digits, and runs of everything else.

    Args:
        text: The text; spaces are dropped.
        markers: Whether `<|startoftext|>` and `<|endoftext|>`, where they were not taken for tokens, end a
            run of punctuation. Files that transformers 4 wrote for some checkpoints lack this rule.
    """
    if not markers:
        return _cut(text, _CONTRACTION)
    return [word for part in _cut(text, _MARKER_OR_CONTRACTION) for word in _cut(part, _CONTRACTION)]


def _cut(text: str, literals: re.Pattern[str]) -> list[str]:
    categories = "".join([unicodedata.category(character)[0] for character in text])
    words = []
    position = 0
    while found := literals.match(text, position) or _RUN_OF_CATEGORIES.match(categories, position):
        if categories[position] != "Z":
            words.append(text[position : found.end()])
        position = found.end()
    return words


def spell(word: str) -> str:
    """The UTF-8 bytes of a word, one character of the alphabet each."""
    return word.encode().decode("latin-1").translate(_CHARACTER_OF_BYTE)


def read_bytes(token: str) -> bytes:
    """The bytes that a token spells; a token with other characters than the alphabet's stands for itself."""
    if _BYTE_OF_CHARACTER.keys() >= set(token):
        return bytes([_BYTE_OF_CHARACTER[character] for character in token])
    return token.encode()
