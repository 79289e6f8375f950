"""What a `tokenizer.json` may say, and every refusal."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from inpaintrt.errors import BundleFormatError
from inpaintrt.prompts.tokenizer_file import read_tokenizer_file

SPLIT = ("pre_tokenizer", "pretokenizers", 0)
BYTES = ("pre_tokenizer", "pretokenizers", 1)
BERT = {"type": "BertNormalizer", "lowercase": True}


def _with(content: bytes, path: Sequence[str | int], value: object) -> bytes:
    file = json.loads(content)
    place: Any = file
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(file).encode()


def test_a_file_is_read(small_file: bytes) -> None:
    model = json.loads(small_file)["model"]
    vocabulary = read_tokenizer_file(small_file)
    assert vocabulary.ids == model["vocab"]
    assert [list(pair) for pair in vocabulary.ranks] == model["merges"]
    assert list(vocabulary.ranks.values()) == list(range(len(model["merges"])))
    assert vocabulary.unknown == model["vocab"]["<|endoftext|>"]
    assert {token.content for token in vocabulary.added} == {"<|startoftext|>", "<|endoftext|>"}
    assert vocabulary.markers


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("post_processor",), None),
        (("decoder",), None),
        (("truncation",), {"max_length": 5}),
        (("padding",), {"length": 9}),
        ((*BYTES, "trim_offsets"), False),
        (("model", "continuing_subword_prefix"), None),
        (("model", "dropout"), 0.0),
    ],
)
def test_what_plays_no_part_may_be_anything(
    small_file: bytes, path: tuple[str | int, ...], value: object
) -> None:
    assert read_tokenizer_file(_with(small_file, path, value)) == read_tokenizer_file(small_file)


@pytest.mark.parametrize(
    ("path", "value", "received", "expected"),
    [
        (("normalizer",), None, "null", "NFC"),
        (("normalizer",), BERT, "BertNormalizer", "NFC"),
        (("normalizer", "normalizers", 2, "type"), "Uppercase", "Uppercase", "Lowercase"),
        (("normalizer", "normalizers", 1, "content"), "_", '"_"', '" "'),
        (("pre_tokenizer",), {"type": "Whitespace"}, "Whitespace", "ByteLevel"),
        ((*SPLIT, "pattern", "Regex"), ".", '"."', "startoftext"),
        ((*SPLIT, "invert"), False, '"invert":false', '"invert":true'),
        ((*SPLIT, "behavior"), "Isolated", "Isolated", "Removed"),
        ((*BYTES, "add_prefix_space"), True, '"add_prefix_space":true', '"add_prefix_space":false'),
        ((*BYTES, "use_regex"), False, '"use_regex":false', '"use_regex":true'),
        (("model", "type"), "WordPiece", "WordPiece", "BPE"),
        (("model", "end_of_word_suffix"), None, "null", "</w>"),
        (("model", "continuing_subword_prefix"), "##", "##", '""'),
        (("model", "dropout"), 0.1, "0.1", "null"),
        (("model", "fuse_unk"), True, "true", "false"),
        (("model", "byte_fallback"), True, "true", "false"),
        (("model", "ignore_merges"), True, "true", "false"),
        (("added_tokens", 0, "lstrip"), True, "true", "false"),
        (("added_tokens", 0, "rstrip"), True, "true", "false"),
        (("added_tokens", 0, "single_word"), True, "true", "false"),
    ],
)
def test_another_rule_is_refused_with_what_is_supported(
    small_file: bytes, path: tuple[str | int, ...], value: object, received: str, expected: str
) -> None:
    with pytest.raises(BundleFormatError, match="is not CLIP's") as caught:
        read_tokenizer_file(_with(small_file, path, value))
    assert received in str(caught.value.received)
    assert expected in str(caught.value.expected)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("model",), None, "model"),
        (("model", "vocab"), {"a": "0"}, "vocab"),
        (("model", "merges"), [["a", "b", "c"]], "merges"),
        (("model", "merges"), [1], "merges"),
        (("model", "unk_token"), None, "unk_token"),
        (("added_tokens", 0, "content"), "", "content"),
        (("added_tokens",), None, "added_tokens"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(
    small_file: bytes, path: tuple[str | int, ...], value: object, named: str
) -> None:
    with pytest.raises(BundleFormatError, match=named):
        read_tokenizer_file(_with(small_file, path, value))


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"[]", b'{"model": ', b"\x80" * 9])
def test_what_is_no_tokenizer_is_refused(content: bytes) -> None:
    with pytest.raises(BundleFormatError, match=r"tokenizer\.json"):
        read_tokenizer_file(content)


@pytest.mark.parametrize("merge", ["a", "a ", " a", "a b c", "zq xq", ["a", ""], ["a", "zq"], ["!", "!"]])
def test_a_merge_outside_the_vocabulary_is_refused(small_file: bytes, merge: str | list[str]) -> None:
    with pytest.raises(BundleFormatError, match="not in its vocabulary"):
        read_tokenizer_file(_with(small_file, ("model", "merges"), [merge]))


def test_an_unknown_token_outside_the_vocabulary_is_refused(small_file: bytes) -> None:
    with pytest.raises(BundleFormatError, match=r"<unk>"):
        read_tokenizer_file(_with(small_file, ("model", "unk_token"), "<unk>"))


@pytest.mark.parametrize("number", [0, 100_000, -1])
def test_ids_with_gaps_or_duplicates_are_refused(small_file: bytes, number: int) -> None:
    with pytest.raises(BundleFormatError, match="gaps or duplicates"):
        read_tokenizer_file(_with(small_file, ("model", "vocab", "a"), number))


def test_an_added_token_with_another_id_is_refused(small_file: bytes) -> None:
    with pytest.raises(BundleFormatError, match=r"<\|startoftext\|> with the id 3"):
        read_tokenizer_file(_with(small_file, ("added_tokens", 0, "id"), 3))
