import json
import shutil
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from inpaintrt.errors import SourceError
from inpaintrt_export.tokenizer import (
    END_TOKEN,
    START_TOKEN,
    clip_tokenizer,
    read_tokenizer,
    token_id,
    train_vocabulary,
)

TEXTS = [
    "",
    "a photo of a red balloon",
    "A  Photo\tOF\na   RED balloon!!!",
    "it's 42 degrees; we'll see, don't you think?",
    "ünïcödé 日本語 🎈 ñ",
    "line<|endoftext|>end",
    "x" * 300,
]


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path) -> Path:
    return tiny_checkpoint / "tokenizer"


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers(folder: Path, text: str) -> None:
    tokenizer, _ = read_tokenizer(folder)
    assert tokenizer.encode(text).ids == CLIPTokenizer.from_pretrained(folder)(text).input_ids


def test_tokenizer_json_is_read_before_the_vocabulary(folder: Path, tmp_path: Path) -> None:
    tokenizer, _ = read_tokenizer(folder)
    tokenizer.enable_padding(length=77)
    tokenizer.enable_truncation(5)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    read, _ = read_tokenizer(tmp_path)
    assert read.encode(TEXTS[1]).ids == read_tokenizer(folder)[0].encode(TEXTS[1]).ids
    assert read.padding is None
    assert read.truncation is None


@pytest.mark.parametrize("entry", ["!", {"content": "!", "lstrip": False}])
def test_padding_token_is_that_of_the_configuration(folder: Path, tmp_path: Path, entry: object) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": entry}))
    assert read_tokenizer(tmp_path)[1] == 0


def test_padding_token_is_the_end_token_without_configuration(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer_config.json").unlink()
    tokenizer, pad = read_tokenizer(tmp_path)
    assert pad == token_id(tokenizer, END_TOKEN)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"(?s)no CLIP tokenizer.*merges\.txt.*--tokenizer"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "tokenizer_config.json"])
def test_broken_files_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_text("{broken")
    with pytest.raises(SourceError, match=r"cannot be read|is not JSON"):
        read_tokenizer(tmp_path)


def test_tokenizer_without_the_start_token_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    text = (folder / "vocab.json").read_text().replace(START_TOKEN, "<s>")
    (tmp_path / "vocab.json").write_text(text)
    with pytest.raises(SourceError):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("size", [600, 768, 49408])
def test_vocabulary_has_the_size_and_order_of_clip(size: int) -> None:
    vocabulary = train_vocabulary(size, ["low lower lowest", "new newer newest"])
    assert sorted(vocabulary.ids.values()) == list(range(size))
    assert vocabulary.ids["!"] == 0
    assert vocabulary.ids["!</w>"] == 256
    assert (vocabulary.ids[START_TOKEN], vocabulary.ids[END_TOKEN]) == (size - 2, size - 1)


def test_merges_are_the_most_frequent_pairs_ties_in_alphabetical_order() -> None:
    vocabulary = train_vocabulary(518, ["low low lower", "tan tap"])
    assert vocabulary.merges == (("l", "o"), ("lo", "w</w>"), ("t", "a"), ("e", "r</w>"))


def test_every_byte_has_a_token_of_its_own() -> None:
    tokenizer = clip_tokenizer(train_vocabulary(514, []))
    ids = tokenizer.encode("".join(map(chr, range(33, 0x250)))).ids[1:-1]
    assert ids
    assert token_id(tokenizer, END_TOKEN) not in ids
