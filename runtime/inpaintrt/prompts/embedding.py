"""Embeddings of prompts, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from inpaintrt.errors import EngineRunError, ParameterError, PromptError
from inpaintrt.lru import LruCache

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inpaintrt.prompts.tokenizing import LongPrompts, PromptTokenizer

__all__ = ["EncodeTokens", "Encoded", "PromptEncoder", "encode_with_all"]

EncodeTokens: TypeAlias = "Callable[[NDArray[np.int64], int], Mapping[str, NDArray[np.floating[Any]]]]"
"""Text encoder: token ids `[batch, tokens]` int64 and clip_skip in; out `last_hidden_state` `[batch, tokens,
width]` and, of one with a projection, `text_embeds` `[batch, width]`."""


class Encoded(NamedTuple):
    """Prompts, encoded.

    Attributes:
        embeddings: `[prompts, windows * tokens, width]`, read-only.
        pooled: `[prompts, width]`, the first window of each as a whole; None of a text encoder without a
            projection.
        warnings: The tokenizer's.
    """

    embeddings: NDArray[np.floating[Any]]
    pooled: NDArray[np.floating[Any]] | None
    warnings: tuple[str, ...]


class _Window(NamedTuple):
    embedding: NDArray[np.floating[Any]]
    pooled: NDArray[np.floating[Any]] | None


class PromptEncoder:
    """Turns prompts into embeddings, and keeps those it used last.

    Windows are encoded one at a time, so that an embedding does not depend on what else was asked for with
    it. It may be used by several threads at once; the text encoder is then called by one of them at a time.

    Args:
        tokenizer: Splits prompts into windows.
        encode_tokens: The text encoder.
        cache_size: Maximum number of windows that are kept; 0 keeps none.

    Raises:
        ParameterError: `cache_size` is negative.
    """

    def __init__(
        self, tokenizer: PromptTokenizer, encode_tokens: EncodeTokens, *, cache_size: int = 256
    ) -> None:
        if cache_size < 0:
            raise ParameterError("cache_size is out of range", received=cache_size, expected="0 or more")
        self._tokenizer, self._encode_tokens = tokenizer, encode_tokens
        self._cache: LruCache[tuple[bytes, int], _Window] = LruCache(cache_size)

    @property
    def hits(self) -> int:
        """Windows that were found among those kept."""
        return self._cache.hits

    @property
    def misses(self) -> int:
        """Windows that were encoded."""
        return self._cache.misses

    def windows(self, prompts: Sequence[str], long_prompts: LongPrompts) -> int:
        """How many windows the longest of some prompts has.

        Raises:
            PromptError: There is no prompt, or one cannot be tokenized.
            ParameterError: `long_prompts` is unknown.
        """
        _check_prompts(prompts)
        return max(len(self._tokenizer.encode(each, long_prompts=long_prompts).ids) for each in prompts)

    def encode(
        self,
        prompts: Sequence[str],
        *,
        clip_skip: int | Sequence[int] = 0,
        long_prompts: LongPrompts = "truncate",
        windows: int = 1,
    ) -> Encoded:
        """Encode the prompts of one request.

        Windows of one prompt follow each other along the token axis; prompts with fewer windows than the
        longest are filled up with windows of the empty prompt.

        Args:
            prompts: One or more texts.
            clip_skip: Layers of the text encoder to leave out at its end, handed on to `encode_tokens`; one
                number for all prompts, or one for each.
            long_prompts: As for `PromptTokenizer.encode`.
            windows: The minimum number of windows of each.

        Raises:
            PromptError: There is no prompt, or one cannot be tokenized.
            ParameterError: `long_prompts` is unknown.
            EngineRunError: The text encoder's output has the wrong shape.
        """
        _check_prompts(prompts)
        tokenized = [self._tokenizer.encode(prompt, long_prompts=long_prompts) for prompt in prompts]
        count = max(windows, *(len(each.ids) for each in tokenized))
        empty = self._tokenizer.encode("").ids
        rows = [np.concatenate([each.ids, *[empty] * (count - len(each.ids))]) for each in tokenized]
        skips = [clip_skip] * len(rows) if isinstance(clip_skip, int) else clip_skip
        encoded = [
            [self._window(window, skip) for window in row] for row, skip in zip(rows, skips, strict=True)
        ]
        embeddings = np.stack([np.concatenate([window.embedding for window in row]) for row in encoded])
        embeddings.setflags(write=False)
        pooled = [row[0].pooled for row in encoded if row[0].pooled is not None]
        warnings = tuple(warning for each in tokenized for warning in each.warnings)
        return Encoded(embeddings, np.stack(pooled) if pooled else None, warnings)

    def _window(self, ids: NDArray[np.int64], clip_skip: int) -> _Window:
        window, _ = self._cache.get((ids.tobytes(), clip_skip), lambda: self._run(ids, clip_skip))
        return window

    def _run(self, ids: NDArray[np.int64], clip_skip: int) -> _Window:
        outputs = self._encode_tokens(ids[None], clip_skip)
        hidden, pooled = outputs["last_hidden_state"], outputs.get("text_embeds")
        if hidden.ndim != 3 or hidden.shape[:2] != (1, len(ids)):
            raise EngineRunError(
                "the text encoder's output has the wrong shape",
                received=list(hidden.shape),
                expected=f"[1, {len(ids)}, width]",
            )
        return _Window(np.array(hidden[0]), None if pooled is None else np.array(pooled[0]))


def encode_with_all(
    encoders: Sequence[PromptEncoder],
    prompts: Sequence[Sequence[str]],
    *,
    clip_skip: Sequence[int],
    long_prompts: LongPrompts = "truncate",
) -> Encoded:
    """Encode prompts with several text encoders, whose embeddings are joined along the width.

    Args:
        encoders: All text encoders.
        prompts: For each of them, what it reads.
        clip_skip: For each prompt.
        long_prompts: As for `PromptTokenizer.encode`.

    Returns:
        The embeddings of all; pooled prompts are those of the last encoder.

    Raises:
        PromptError: There is no prompt, or one cannot be tokenized.
        EngineRunError: A text encoder's output has the wrong shape.
    """
    pairs = list(zip(encoders, prompts, strict=True))
    windows = max(encoder.windows(texts, long_prompts) for encoder, texts in pairs)
    encoded = [
        encoder.encode(texts, clip_skip=clip_skip, long_prompts=long_prompts, windows=windows)
        for encoder, texts in pairs
    ]
    warnings = dict.fromkeys(warning for each in encoded for warning in each.warnings)
    embeddings = np.concatenate([each.embeddings for each in encoded], axis=-1)
    return Encoded(embeddings, encoded[-1].pooled, tuple(warnings))


def _check_prompts(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise PromptError(
            "prompts come as a list",
            received=type(prompts).__name__,
            expected="a list of texts",
            hint="[prompt]",
        )
    if not prompts:
        raise PromptError("there is no prompt", received="an empty list", expected="one text or more")
