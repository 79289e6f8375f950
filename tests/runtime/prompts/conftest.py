"""A CLIP-style tokenizer, trained on a few sentences, and the same files read by transformers."""

import json
import random
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from inpaintrt.prompts import PromptTokenizer
from inpaintrt_export.tokenizer import Vocabulary, clip_tokenizer

SENTENCES = (
    "a red balloon over a dark lake, it's dusk",
    "the house by the water at night, painted in oil",
    "two trees and one tree and a boat under a pale moon",
    "a photograph of a city street, highly detailed, 35mm",
)
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        special_tokens=[START, END],
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers saves it, `tokenizer.json` among its files."""
    folder = tmp_path_factory.mktemp("tokenizer")
    model = json.loads(_trained().to_str())["model"]
    vocabulary = model["vocab"]
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(character + "</w>", len(vocabulary))
    merges = [tuple(pair) for pair in model["merges"]]
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def reference(tokenizer_folder: Path) -> CLIPTokenizer:
    """transformers' CLIPTokenizer."""
    return CLIPTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path, reference: CLIPTokenizer) -> PromptTokenizer:
    """Ours, of the same file, padded with the end token as SD 1.5 is."""
    return PromptTokenizer(
        tokenizer_folder / "tokenizer.json",
        max_length=77,
        bos_id=reference.bos_token_id,
        eos_id=reference.eos_token_id,
        pad_id=reference.pad_token_id,
    )


@pytest.fixture(scope="session")
def small_file(tokenizer_folder: Path) -> bytes:
    """The `tokenizer.json` of the trained tokenizer."""
    return (tokenizer_folder / "tokenizer.json").read_bytes()


def _all_merges() -> list[tuple[str, str]]:
    letters = [*ascii_lowercase]
    pairs = ["".join(pair) for pair in product(letters, letters)]
    triples = ["".join(triple) for triple in product(letters, repeat=3)]
    lead = [chr(byte) for byte in range(0xC3, 0xF5)]
    byte_of = {chr(code): code for code in (*range(0xA1, 0xAD), *range(0xAE, 0xC0))}
    merges = [*product(letters, letters), *product(pairs, letters), *product(lead, byte_of)]
    ends = [(left, right + "</w>") for left, right in merges]
    long = list(zip(triples, random.Random(2).sample(pairs, 676) * 26, strict=True))
    return (merges + ends + long)[: 49408 - 514]


@pytest.fixture(scope="session")
def large_file() -> bytes:
    """A `tokenizer.json` as large as CLIP's; its merges, of every kind, are ranked at random."""
    merges = _all_merges()
    random.Random(1).shuffle(merges)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens = [*letters, *(left + right for left, right in merges), START, END]
    ids = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return clip_tokenizer(Vocabulary(ids=ids, merges=tuple(merges))).to_str().encode()
