"""What SDXL's options are refused for: with other checkpoints, without each other, or of another shape."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inpaintrt import InpaintPipeline
from inpaintrt.errors import InputError, ParameterError, PromptError
from inpaintrt.families import SDXL
from inpaintrt.loading import load_bundle
from inpaintrt.options import OPTIONS
from runtime.image_tools import largest_difference
from runtime.sdxl_cases import IMAGE, MASK, PROMPT, embeddings

WIDTH, POOLED = 40, 20
SHORT: Mapping[str, Any] = {"num_inference_steps": 1, "seed": 0}


@pytest.fixture(scope="module")
def ours(tiny_sdxl_bundle: Path) -> InpaintPipeline:
    return InpaintPipeline(load_bundle(tiny_sdxl_bundle, backend_options={"threads": 1}))


@pytest.fixture(scope="module")
def sd(tiny_text_to_image_bundle: Path) -> InpaintPipeline:
    return InpaintPipeline(load_bundle(tiny_text_to_image_bundle, backend_options={"threads": 1}))


FOREIGN: Mapping[str, Any] = {
    "prompt_2": "a house",
    "negative_prompt_2": ["a tree"],
    "pooled_prompt_embeds": np.zeros((1, POOLED), np.float32),
    "negative_pooled_prompt_embeds": np.zeros((1, POOLED), np.float32),
    "original_size": (64, 64),
    "crops_coords_top_left": (0, 1),
    "target_size": (64, 64),
    "negative_original_size": (64, 64),
    "negative_crops_coords_top_left": (0, 0),
    "negative_target_size": (64, 64),
    "aesthetic_score": 5.0,
    "negative_aesthetic_score": 5.0,
}


def test_every_option_of_sdxl_is_refused_by_other_checkpoints(sd: InpaintPipeline) -> None:
    assert FOREIGN.keys() == SDXL.options
    for name, value in FOREIGN.items():
        given: Any = {name: value}
        with pytest.raises(ParameterError, match=rf"(?s){name} has no meaning.*'sd'.*'sdxl'") as caught:
            sd(PROMPT, **SHORT, **given)
        assert caught.value.parameter == name


def test_defaults_of_sdxls_options_are_no_options(sd: InpaintPipeline) -> None:
    given: Any = {name: OPTIONS[name].default for name in SDXL.options}
    assert len(sd(PROMPT, **SHORT, **given).images) == 1


def _both(**options: Any) -> dict[str, Any]:
    return {**embeddings(WIDTH, POOLED, **options), **embeddings(WIDTH, POOLED, negative=True, **options)}


def _without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in _both().items() if name not in names}


REFUSED: Mapping[str, tuple[dict[str, Any], str, str]] = {
    "no pooled embeddings": (
        {"prompt_embeds": _both()["prompt_embeds"]},
        "pooled_prompt_embeds",
        "prompt_embeds without pooled_prompt_embeds",
    ),
    "no pooled embeddings of the negative prompt": (
        _without("negative_pooled_prompt_embeds"),
        "negative_pooled_prompt_embeds",
        "negative_prompt_embeds without negative_pooled_prompt_embeds",
    ),
    "pooled embeddings alone": (
        {"pooled_prompt_embeds": _both()["pooled_prompt_embeds"]},
        "prompt_embeds",
        "pooled_prompt_embeds come without prompt_embeds",
    ),
    "a text and pooled embeddings": (
        {"prompt": PROMPT, "pooled_prompt_embeds": _both()["pooled_prompt_embeds"]},
        "prompt_embeds",
        "pooled_prompt_embeds come without prompt_embeds",
    ),
    "pooled embeddings of the negative prompt alone": (
        _without("negative_prompt_embeds"),
        "negative_prompt_embeds",
        "negative_pooled_prompt_embeds come without negative_prompt_embeds",
    ),
    "another width": (
        embeddings(WIDTH + 8, POOLED),
        "prompt_embeds",
        rf"(?s)width does not fit.*\[77, {WIDTH + 8}\].*\[tokens, {WIDTH}\]",
    ),
    "another width of the negative prompt": (
        {**embeddings(WIDTH, POOLED), **embeddings(WIDTH, POOLED + 1, negative=True)},
        "negative_pooled_prompt_embeds",
        "different shapes",
    ),
    "another pooled width": (
        embeddings(WIDTH, POOLED + 4),
        "pooled_prompt_embeds",
        rf"(?s)width does not fit.*\[{POOLED + 4}\].*\[{POOLED}\] for each",
    ),
    "another pooled width of the negative prompt": (
        {"prompt": PROMPT, **embeddings(WIDTH, POOLED + 4, negative=True)},
        "negative_pooled_prompt_embeds",
        "width does not fit",
    ),
    "pooled embeddings with tokens": (
        {**_both(), "pooled_prompt_embeds": np.zeros((1, 77, POOLED), np.float32)},
        "pooled_prompt_embeds",
        r"(?s)wrong shape.*\[prompts, width\]",
    ),
    "pooled embeddings that are not finite": (
        {**_both(), "pooled_prompt_embeds": np.full((1, POOLED), np.nan, np.float32)},
        "pooled_prompt_embeds",
        "pooled_prompt_embeds",
    ),
    "a second prompt": ({**_both(), "prompt_2": "a house"}, "prompt_2", "prompt_2 has no meaning"),
    "a second negative prompt": (
        {**_both(), "negative_prompt_2": "a tree"},
        "negative_prompt_2",
        "negative_prompt_2 has no meaning",
    ),
    "clip_skip": ({**_both(), "clip_skip": 1}, "clip_skip", "clip_skip has no meaning"),
    "no layer left": ({"prompt": PROMPT, "clip_skip": 3}, "clip_skip", "0 to 2"),
    "a size of nothing": ({"prompt": PROMPT, "original_size": (0, 64)}, "original_size", "from 1 to"),
    "three sides": ({"prompt": PROMPT, "target_size": (64, 64, 64)}, "target_size", "2 values"),
    "a corner outside": (
        {"prompt": PROMPT, "crops_coords_top_left": (-1, 0)},
        "crops_coords_top_left",
        "from 0 to",
    ),
    "a score of no number": (
        {"prompt": PROMPT, "aesthetic_score": float("nan")},
        "aesthetic_score",
        "a finite number",
    ),
}


@pytest.mark.parametrize("title", REFUSED)
def test_what_does_not_fit_is_refused_by_name(ours: InpaintPipeline, title: str) -> None:
    given, parameter, words = REFUSED[title]
    with pytest.raises(InputError, match=words) as caught:
        ours(**{"prompt": None, **SHORT, **given})
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt_2": ["a", "b", "c"]}, "3 prompt_2 for 2 prompts"),
        ({"negative_prompt_2": ["a", "b", "c"]}, "3 negative_prompt_2 for 2 prompts"),
        (
            {
                "prompt": None,
                **embeddings(WIDTH, POOLED, count=3),
                "pooled_prompt_embeds": np.zeros((2, POOLED), np.float32),
            },
            "2 pooled_prompt_embeds for 3 prompts",
        ),
        (
            {
                **embeddings(WIDTH, POOLED, count=2, negative=True),
                "negative_pooled_prompt_embeds": np.zeros((3, POOLED), np.float32),
            },
            "3 negative_pooled_prompt_embeds for 2 prompts",
        ),
    ],
)
def test_numbers_that_do_not_match_are_refused(
    ours: InpaintPipeline, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(PromptError, match=rf"(?s)do not match in number.*{words}"):
        ours(**{"prompt": [PROMPT, "a house"], **SHORT, **given})


def test_one_second_prompt_serves_all_prompts(ours: InpaintPipeline) -> None:
    prompts: Any = [PROMPT, "a house"]
    one = ours(prompts, prompt_2="a tree", num_inference_steps=2, seed=0).images
    each = ours(prompts, prompt_2=["a tree", "a tree"], num_inference_steps=2, seed=0).images
    assert all(np.array_equal(first, second) for first, second in zip(one, each, strict=True))


def _run(folder: Path, bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [Path(sys.executable).parent / "inpaintrt", "run", "--bundle", bundle]
    fixed = ["--prompt", PROMPT, "--steps", "2", "--seed", "0", "--output", "out.png"]
    return subprocess.run(
        [*command, *fixed, *options], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--prompt-2", "a house"), "prompt_2 has no meaning for this checkpoint"),
        (("--original-size", "64", "64"), "original_size has no meaning for this checkpoint"),
    ],
)
def test_the_command_refuses_sdxls_options_for_other_checkpoints(
    tmp_path: Path, tiny_text_to_image_bundle: Path, options: tuple[str, ...], words: str
) -> None:
    result = _run(tmp_path, tiny_text_to_image_bundle, *options)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_sizes_out_of_range(tmp_path: Path, tiny_sdxl_bundle: Path) -> None:
    result = _run(tmp_path, tiny_sdxl_bundle, "--original-size", "0", "64")
    assert result.returncode == 1
    assert "original_size" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_hands_on_every_option_of_sdxl(tmp_path: Path, tiny_sdxl_bundle: Path) -> None:
    given = {
        "prompt_2": "a house",
        "negative_prompt_2": "a tree",
        "original_size": [100, 200],
        "crops_coords_top_left": [3, 7],
        "target_size": [90, 80],
        "negative_original_size": [50, 60],
        "negative_crops_coords_top_left": [9, 11],
        "negative_target_size": [30, 20],
        "aesthetic_score": 5.0,
        "negative_aesthetic_score": 1.5,
    }
    assert given.keys() == {name for name in SDXL.options if not OPTIONS[name].is_array}
    arguments = []
    for name, value in given.items():
        arguments += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    IMAGE.save(tmp_path / "image.png")
    MASK.save(tmp_path / "mask.png")
    result = _run(tmp_path, tiny_sdxl_bundle, "--image", "image.png", "--mask", "mask.png", *arguments)
    assert result.returncode == 0, result.stderr
    painted: Any = Image.open(tmp_path / "out.png")
    parameters = json.loads(painted.text["parameters"])
    assert {name: parameters[name] for name in given} == given
    options: Any = {"num_inference_steps": 2, "seed": 0, **given}
    expected = InpaintPipeline.from_bundle(tiny_sdxl_bundle)(PROMPT, IMAGE, MASK, **options).images[0]
    assert largest_difference(painted, expected) == 0
