"""The embedding cache, with a text encoder made of a table."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from inpaintrt.errors import EngineRunError, ParameterError, PromptError
from inpaintrt.prompts import PromptEncoder, PromptTokenizer


class TableEncoder:
    """A text encoder whose embedding of a token is a row of a table, plus clip_skip; it records its calls."""

    def __init__(self) -> None:
        self.table = np.random.default_rng(0).standard_normal((2000, 5)).astype(np.float32)
        self.calls: list[tuple[NDArray[np.int64], int]] = []

    def __call__(self, ids: NDArray[np.int64], clip_skip: int) -> dict[str, NDArray[np.float32]]:
        self.calls.append((ids, clip_skip))
        return {"last_hidden_state": np.asarray(self.table[ids] + np.float32(clip_skip))}


@pytest.fixture
def text_encoder() -> TableEncoder:
    return TableEncoder()


def test_embeddings_are_those_of_the_tokens(tokenizer: PromptTokenizer, text_encoder: TableEncoder) -> None:
    prompts = ["a boat", "the moon at night"]
    embeddings, _, warnings = PromptEncoder(tokenizer, text_encoder).encode(prompts)
    expected = [text_encoder.table[tokenizer.encode(prompt).ids[0]] for prompt in prompts]
    assert embeddings.shape == (2, 77, 5)
    assert embeddings.dtype == np.float32
    assert np.array_equal(embeddings, np.stack(expected))
    assert warnings == ()


def test_a_window_is_encoded_once_and_alone(tokenizer: PromptTokenizer, text_encoder: TableEncoder) -> None:
    encoder = PromptEncoder(tokenizer, text_encoder)
    first, *_ = encoder.encode(["a boat", "the moon", "a boat"])
    second, *_ = encoder.encode(["the moon", "a boat"])
    assert [ids.shape for ids, _ in text_encoder.calls] == [(1, 77), (1, 77)]
    assert np.array_equal(first[[1, 0]], second)


def test_clip_skip_is_handed_on_and_kept_apart(
    tokenizer: PromptTokenizer, text_encoder: TableEncoder
) -> None:
    encoder = PromptEncoder(tokenizer, text_encoder)
    last, *_ = encoder.encode(["a boat"], clip_skip=0)
    skipped, *_ = encoder.encode(["a boat"], clip_skip=2)
    assert [clip_skip for _, clip_skip in text_encoder.calls] == [0, 2]
    assert np.allclose(skipped - last, 2, atol=1e-6)


def test_the_one_that_was_not_used_longest_is_forgotten(
    tokenizer: PromptTokenizer, text_encoder: TableEncoder
) -> None:
    encoder = PromptEncoder(tokenizer, text_encoder, cache_size=2)
    for prompt in ("a boat", "a tree", "a boat", "a house"):
        encoder.encode([prompt])
    assert len(text_encoder.calls) == 3
    encoder.encode(["a boat"])
    assert len(text_encoder.calls) == 3
    encoder.encode(["a tree"])
    assert len(text_encoder.calls) == 4


def test_a_cache_of_size_0_keeps_nothing(tokenizer: PromptTokenizer, text_encoder: TableEncoder) -> None:
    encoder = PromptEncoder(tokenizer, text_encoder, cache_size=0)
    first, *_ = encoder.encode(["a boat"])
    second, *_ = encoder.encode(["a boat"])
    assert len(text_encoder.calls) == 2
    assert np.array_equal(first, second)


def test_shorter_prompts_are_filled_up_with_empty_windows(
    tokenizer: PromptTokenizer, text_encoder: TableEncoder
) -> None:
    long = "tree " * 100
    embeddings, *_ = PromptEncoder(tokenizer, text_encoder).encode([long, "a boat"], long_prompts="windows")
    assert embeddings.shape == (2, 154, 5)
    table = text_encoder.table
    assert np.array_equal(
        embeddings[0], table[tokenizer.encode(long, long_prompts="windows").ids.reshape(-1)]
    )
    assert np.array_equal(embeddings[1, :77], table[tokenizer.encode("a boat").ids[0]])
    assert np.array_equal(embeddings[1, 77:], table[tokenizer.encode("").ids[0]])


def test_warnings_of_all_prompts_are_handed_on(
    tokenizer: PromptTokenizer, text_encoder: TableEncoder
) -> None:
    *_, warnings = PromptEncoder(tokenizer, text_encoder).encode(["tree " * 76, "a boat", "moon " * 76])
    assert ["'tree'" in warnings[0], "'moon'" in warnings[1], len(warnings)] == [True, True, 2]


def test_results_are_read_only_and_the_cache_cannot_be_spoilt(
    tokenizer: PromptTokenizer, text_encoder: TableEncoder
) -> None:
    encoder = PromptEncoder(tokenizer, text_encoder)
    embeddings, *_ = encoder.encode(["a boat"])
    with pytest.raises(ValueError, match="read-only"):
        embeddings[0, 0, 0] = 1
    text_encoder.table += 1
    again, *_ = encoder.encode(["a boat"])
    assert np.array_equal(embeddings, again)


def test_a_text_encoder_may_use_its_output_again(tokenizer: PromptTokenizer) -> None:
    output = np.zeros((1, 77, 1), np.float32)

    def encode_tokens(ids: NDArray[np.int64], clip_skip: int) -> dict[str, NDArray[np.float32]]:
        output[0, :, 0] = ids[0]
        return {"last_hidden_state": output}

    embeddings, *_ = PromptEncoder(tokenizer, encode_tokens).encode(["a boat", "the moon"])
    for embedding, prompt in zip(embeddings, ["a boat", "the moon"], strict=True):
        assert np.array_equal(embedding[:, 0], tokenizer.encode(prompt).ids[0])


def test_threads_share_one_encoder(tokenizer: PromptTokenizer, text_encoder: TableEncoder) -> None:
    encoder = PromptEncoder(tokenizer, text_encoder, cache_size=3)
    prompts = ["a boat", "a tree", "a house", "the moon", "a lake"] * 8
    expected = {prompt: text_encoder.table[tokenizer.encode(prompt).ids] for prompt in prompts}
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda prompt: encoder.encode([prompt])[0], prompts))
    assert all(
        np.array_equal(result, expected[prompt]) for prompt, result in zip(prompts, results, strict=True)
    )


@pytest.mark.parametrize("prompts", ["a boat", None, 3])
def test_prompts_that_are_no_list_are_refused(
    tokenizer: PromptTokenizer, text_encoder: TableEncoder, prompts: object
) -> None:
    with pytest.raises(PromptError, match="list"):
        PromptEncoder(tokenizer, text_encoder).encode(prompts)  # type: ignore[arg-type]


def test_no_prompt_is_refused(tokenizer: PromptTokenizer, text_encoder: TableEncoder) -> None:
    with pytest.raises(PromptError, match="no prompt"):
        PromptEncoder(tokenizer, text_encoder).encode([])


def test_a_negative_cache_size_is_refused(tokenizer: PromptTokenizer, text_encoder: TableEncoder) -> None:
    with pytest.raises(ParameterError, match="cache_size"):
        PromptEncoder(tokenizer, text_encoder, cache_size=-1)


@pytest.mark.parametrize("shape", [(1, 76, 5), (2, 77, 5), (77, 5)])
def test_an_output_of_the_wrong_shape_is_refused(tokenizer: PromptTokenizer, shape: tuple[int, ...]) -> None:
    output = {"last_hidden_state": np.zeros(shape, np.float32)}
    encoder = PromptEncoder(tokenizer, lambda ids, clip_skip: output)
    with pytest.raises(EngineRunError, match="shape"):
        encoder.encode(["a boat"])
