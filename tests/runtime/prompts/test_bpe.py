"""Token ids against `tokenizers`: every character, all kinds of texts, added tokens, merges in any order."""

import json
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from inpaintrt.prompts.bpe import BytePairEncoder, merge_pairs
from inpaintrt.prompts.tokenizer_file import read_tokenizer_file
from runtime.prompts.characters import ASSIGNED, CHARACTERS, NEW_MARKS, any_text

START, END = "<|startoftext|>", "<|endoftext|>"
SEPARATORS = "\x1c\x1d\x1e\x1f\u180e\u200b\ufeff"
WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
FRAGMENTS = (
    *(
        "'s",
        "'t",
        "'re",
        "'ve",
        "'m",
        "'ll",
        "'d",
        "'S",
        "'",
        "''",
        "\u2019s",
        "!",
        "?!",
        "...",
        "</w>",
        "|>",
    ),
    *(START, END, START.upper(), END.upper(), "<|", "<|endoftext", "endoftext|>", "<|startoftext|>!"),
    *(
        "a",
        "Tree",
        "moon",
        "35mm",
        "4k",
        "\u0663",
        "\u2167",
        "\u00bd",
        "\u4e00",
        "\u6c34\u306e",
        "\U0001f9d1\u200d\U0001f680",
    ),
    *(
        "\u03a3",
        "\u039f\u0394\u039f\u03a3",
        "\u0130",
        "\u1e9e",
        "\u01c5",
        "\u212b",
        "e\u0301\u0323",
        "\u1100\u1161",
        "\u0344",
        "\u2126",
    ),
    *WHITE_SPACE,
    *SEPARATORS,
)
LONG = "a highly detailed photograph of the house by the water at night, it's dusk, 35mm film grain; " * 12


class Both:
    """The same file, read by us and by `tokenizers`."""

    def __init__(self, content: bytes) -> None:
        self.ours = BytePairEncoder(read_tokenizer_file(content))
        self.theirs = Tokenizer.from_buffer(content)

    def check(self, text: str) -> list[int]:
        ids = self.ours.encode(text)
        assert ids == self.theirs.encode(text, add_special_tokens=False).ids, repr(text)
        return ids


@pytest.fixture(scope="session")
def small(small_file: bytes) -> Both:
    return Both(small_file)


@pytest.fixture(scope="session")
def large(large_file: bytes) -> Both:
    return Both(large_file)


@pytest.fixture(params=["small", "large"])
def both(request: pytest.FixtureRequest) -> Both:
    found: Both = request.getfixturevalue(request.param)
    return found


def _changed(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    file = json.loads(content)
    change(file)
    return json.dumps(file).encode()


def _chunks(characters: list[str]) -> Iterator[list[str]]:
    return (characters[start : start + 500] for start in range(0, len(characters), 500))


@pytest.mark.parametrize("form", ["{}", "a{}a", "!{}!"])
def test_every_character_gives_the_ids_of_tokenizers(large: Both, form: str) -> None:
    for chunk in _chunks(ASSIGNED):
        large.check(" ".join(form.format(character) for character in chunk))


@pytest.mark.parametrize("form", ["{}", "e{}\u0301\u0323"])
def test_characters_beside_marks_are_composed_as_tokenizers_does(small: Both, form: str) -> None:
    for chunk in _chunks([character for character in ASSIGNED if character not in NEW_MARKS]):
        small.check("".join(form.format(character) for character in chunk))


def test_marks_that_are_sorted_otherwise_are_few_and_new() -> None:
    assert len(NEW_MARKS) < 150
    assert {unicodedata.ucd_3_2_0.category(mark) for mark in NEW_MARKS} <= {"Cn"}


def test_characters_that_no_version_of_unicode_assigns_are_read_alike(large: Both) -> None:
    noncharacters = [chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)]
    for chunk in _chunks(
        [*map(chr, range(0xFDD0, 0xFDF0)), *noncharacters, *map(chr, range(0x40000, 0x50000))]
    ):
        large.check("a".join(chunk))


def test_no_character_is_unknown(both: Both) -> None:
    for character in CHARACTERS[::89]:
        ids = both.ours.encode(character)
        assert both.ours.decode(ids).removesuffix("</w>") in (
            *WHITE_SPACE,
            *SEPARATORS,
            "",
            character.lower(),
            _nfc(character),
        )


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def _texts() -> st.SearchStrategy[str]:
    parts = st.sampled_from(FRAGMENTS) | any_text(3) | st.text("ab 's1!", max_size=6)
    return st.lists(parts, max_size=12).map("".join)


@given(text=_texts())
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_gives_the_ids_of_tokenizers(both: Both, text: str) -> None:
    both.check(text)


@pytest.mark.parametrize("text", [LONG, LONG.title(), "a" * 20_000, "\u6c34" * 3000, "'s" * 900, "!" * 5000])
def test_long_texts_give_the_ids_of_tokenizers(both: Both, text: str) -> None:
    assert len(both.check(text)) > 75


def test_python_and_clip_differ_about_separators_and_final_sigmas(small: Both) -> None:
    assert small.check("a\x1cb") != small.check("a b")
    assert small.check("\u039f\u03a3") == small.check("\u03bf\u03c3") != small.check("\u03bf\u03c2")


def _without_markers(file: dict[str, Any]) -> None:
    pattern = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    pattern["Regex"] = pattern["Regex"].removeprefix(r"<\|startoftext\|>|<\|endoftext\|>|")


def test_markers_in_another_case_are_words_which_end_punctuation_where_the_file_says_so(
    small_file: bytes,
) -> None:
    with_rule, without = Both(small_file), Both(_changed(small_file, _without_markers))
    for text in FRAGMENTS:
        without.check(f"x{text}!{END.upper()}!?{text}")
    text = f"{END.upper()}!"
    assert with_rule.check(text) != without.check(text)


def _as_old_file(file: dict[str, Any]) -> None:
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    for option in ("dropout", "byte_fallback", "ignore_merges"):
        del file["model"][option]
    del file["pre_tokenizer"]["pretokenizers"][1]["use_regex"]


def test_files_of_older_versions_are_read(small_file: bytes) -> None:
    old = _changed(small_file, _as_old_file)
    assert Both(old).check(LONG) == Both(small_file).check(LONG)


def _token(content: str, *, normalized: bool = False, special: bool = False) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"content": content, "normalized": normalized, "special": special, **flags}


def _with_tokens(content: bytes, *tokens: dict[str, Any]) -> Both:
    def change(file: dict[str, Any]) -> None:
        ids = dict(file["model"]["vocab"])
        for token in tokens:
            token["id"] = ids.setdefault(token["content"], len(ids))
        file["added_tokens"] = sorted(tokens, key=lambda token: token["id"])

    return Both(_changed(content, change))


ADDED = (
    "<Cat Toy> ",
    "<cat  toy>",
    "<CAT\tTOY>x",
    "zz",
    "zzz",
    "zzzz",
    "ZZZ",
    "!",
    "!!",
    "\u212b",
    "\u00c5ngstrom",
    "house",
    "o",
    END,
)


@pytest.mark.parametrize("normalized", [False, True])
@given(texts=st.lists(st.sampled_from((*ADDED, "a", " ", START.upper())), max_size=8))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_added_tokens_are_recognised_as_tokenizers_does(
    small_file: bytes, normalized: bool, texts: list[str]
) -> None:
    tokens = [
        _token("<Cat Toy>", normalized=normalized),
        _token("zz"),
        _token("zzzz", normalized=True),
        _token("ho", normalized=normalized),
        _token("\u00c5", normalized=normalized),
        _token("!", normalized=normalized, special=True),
        _token(START, normalized=normalized, special=True),
        _token(END, normalized=normalized, special=True),
    ]
    _with_tokens(small_file, *tokens).check("".join(texts))


@pytest.mark.parametrize("special", [False, True])
def test_of_two_tokens_with_one_text_the_first_counts(small_file: bytes, special: bool) -> None:
    tokens = [
        _token("<A>", normalized=True, special=special),
        _token("<a>", normalized=True, special=not special),
    ]
    both = _with_tokens(small_file, *tokens)
    # `tokenizers` takes the one or the other, as its hash table happens to be ordered.
    assert both.ours.encode("<A>") == both.ours.encode("<a>") == [both.theirs.token_to_id("<A>")]


def test_a_file_may_have_no_added_tokens(small_file: bytes) -> None:
    _with_tokens(small_file).check(f"a {END} b")


def test_bytes_outside_the_vocabulary_are_the_unknown_token(small_file: bytes) -> None:
    def remove_bytes(file: dict[str, Any]) -> None:
        for byte in "\u00e6\u00b4":
            file["model"]["vocab"][f"unused {byte}"] = file["model"]["vocab"].pop(byte)

    both = Both(_changed(small_file, remove_bytes))
    tokens = both.theirs.encode("a \u6c34\u6c34 tree", add_special_tokens=False).tokens
    assert len(both.check("a \u6c34\u6c34 tree")) == len(tokens)
    assert tokens.count(END) == 3


@pytest.mark.parametrize("text", [*FRAGMENTS, LONG, "a \U0001f9d1\u200d\U0001f680 b", f"a{END}b"])
def test_decoding_gives_the_text_of_tokenizers_even_of_characters_cut_in_two(both: Both, text: str) -> None:
    ids = both.check(text)
    for start in range(min(len(ids), 9)):
        for end in range(start, min(len(ids), 9) + 1):
            expected = both.theirs.decode(ids[start:end], skip_special_tokens=False)
            assert both.ours.decode(ids[start:end]) == expected


def test_an_added_token_that_is_no_spelling_decodes_to_itself(small_file: bytes) -> None:
    both = _with_tokens(small_file, _token("two words"), _token("\u6c34"))
    ids = both.check("two words\u6c34")
    assert both.ours.decode(ids) == both.theirs.decode(ids) == "two words\u6c34"


LETTERS = ["a", "b", "c", "a</w>", "b</w>", "c</w>"]


@given(grown=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=25), data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_merges_in_any_order_join_what_tokenizers_joins(
    small_file: bytes, grown: list[tuple[int, int]], data: st.DataObject
) -> None:
    tokens = list(LETTERS)
    merges: list[tuple[str, str]] = []
    for left, right in grown:
        starts = [token for token in tokens if not token.endswith("</w>")]
        merges.append((starts[left % len(starts)], tokens[right % len(tokens)]))
        tokens.append("".join(merges[-1]))
    merges = data.draw(st.permutations(list(dict.fromkeys(merges))))

    def change(file: dict[str, Any]) -> None:
        vocabulary = dict.fromkeys([*tokens, END])
        file["model"] |= {"vocab": {token: index for index, token in enumerate(vocabulary)}, "merges": merges}
        file["added_tokens"] = []

    both = Both(_changed(small_file, change))
    for word in data.draw(st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=5)):
        both.check(word)


def test_pairs_are_joined_by_rank_and_then_from_the_left() -> None:
    ranks = {("b", "c"): 0, ("a", "b"): 1, ("a", "a"): 2, ("aa", "a"): 3}
    assert merge_pairs(["a", "b", "c"], ranks) == ["a", "bc"]
    assert merge_pairs(["a"] * 5, ranks) == ["aa", "aaa"]
    assert merge_pairs(["d"], ranks) == ["d"]
