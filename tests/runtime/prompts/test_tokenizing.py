"""Token ids against transformers' CLIPTokenizer, and every refusal."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from inpaintrt.errors import BundleFormatError, BundleIntegrityError, ParameterError, PromptError
from inpaintrt.prompts import MAX_CHARACTERS, MAX_WINDOWS, PromptTokenizer
from runtime.prompts.characters import any_text

PROMPTS = (
    "",
    " ",
    "a red balloon",
    "A RED Balloon",
    "  a\tred\n\n balloon \u00a0 \u3000 ",
    "it's the house's boat, they've 35mm!!! ...",
    "caf\u00e9 cafe\u0301 \u00c4\u00d6\u00dc\u00df \u0130stanbul",
    "\u6c34\u306e\u4e0a\u306e\u6708",
    "\U0001f9d1\u200d\U0001f680 \U0001f3a8 \u2603\ufe0f",
    "a\x00b",
    "<|endoftext|> and <|startoftext|> inside",
    "a" * 500,
    "tree " * 75,
    "tree " * 76,
    "tree house moon " * 100,
)


def _expected(reference: CLIPTokenizer, prompt: str) -> list[int]:
    encoded = reference(prompt, padding="max_length", max_length=77, truncation=True)
    return list(encoded.input_ids)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_are_those_of_transformers(
    tokenizer: PromptTokenizer, reference: CLIPTokenizer, prompt: str
) -> None:
    ids = tokenizer.encode(prompt).ids
    assert ids.dtype == np.int64
    assert ids.tolist() == [_expected(reference, prompt)]


@given(prompt=any_text(120))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_gives_the_ids_of_transformers(
    tokenizer: PromptTokenizer, reference: CLIPTokenizer, prompt: str
) -> None:
    assert tokenizer.encode(prompt).ids.tolist() == [_expected(reference, prompt)]


def test_the_part_that_is_cut_off_is_named_as_diffusers_names_it(
    tokenizer: PromptTokenizer, reference: CLIPTokenizer
) -> None:
    prompt = "tree " * 74 + "moon and house by the water"
    untruncated = reference(prompt).input_ids
    removed = reference.batch_decode([untruncated[76:-1]])[0]
    (warning,) = tokenizer.encode(prompt).warnings
    assert removed == "and house by the water"
    assert repr(removed) in warning


@pytest.mark.parametrize("count", [1, 74, 75])
def test_a_prompt_that_fits_has_no_warning(tokenizer: PromptTokenizer, count: int) -> None:
    assert tokenizer.encode("tree " * count).warnings == ()


@pytest.mark.parametrize(("words", "windows"), [(0, 1), (1, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
def test_windows_hold_75_tokens_each(
    tokenizer: PromptTokenizer, reference: CLIPTokenizer, words: int, windows: int
) -> None:
    prompt = "tree " * words
    encoded = tokenizer.encode(prompt, long_prompts="windows")
    assert encoded.ids.shape == (windows, 77)
    assert encoded.warnings == ()
    start, end = reference.bos_token_id, reference.eos_token_id
    assert (encoded.ids[:, 0] == start).all()
    body = [token for row in encoded.ids.tolist() for token in row if token not in (start, end)]
    assert body == reference(prompt, add_special_tokens=False).input_ids


def test_one_window_is_the_same_in_both_modes(tokenizer: PromptTokenizer) -> None:
    prompt = "two trees and a boat"
    truncated, windows = tokenizer.encode(prompt), tokenizer.encode(prompt, long_prompts="windows")
    assert np.array_equal(truncated.ids, windows.ids)


def test_the_padding_is_an_argument_as_sd_2_pads_with_an_exclamation_mark(
    tokenizer_folder: Path, reference: CLIPTokenizer
) -> None:
    content = (tokenizer_folder / "tokenizer.json").read_bytes()
    start, end = reference.bos_token_id, reference.eos_token_id
    padded = PromptTokenizer(content, max_length=77, bos_id=start, eos_id=end, pad_id=0)
    ids = padded.encode("a boat").ids[0].tolist()
    body = reference("a boat", add_special_tokens=False).input_ids
    assert ids == [start, *body, end, *[0] * (75 - len(body))]


def test_truncation_and_padding_inside_the_file_do_not_count(
    tokenizer_folder: Path, reference: CLIPTokenizer
) -> None:
    inner = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    inner.enable_truncation(5)
    inner.enable_padding(length=9)
    ours = PromptTokenizer(
        inner.to_str().encode(),
        bos_id=reference.bos_token_id,
        eos_id=reference.eos_token_id,
        pad_id=reference.pad_token_id,
    )
    prompt = "the house by the water at night"
    assert ours.encode(prompt).ids.tolist() == [_expected(reference, prompt)]


@pytest.mark.parametrize("prompt", [None, 3, b"a boat", ["a boat"]])
def test_a_prompt_that_is_no_text_is_refused(tokenizer: PromptTokenizer, prompt: object) -> None:
    with pytest.raises(PromptError, match="text"):
        tokenizer.encode(prompt)  # type: ignore[arg-type]


def test_the_longest_prompt_is_accepted_and_a_longer_one_refused(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.encode("a " * (MAX_CHARACTERS // 2)).ids.shape == (1, 77)
    with pytest.raises(PromptError, match="100000 characters"):
        tokenizer.encode("a" * 100_000)


def test_too_many_windows_are_refused(tokenizer: PromptTokenizer) -> None:
    assert len(tokenizer.encode("tree " * 75 * MAX_WINDOWS, long_prompts="windows").ids) == MAX_WINDOWS
    with pytest.raises(PromptError, match="1201 tokens"):
        tokenizer.encode("tree " * (75 * MAX_WINDOWS + 1), long_prompts="windows")


@pytest.mark.parametrize("prompt", ["\ud800", "a \udfff b"])
def test_a_lone_surrogate_is_refused(tokenizer: PromptTokenizer, prompt: str) -> None:
    with pytest.raises(PromptError, match="surrogate"):
        tokenizer.encode(prompt)


def test_an_unknown_mode_is_refused(tokenizer: PromptTokenizer) -> None:
    mode: Any = "split"
    with pytest.raises(ParameterError, match="long_prompts"):
        tokenizer.encode("a boat", long_prompts=mode)


def test_the_length_of_a_window_is_told(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.max_length == 77


@pytest.mark.parametrize("content", [b"{}", b"\xff", b""])
def test_a_file_that_is_no_tokenizer_is_refused(content: bytes) -> None:
    with pytest.raises(BundleFormatError):
        PromptTokenizer(content, bos_id=0, eos_id=1, pad_id=1)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleIntegrityError, match=r"tokenizer\.json"):
        PromptTokenizer(tmp_path / "tokenizer.json", bos_id=0, eos_id=1, pad_id=1)


@pytest.mark.parametrize(
    "changed", [{"bos_id": -1}, {"eos_id": 1_000_000}, {"pad_id": -2}, {"max_length": 2}]
)
def test_ids_and_lengths_out_of_range_are_refused(tokenizer_folder: Path, changed: dict[str, int]) -> None:
    arguments = {"max_length": 77, "bos_id": 0, "eos_id": 1, "pad_id": 1} | changed
    with pytest.raises(ParameterError, match=next(iter(changed))):
        PromptTokenizer(tokenizer_folder / "tokenizer.json", **arguments)
