"""The reader of `tokenizer.json`, for the one kind of tokenizer that Stable Diffusion has: CLIP's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from inpaintrt.errors import BundleFormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AddedToken", "ClipVocabulary", "read_tokenizer_file"]

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_MARKERS = r"<\|startoftext\|>|<\|endoftext\|>|"
_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ],
}
_BYTE_LEVELS = [
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": trim_offsets, **more}
    for trim_offsets in (True, False)
    for more in ({"use_regex": True}, {})
]
_HINT = "export the checkpoint again, with its own CLIP tokenizer"


class AddedToken(msgspec.Struct, frozen=True):
    """A token that is recognised inside texts as it stands.

    Attributes:
        id: Its id.
        content: Its text.
        normalized: Whether it is sought, itself normalized, in the normalized text.
    """

    id: int
    content: Annotated[str, msgspec.Meta(min_length=1)]
    normalized: bool
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False


class _Model(msgspec.Struct, frozen=True):
    vocab: dict[str, int]
    merges: list[tuple[str, str] | str]
    unk_token: str
    type: str = "BPE"
    dropout: float | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None
    fuse_unk: bool = False
    byte_fallback: bool = False
    ignore_merges: bool = False


class _TokenizerFile(msgspec.Struct, frozen=True):
    added_tokens: list[AddedToken]
    normalizer: Any
    pre_tokenizer: Any
    model: _Model


@dataclass(frozen=True)
class ClipVocabulary:
    """What a `tokenizer.json` says, checked.

    Attributes:
        ids: Id of every token, added ones too.
        ranks: Rank of each pair that may be joined, the most important 0.
        unknown: The id of a symbol that is not in the vocabulary.
        added: The tokens that are recognised as they stand.
        markers: As for `split_words`.
    """

    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]
    unknown: int
    added: tuple[AddedToken, ...]
    markers: bool


def read_tokenizer_file(content: bytes) -> ClipVocabulary:
    """Read a `tokenizer.json`, as transformers writes it for `CLIPTokenizer`.

    Truncation, padding, post-processor and decoder play no part here and are not read.

    Raises:
        BundleFormatError: It is not JSON, not a tokenizer, or not CLIP's kind of tokenizer.
    """
    try:
        file = msgspec.json.decode(content, type=_TokenizerFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleFormatError(
            "this is not a CLIP tokenizer's tokenizer.json", received=str(error), hint=_HINT
        ) from error
    _check_rules(file)
    _check_ids(file.model)
    return ClipVocabulary(
        ids=_all_ids(file),
        ranks={pair: rank for rank, pair in enumerate(_pairs(file.model))},
        unknown=file.model.vocab[file.model.unk_token],
        added=tuple(file.added_tokens),
        markers=file.pre_tokenizer in _pre_tokenizers(_MARKERS + _WORDS),
    )


def _pre_tokenizers(pattern: str) -> list[dict[str, object]]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
    return [{"type": "Sequence", "pretokenizers": [split, byte_level]} for byte_level in _BYTE_LEVELS]


def _check_rules(file: _TokenizerFile) -> None:
    supported = [*_pre_tokenizers(_MARKERS + _WORDS), *_pre_tokenizers(_WORDS)]
    _check("normalizer", file.normalizer, [_NORMALIZER])
    _check("pre_tokenizer", file.pre_tokenizer, supported)
    _check("model type", file.model.type, ["BPE"])
    _check("end_of_word_suffix", file.model.end_of_word_suffix, ["</w>"])
    _check("continuing_subword_prefix", file.model.continuing_subword_prefix, ["", None])
    _check("dropout", file.model.dropout, [None, 0.0])
    for flag in ("fuse_unk", "byte_fallback", "ignore_merges"):
        _check(flag, getattr(file.model, flag), [False])
    for token in file.added_tokens:
        for flag in ("single_word", "lstrip", "rstrip"):
            _check(f"{flag} of the added token {token.content}", getattr(token, flag), [False])


def _check(name: str, received: object, supported: Sequence[object]) -> None:
    if received not in supported:
        raise BundleFormatError(
            f"the tokenizer's {name} is not CLIP's",
            received=_as_json(received),
            expected=_as_json(supported[0]),
            hint=_HINT,
        )


def _as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _check_ids(model: _Model) -> None:
    ids = model.vocab.values()
    if set(ids) != set(range(len(ids))):
        raise BundleFormatError(
            "the tokenizer's ids have gaps or duplicates",
            received=f"{len(ids)} tokens with the ids {min(ids)} to {max(ids)}",
            expected="the ids from 0 on, each once",
            hint=_HINT,
        )
    _check_known(model.vocab, model.unk_token)


def _check_known(vocab: dict[str, int], *tokens: str) -> None:
    for token in tokens:
        if not token or token not in vocab:
            raise BundleFormatError(
                "a token that the tokenizer needs is not in its vocabulary",
                received=repr(token),
                expected="merges, their results and the unknown token among the vocabulary",
                hint=_HINT,
            )


def _pairs(model: _Model) -> list[tuple[str, str]]:
    """The merges, of which files have two forms: `["a", "b"]` and `"a b"`."""
    pairs = []
    for merge in model.merges:
        left, _, right = merge.partition(" ") if isinstance(merge, str) else (merge[0], "", merge[1])
        _check_known(model.vocab, left, right, left + right)
        pairs.append((left, right))
    return pairs


def _all_ids(file: _TokenizerFile) -> dict[str, int]:
    ids = dict(file.model.vocab)
    for token in file.added_tokens:
        if token.id != ids.setdefault(token.content, len(ids)):
            raise BundleFormatError(
                "an added token has not the id that its place gives it",
                received=f"{token.content} with the id {token.id}",
                expected=f"the id {ids[token.content]}",
                hint=_HINT,
            )
    return ids
