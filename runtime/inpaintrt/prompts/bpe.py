"""CLIP's byte-pair encoding: a text to token ids, and back."""

from __future__ import annotations

import re
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from inpaintrt.prompts.words import normalize, read_bytes, spell, split_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from inpaintrt.prompts.tokenizer_file import AddedToken, ClipVocabulary

__all__ = ["BytePairEncoder", "merge_pairs"]

_END_OF_WORD = "</w>"


class BytePairEncoder:
    """Turns a text into the token ids that `tokenizers` gives without special tokens around it.

    It may be used by several threads at once.
    """

    def __init__(self, vocabulary: ClipVocabulary) -> None:
        self._vocabulary = vocabulary
        self._content = {token: content for content, token in vocabulary.ids.items()}
        self._verbatim = _AddedTokens(vocabulary.added, normalized=False)
        self._normalized = _AddedTokens(vocabulary.added, normalized=True)

    def __len__(self) -> int:
        """The number of tokens; their ids are 0 to one less than it."""
        return len(self._content)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text that has no lone surrogates."""
        ids: list[int] = []
        for raw, verbatim in self._verbatim.split(text):
            for plain, normalized in self._normalized.split(normalize(raw)):
                ids += self._encode_plain(plain)
                ids += normalized
            ids += verbatim
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text that tokens spell, with `</w>` after each word, and U+FFFD for a character cut in two."""
        return b"".join([read_bytes(self._content[token]) for token in ids]).decode(errors="replace")

    def _encode_plain(self, text: str) -> Iterator[int]:
        for word in split_words(text, markers=self._vocabulary.markers):
            symbols = list(spell(word))
            symbols[-1] += _END_OF_WORD
            for piece in merge_pairs(symbols, self._vocabulary.ranks):
                yield self._vocabulary.ids.get(piece, self._vocabulary.unknown)


class _AddedTokens:
    """Finds tokens that are matched as they stand, the leftmost first, and the longest of several there."""

    def __init__(self, added: Sequence[AddedToken], *, normalized: bool) -> None:
        self._ids: dict[str, int] = {}
        for token in added:
            if token.normalized == normalized:
                self._ids.setdefault(normalize(token.content) if normalized else token.content, token.id)
        alternatives = map(re.escape, sorted(self._ids, key=len, reverse=True))
        self._pattern = re.compile(f"({'|'.join(alternatives)})" if self._ids else "((?!))")

    def split(self, text: str) -> Iterator[tuple[str, list[int]]]:
        """Yield the text before each token, with the token; last the text after them, with none."""
        *parts, rest = self._pattern.split(text)
        for before, token in zip(parts[::2], parts[1::2], strict=True):
            yield before, [self._ids[token]]
        yield rest, []


def merge_pairs(symbols: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Join neighbours while a pair of them has a rank: the lowest rank first, of equal ones the leftmost.

    Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", section 3.2.
    A queue keeps the time in proportion to n log n, so that a word as long as a prompt may be does no harm.

    Args:
        symbols: The symbols of one word, none of them empty.
        ranks: Rank of each pair that may be joined.
    """
    # An empty symbol has no rank with any other: it stands for what was joined, and for both ends (index -1).
    pieces = [*symbols, ""]
    following = [*range(1, len(pieces)), -1]
    previous = [-1, *range(len(symbols))]

    def candidate(left: int) -> tuple[int, int] | None:
        rank = ranks.get((pieces[left], pieces[following[left]]))
        return None if rank is None else (rank, left)

    queue = [pair for pair in map(candidate, range(len(symbols))) if pair]
    heapify(queue)
    while queue:
        pair = heappop(queue)
        left = pair[1]
        if pair != candidate(left):
            continue
        right = following[left]
        pieces[left] += pieces[right]
        pieces[right] = ""
        following[left] = following[right]
        previous[following[right]] = left
        for neighbour in filter(None, (candidate(previous[left]), candidate(left))):
            heappush(queue, neighbour)
    return [piece for piece in pieces if piece]
