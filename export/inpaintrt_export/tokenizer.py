"""CLIP's byte-pair tokenizer: read from a checkpoint, or trained for a synthetic one."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from inpaintrt.errors import SourceError
from inpaintrt_export.configs import read_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = [
    "END_TOKEN",
    "PADDING",
    "START_TOKEN",
    "Vocabulary",
    "clip_tokenizer",
    "read_tokenizer",
    "token_id",
    "train_vocabulary",
]

START_TOKEN = "<|startoftext|>"  # noqa: S105 (the name of a token, not a password)
END_TOKEN = "<|endoftext|>"  # noqa: S105
PADDING = {"text_encoder_2": "!"}
"""What pads the windows of text encoders where the tokenizer's folder is that of another one."""
_END_OF_WORD = "</w>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Vocabulary:
    """The content of `vocab.json` and `merges.txt`.

    Attributes:
        ids: Id of every token.
        merges: Pairs that are joined, most important first.
    """

    ids: dict[str, int]
    merges: tuple[tuple[str, str], ...]


def clip_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """A tokenizer that does what CLIP's does: lower case, single spaces, start and end token added.

    Source: transformers' `CLIPTokenizer`.
    """
    model = models.BPE(
        vocab=vocabulary.ids,
        merges=list(vocabulary.merges),
        continuing_subword_prefix="",
        end_of_word_suffix=_END_OF_WORD,
        fuse_unk=False,
        unk_token=END_TOKEN,
    )
    tokenizer = Tokenizer(model)
    _add_text_rules(tokenizer)
    special = [AddedToken(token, normalized=False, special=True) for token in (START_TOKEN, END_TOKEN)]
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.RobertaProcessing(
        (END_TOKEN, vocabulary.ids[END_TOKEN]),
        (START_TOKEN, vocabulary.ids[START_TOKEN]),
        trim_offsets=False,
        add_prefix_space=False,
    )
    return tokenizer


def _add_text_rules(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()


def read_tokenizer(folder: Path, *, padding: str | None = None) -> tuple[Tokenizer, int]:
    """Read a CLIP tokenizer: `tokenizer.json`, or `vocab.json` and `merges.txt`.

    Args:
        folder: Where the files are.
        padding: The token that pads a window; None for what the files say.

    Returns:
        The tokenizer without padding and truncation, and the id of the token that pads a window.

    Raises:
        SourceError: The files are missing or are not those of a CLIP tokenizer.
    """
    tokenizer = _read_any(folder)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    pad_token = _pad_token(folder) if padding is None else padding
    for token in (START_TOKEN, END_TOKEN):
        token_id(tokenizer, token)
    return tokenizer, token_id(tokenizer, pad_token)


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that every CLIP tokenizer has.

    Raises:
        SourceError: The tokenizer has no such token.
    """
    number = tokenizer.token_to_id(token)
    if number is None:
        raise SourceError(
            "the tokenizer is not CLIP's",
            received=f"a vocabulary without {token}",
            expected=f"a vocabulary with {START_TOKEN}, {END_TOKEN} and the padding token",
            hint="take the tokenizer folder of the checkpoint's own repository",
        )
    return number


def _read_any(folder: Path) -> Tokenizer:
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
        return clip_tokenizer(_read_vocabulary(folder))
    except FileNotFoundError:
        raise SourceError(
            f"there is no CLIP tokenizer in {folder}",
            expected="tokenizer.json, or vocab.json and merges.txt",
            hint="name a folder that has these files with --tokenizer",
        ) from None
    except Exception as error:  # the tokenizers library raises nothing more precise than Exception
        raise SourceError(
            f"the tokenizer in {folder} cannot be read",
            received=str(error),
            expected="tokenizer.json, or vocab.json and merges.txt, of a CLIP tokenizer",
        ) from error


def _read_vocabulary(folder: Path) -> Vocabulary:
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    pairs = [line.split() for line in lines if line and not line.startswith("#version")]
    return Vocabulary(ids=ids, merges=tuple((left, right) for left, right in pairs))


def _pad_token(folder: Path) -> str:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            token = read_config(folder / name, f"no {name} in {folder}").get("pad_token")
            if token is not None:
                return str(token["content"] if isinstance(token, dict) else token)
    return END_TOKEN


def train_vocabulary(size: int, corpus: Sequence[str]) -> Vocabulary:
    """Train a byte-pair vocabulary in CLIP's order: bytes, bytes at the end of a word, merges, start, end.

    Where the corpus yields too few merges for the size, tokens that no text produces fill the gap before the
    start token, so that ids reach as far as in a real checkpoint.
    """
    alphabet = _byte_alphabet()
    letters = [*alphabet, *(letter + _END_OF_WORD for letter in alphabet)]
    merges = _train_merges(size - len(letters) - 2, corpus)
    tokens = [*letters, *(left + right for left, right in merges)]
    tokens += [f"<|unused_{index}|>" for index in range(size - 2 - len(tokens))]
    tokens += [START_TOKEN, END_TOKEN]
    return Vocabulary(ids={token: index for index, token in enumerate(tokens)}, merges=merges)


def _byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes; printable ones for themselves, and before the others."""
    ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [chr(code) for first, last in ranges for code in range(ord(first), ord(last) + 1)]
    return [*printable, *(chr(256 + index) for index in range(256 - len(printable)))]


def _train_merges(count: int, corpus: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The most frequent pairs, one after the other, each joined before the next is counted.

    Of equally frequent pairs the first in the alphabet comes first; `tokenizers` orders them by chance. A
    pair whose product is there already is passed over: CLIP's vocabulary holds each token once.

    Source: Sennrich et al., arXiv:1508.07909, algorithm 1.
    """
    words = Counter(word for text in corpus for word in _words(text))
    merges: dict[str, tuple[str, str]] = {}
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.setdefault("".join(best), best)
        words = Counter({_merged(word, best): times for word, times in words.items()})
    return tuple(merges.values())


def _words(text: str) -> Iterator[tuple[str, ...]]:
    """The words of a text as the tokenizer cuts it, each in characters that stand for bytes."""
    tokenizer = Tokenizer(models.BPE())
    _add_text_rules(tokenizer)
    normalized = tokenizer.normalizer.normalize_str(text)
    for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized):
        yield (*word[:-1], word[-1] + _END_OF_WORD)


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """A word in which a pair is one symbol."""
    symbols: list[str] = []
    for symbol in word:
        if symbols and (symbols[-1], symbol) == pair:
            symbols[-1] += symbol
        else:
            symbols.append(symbol)
    return tuple(symbols)
