"""Embeddings of prompts, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from inpaintrt.errors import EngineRunError, ParameterError, PromptError
from inpaintrt.lru import LruCache

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inpaintrt.prompts.tokenizing import LongPrompts, PromptTokenizer

__all__ = ["EncodeTokens", "PromptEncoder"]

EncodeTokens: TypeAlias = "Callable[[NDArray[np.int64], int], NDArray[np.floating[Any]]]"
"""Text encoder: token ids `[batch, tokens]` int64 and clip_skip in, `[batch, tokens, width]` floats out."""


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
        self._cache: LruCache[tuple[bytes, int], NDArray[np.floating[Any]]] = LruCache(cache_size)

    @property
    def hits(self) -> int:
        """Windows that were found among those kept."""
        return self._cache.hits

    @property
    def misses(self) -> int:
        """Windows that were encoded."""
        return self._cache.misses

    def encode(
        self,
        prompts: Sequence[str],
        *,
        clip_skip: int | Sequence[int] = 0,
        long_prompts: LongPrompts = "truncate",
    ) -> tuple[NDArray[np.floating[Any]], tuple[str, ...]]:
        """Encode the prompts of one request.

        Windows of one prompt follow each other along the token axis; prompts with fewer windows than the
        longest are filled up with windows of the empty prompt.

        Args:
            prompts: One or more texts.
            clip_skip: Layers of the text encoder to leave out at its end, handed on to `encode_tokens`; one
                number for all prompts, or one for each.
            long_prompts: As for `PromptTokenizer.encode`.

        Returns:
            Embeddings `[prompts, windows * tokens, width]`, read-only, and the tokenizer's warnings.

        Raises:
            PromptError: There is no prompt, or one cannot be tokenized.
            ParameterError: `long_prompts` is unknown.
            EngineRunError: The text encoder's output has the wrong shape.
        """
        _check_prompts(prompts)
        tokenized = [self._tokenizer.encode(prompt, long_prompts=long_prompts) for prompt in prompts]
        count = max(len(windows.ids) for windows in tokenized)
        empty = self._tokenizer.encode("").ids
        rows = [np.concatenate([windows.ids, *[empty] * (count - len(windows.ids))]) for windows in tokenized]
        skips = [clip_skip] * len(rows) if isinstance(clip_skip, int) else clip_skip
        embeddings = np.stack([self._row(row, skip) for row, skip in zip(rows, skips, strict=True)])
        embeddings.setflags(write=False)
        return embeddings, tuple(warning for windows in tokenized for warning in windows.warnings)

    def _row(self, windows: NDArray[np.int64], clip_skip: int) -> NDArray[np.floating[Any]]:
        return np.concatenate([self._window(window, clip_skip) for window in windows])

    def _window(self, ids: NDArray[np.int64], clip_skip: int) -> NDArray[np.floating[Any]]:
        embedding, _ = self._cache.get((ids.tobytes(), clip_skip), lambda: self._run(ids, clip_skip))
        return embedding

    def _run(self, ids: NDArray[np.int64], clip_skip: int) -> NDArray[np.floating[Any]]:
        output = self._encode_tokens(ids[None], clip_skip)
        if output.ndim != 3 or output.shape[:2] != (1, len(ids)):
            raise EngineRunError(
                "the text encoder's output has the wrong shape",
                received=list(output.shape),
                expected=f"[1, {len(ids)}, width]",
            )
        return np.array(output[0])


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
