"""CLIP's tokens of a prompt, without transformers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from inpaintrt.errors import BundleIntegrityError, ParameterError, PromptError
from inpaintrt.prompts.bpe import BytePairEncoder
from inpaintrt.prompts.tokenizer_file import read_tokenizer_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_CHARACTERS", "MAX_WINDOWS", "LongPrompts", "PromptTokenizer", "TokenWindows"]

LongPrompts: TypeAlias = Literal["truncate", "windows"]

MAX_CHARACTERS = 20_000
MAX_WINDOWS = 16


@dataclass(frozen=True, eq=False)
class TokenWindows:
    """The tokens of one prompt.

    Attributes:
        ids: `[windows, tokens]` int64; each window begins with the start token, and holds the end token and
            padding.
        warnings: What the caller should know, one sentence each.
    """

    ids: NDArray[np.int64]
    warnings: tuple[str, ...]


class PromptTokenizer:
    """Turns prompts into the token ids that transformers' `CLIPTokenizer` gives.

    It may be used by several threads at once.

    Args:
        source: The path of a `tokenizer.json`, or its bytes.
        max_length: Tokens in a window, start and end token among them.
        bos_id: The start token.
        eos_id: The end token.
        pad_id: What fills a window up: the end token for SD 1.5, 0 ("!") for SD 2.

    Raises:
        BundleIntegrityError: The file is missing.
        BundleFormatError: It is not a CLIP tokenizer.
        ParameterError: An id or the length is out of range.
    """

    def __init__(
        self,
        source: bytes | str | os.PathLike[str],
        *,
        max_length: int = 77,
        bos_id: int,
        eos_id: int,
        pad_id: int,
    ) -> None:
        self._encoder = BytePairEncoder(read_tokenizer_file(_read(source)))
        if max_length < 3:
            raise ParameterError(
                "max_length leaves no room for a prompt", received=max_length, expected="3 or more"
            )
        for name, token in (("bos_id", bos_id), ("eos_id", eos_id), ("pad_id", pad_id)):
            self._check_id(name, token)
        self._max_length, self._bos_id, self._eos_id, self._pad_id = max_length, bos_id, eos_id, pad_id

    @property
    def max_length(self) -> int:
        """Tokens in a window, start and end token among them."""
        return self._max_length

    def encode(self, prompt: str, *, long_prompts: LongPrompts = "truncate") -> TokenWindows:
        """Tokenize one prompt.

        Args:
            prompt: The text, at most 20,000 characters.
            long_prompts: "truncate" cuts a prompt that does not fit one window, as diffusers does, and says
                what was cut off; "windows" goes on in further windows, at most 16.

        Raises:
            PromptError: The prompt is not a text, too long, or not valid Unicode.
            ParameterError: `long_prompts` is unknown.
        """
        if long_prompts not in get_args(LongPrompts):
            raise ParameterError(
                "long_prompts is unknown", received=repr(long_prompts), expected="'truncate' or 'windows'"
            )
        _check_prompt(prompt)
        body = self._encoder.encode(prompt)
        room = self._max_length - 2
        if long_prompts == "truncate":
            return TokenWindows(self._stack([body[:room]]), self._warnings(body[room:]))
        chunks = [body[start : start + room] for start in range(0, max(len(body), 1), room)]
        if len(chunks) > MAX_WINDOWS:
            raise PromptError(
                "the prompt has too many tokens",
                received=f"{len(body)} tokens",
                expected=f"at most {MAX_WINDOWS * room}",
                hint="shorten it",
            )
        return TokenWindows(self._stack(chunks), ())

    def _stack(self, chunks: list[list[int]]) -> NDArray[np.int64]:
        return np.array([self._wrap(chunk) for chunk in chunks], dtype=np.int64)

    def _wrap(self, chunk: list[int]) -> list[int]:
        padding = self._max_length - 2 - len(chunk)
        return [self._bos_id, *chunk, self._eos_id, *[self._pad_id] * padding]

    def _warnings(self, removed: list[int]) -> tuple[str, ...]:
        if not removed:
            return ()
        return (
            f"The prompt is longer than {self._max_length} tokens, so this part of it was cut off: "
            f"{self._text(removed)!r}. With long_prompts='windows' it is read in several windows.",
        )

    def _text(self, ids: list[int]) -> str:
        return self._encoder.decode(ids).replace("</w>", " ").strip()

    def _check_id(self, name: str, token: int) -> None:
        size = len(self._encoder)
        if not 0 <= token < size:
            raise ParameterError(
                f"{name} is not in the vocabulary", received=token, expected=f"0 to {size - 1}"
            )


def _read(source: bytes | str | os.PathLike[str]) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise BundleIntegrityError(
            "the tokenizer's file cannot be read", received=str(source), expected="a tokenizer.json"
        ) from error


def _check_prompt(prompt: object) -> None:
    if not isinstance(prompt, str):
        raise PromptError("a prompt is a text", received=type(prompt).__name__, expected="str")
    if len(prompt) > MAX_CHARACTERS:
        raise PromptError(
            "the prompt is too long",
            received=f"{len(prompt)} characters",
            expected=f"at most {MAX_CHARACTERS}",
            hint="a model reads about 300 characters of it in one window",
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            "the prompt is not valid Unicode",
            received=f"a lone surrogate at position {error.start}",
            expected="text that UTF-8 can hold",
        ) from error
