import json
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from inpaintrt_demo.masks import random_masked
from inpaintrt_demo.tokenizer import END, START, build_tokenizer, corpus, save_tokenizer, token_ids
from inpaintrt_demo.world import random_scene


def captions() -> list[str]:
    rng = np.random.default_rng(0)
    return [random_masked(rng, random_scene(seed), 32).caption for seed in range(200)]


def test_every_word_of_the_world_is_one_token() -> None:
    tokenizer = build_tokenizer()
    words = {word for caption in [*captions(), *corpus()] for word in caption.split()}
    assert all(tokenizer.tokenize(word) == [f"{word}</w>"] for word in words)


def test_rows_start_and_end_and_are_padded() -> None:
    tokenizer = build_tokenizer()
    ids = token_ids(tokenizer, ["a red balloon", ""])
    start, end = tokenizer.convert_tokens_to_ids([START, END])
    assert ids.shape == (2, 77)
    assert ids[:, 0].tolist() == [start, start]
    assert ids[0, 4:].tolist() == [end] * 73
    assert ids[1, 1:].tolist() == [end] * 76


def test_any_text_has_tokens_and_comes_back() -> None:
    tokenizer = build_tokenizer()
    text = "a zebra 猫 über 42!"
    ids = tokenizer(text).input_ids[1:-1]
    assert tokenizer.convert_tokens_to_ids(END) not in ids
    assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_capitals_do_not_matter() -> None:
    tokenizer = build_tokenizer()
    assert tokenizer("A Red BALLOON").input_ids == tokenizer("a red balloon").input_ids


def test_the_saved_files_give_the_same_tokens(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    save_tokenizer(tokenizer, tmp_path)
    read = CLIPTokenizer.from_pretrained(tmp_path)
    assert read.model_max_length == 77
    assert read("a red balloon at dusk").input_ids == tokenizer("a red balloon at dusk").input_ids
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    assert sorted(vocabulary.values()) == list(range(len(tokenizer)))
    merges = [tuple(line.split()) for line in (tmp_path / "merges.txt").read_text().splitlines()[1:]]
    assert merges
    assert all(left + right in vocabulary for left, right in merges)
