"""The tokenizer of the demo checkpoint: CLIP's kind, its merges learned from the world's own captions."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from inpaintrt_demo.masks import EMPTY_PLACES, PLACES
from inpaintrt_demo.world import COLORS, DAYTIMES, PARTS, random_scene, with_article

START, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
MERGES = 400  # an upper limit; the captions need fewer


def corpus() -> list[str]:
    """Return captions that hold every word of the world."""
    names = [with_article(f"{color} {kind}") for color in COLORS for kind in PARTS]
    phrases = [*EMPTY_PLACES.values(), *PLACES.values(), *(daytime.phrase for daytime in DAYTIMES)]
    return names + phrases + [random_scene(seed).caption for seed in range(200)]


def learn_merges(captions: Iterable[str]) -> list[tuple[str, str]]:
    """Return byte-pair merges, most useful first, with "</w>" marking the end of a word."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=512 + MERGES, end_of_word_suffix="</w>", initial_alphabet=alphabet(), show_progress=False
    )
    words = sorted(word for caption in captions for word in caption.split())
    tokenizer.train_from_iterator(words, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def alphabet() -> list[str]:
    """Return the characters that stand for the 256 bytes, sorted."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def build_tokenizer() -> CLIPTokenizer:
    """Return the tokenizer; any text has tokens, since every byte is one."""
    merges = learn_merges(corpus())
    pieces = [*alphabet(), *(f"{byte}</w>" for byte in alphabet()), *(left + right for left, right in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH, pad_token=END)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write tokenizer.json, vocab.json, merges.txt and the configuration."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")


def token_ids(
    tokenizer: CLIPTokenizer, captions: list[str]
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the tokens of the captions, padded: [captions, 77]."""
    encoded = tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True)
    return np.asarray(encoded["input_ids"], np.int64)
