"""From the prompts of a request to what the denoiser is conditioned on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from inpaintrt.backends import Engine
from inpaintrt.errors import ParameterError, PromptError
from inpaintrt.families import Texts
from inpaintrt.guidance import Guidance
from inpaintrt.loading import LoadedBundle
from inpaintrt.prompts import Encoded, LongPrompts, PromptEncoder, encode_with_all
from inpaintrt.request import Prompt, Request

__all__ = ["Contexts", "TextEncoding"]

Floats = NDArray[np.floating]


class Contexts(NamedTuple):
    """The prompts of a request, encoded.

    Attributes:
        of_results: The texts of each result, in the order of the guidance's weights.
        warnings: What the caller should know, such as a prompt that was cut.
    """

    of_results: Sequence[Texts]
    warnings: tuple[str, ...]


class _Context(NamedTuple):
    """What one context says: a prompt for each text encoder, or embeddings; all None means zeros."""

    prompt: Prompt | None
    prompt_2: str | None = None
    pooled: Floats | None = None
    clip_skip: int = 0

    @property
    def is_text(self) -> bool:
        """Whether a text encoder has to read it; the tokenizer refuses what is no text."""
        return self.prompt is not None and not isinstance(self.prompt, np.ndarray)


class TextEncoding:
    """The text encoders of a bundle.

    Args:
        loaded: Manifest, engines and tokenizers.
        cache_size: Maximum number of windows of prompts that each text encoder keeps.
    """

    def __init__(self, loaded: LoadedBundle, *, cache_size: int) -> None:
        self._architecture = loaded.manifest.architecture
        self._window = loaded.manifest.window
        self._engines = {name: loaded.engines[name] for name in loaded.tokenizers}
        self.encoders = [
            PromptEncoder(tokenizer, partial(_run, self._engines[name]), cache_size=cache_size)
            for name, tokenizer in loaded.tokenizers.items()
        ]

    @property
    def hits(self) -> int:
        """Windows that were found among those kept, by all text encoders."""
        return sum(encoder.hits for encoder in self.encoders)

    @property
    def misses(self) -> int:
        """Windows that were encoded, by all text encoders."""
        return sum(encoder.misses for encoder in self.encoders)

    def check_clip_skip(self, clip_skip: int | None) -> None:
        """Check that layers are left.

        Raises:
            ParameterError: None is.
        """
        layers = self._architecture.text_layers or 1
        if clip_skip is not None and clip_skip >= layers:
            raise ParameterError(
                "clip_skip leaves no layer of the text encoder",
                received=clip_skip,
                expected=f"0 to {layers - 1}",
                hint="a bundle of imported ONNX files has its last layer only",
                parameter="clip_skip",
            )

    def warm_up(self) -> None:
        """Run every text encoder on one window.

        Raises:
            EngineError: One failed.
        """
        for engine in self._engines.values():
            _run(engine, np.zeros((1, self._window), np.int64), 0)

    def encode(self, request: Request, guidance: Guidance) -> Contexts:
        """Encode all prompts of a request, those that guidance needs included.

        Raises:
            PromptError: A prompt cannot be tokenized, or embeddings do not fit the checkpoint or the texts.
            EngineError: A text encoder failed.
        """
        groups = self._groups(request, guidance)
        contexts = [context for group in groups for context in group]
        for group in groups:
            for context in group:
                self._check_given(context, "" if group is groups[-1] else "negative_")
        texts = [context for context in contexts if context.is_text]
        encoded = self._encode_texts(texts, request.options["long_prompts"])
        whole = self._merged(contexts, encoded)
        count = len(request.prompts)
        of_results = [
            Texts(whole.context[index::count], None if whole.pooled is None else whole.pooled[index::count])
            for index in range(count)
        ]
        return Contexts(of_results, () if encoded is None else encoded.warnings)

    def _groups(self, request: Request, guidance: Guidance) -> list[list[_Context]]:
        """The contexts of all results, one list for each column of the guidance's weights."""
        # Skipping layers is for the prompt only; the other texts use the last layer, as in diffusers.
        own = _contexts(request.prompts, request.prompts_2, request.pooled, request.options["clip_skip"] or 0)
        if not guidance.active:
            return [own]
        absent = self._absent(request)
        if request.negatives is None:
            return [absent, own]
        negative = _contexts(request.negatives, request.negatives_2, request.negative_pooled, 0)
        return [absent, negative, own] if guidance.negative == "symmetric" else [negative, own]

    def _absent(self, request: Request) -> list[_Context]:
        """What takes the place of negative prompts that there are not: zeros, or the empty prompt."""
        count = len(request.prompts)
        if self._architecture.zeros_for_absent_negative:
            return [_Context(None)] * count
        seconds = request.negatives_2 if request.negatives is None else None
        return _contexts(("",) * count, seconds, None, 0)

    def _check_given(self, context: _Context, start: str) -> None:
        """Check embeddings that the caller gave, whose names have this start."""
        pooled_missing = self._architecture.pooled_width is not None and context.pooled is None
        if isinstance(context.prompt, np.ndarray) and pooled_missing:
            raise PromptError(
                "SDXL needs the embedding of each prompt as a whole, too",
                received=f"{start}prompt_embeds without {start}pooled_prompt_embeds",
                expected="both",
                parameter=f"{start}pooled_prompt_embeds",
            )
        widths = {
            f"{start}prompt_embeds": (context.prompt, self._architecture.context_width),
            f"{start}pooled_prompt_embeds": (context.pooled, self._architecture.pooled_width),
        }
        for name, (given, width) in widths.items():
            if isinstance(given, np.ndarray) and given.shape[-1] != width:
                raise PromptError(
                    "the embeddings' width does not fit the checkpoint",
                    received=list(given.shape),
                    expected=f"[tokens, {width}] for each prompt"
                    if given.ndim > 1
                    else f"[{width}] for each",
                    parameter=name,
                )

    def _encode_texts(self, texts: Sequence[_Context], long_prompts: LongPrompts) -> Encoded | None:
        if not texts:
            return None
        first = [cast("str", context.prompt) for context in texts]
        # diffusers gives the first prompt to a single text encoder, whichever it is.
        second = [context.prompt_2 or cast("str", context.prompt) for context in texts]
        return encode_with_all(
            self.encoders,
            [first, second][: len(self.encoders)],
            clip_skip=[context.clip_skip for context in texts],
            long_prompts=long_prompts,
        )

    def _merged(self, contexts: Sequence[_Context], encoded: Encoded | None) -> Texts:
        """The embeddings of all contexts: those of texts, those that were given, and zeros."""
        of_texts = iter(()) if encoded is None else _pairs(encoded)
        pairs = [
            next(of_texts) if context.is_text else (cast("Floats | None", context.prompt), context.pooled)
            for context in contexts
        ]
        outputs = list(self._engines.values())[-1].outputs
        context = _stacked([embedding for embedding, _ in pairs]).astype(outputs["last_hidden_state"].dtype)
        if self._architecture.pooled_width is None:
            return Texts(context)
        return Texts(context, _stacked([pooled for _, pooled in pairs]).astype(outputs["text_embeds"].dtype))


def _run(engine: Engine, input_ids: NDArray[np.int64], clip_skip: int) -> Mapping[str, NDArray[np.floating]]:
    inputs = {"input_ids": input_ids}
    if "clip_skip" in engine.inputs:
        inputs["clip_skip"] = np.full(len(input_ids), clip_skip, np.int64)
    return engine.run(inputs)


def _contexts(
    prompts: Sequence[Prompt],
    seconds: Sequence[str] | None,
    pooled: Sequence[Floats] | None,
    clip_skip: int,
) -> list[_Context]:
    """A context for each result."""
    absent = [None] * len(prompts)
    parts = zip(prompts, seconds or absent, absent if pooled is None else pooled, strict=True)
    return [_Context(*part, clip_skip) for part in parts]


def _pairs(encoded: Encoded) -> Iterator[tuple[Floats, Floats | None]]:
    pooled = [None] * len(encoded.embeddings) if encoded.pooled is None else encoded.pooled
    return zip(encoded.embeddings, pooled, strict=True)


def _stacked(values: Sequence[Floats | None]) -> Floats:
    """All values, zeros in the place of None."""
    given = [value for value in values if value is not None]
    lengths = sorted({len(value) for value in given})
    if len(lengths) > 1:
        raise PromptError(
            "embeddings and texts have different numbers of tokens",
            received=" and ".join(f"{length} tokens" for length in lengths),
            expected="one number of tokens",
            hint="pass prompt_embeds and negative_prompt_embeds of one shape",
        )
    zeros = np.zeros_like(given[0])
    return np.stack([zeros if value is None else value for value in values])
