"""The options' declaration, and the checks derived from it."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from inpaintrt.array_like import ArrayLike
from inpaintrt.errors import LatentsError, ParameterError, PromptError
from inpaintrt.options import OPTIONS, RENAMED, Options, make_options
from runtime.arrays import HasDlpack

# Options of these tests are wrong on purpose.
wrong: Any = make_options


def test_every_option_has_a_description_and_a_default_of_its_type() -> None:
    assert OPTIONS.keys() == Options.__annotations__.keys()
    for option in OPTIONS.values():
        assert re.fullmatch(r"[A-Z\"].*\.", option.description), option.name
        assert option.checked(option.default) == option.default
        assert f"{option.name}: {option.description}" in str(Options.__doc__)


def test_defaults_fill_in_what_is_not_given() -> None:
    options = make_options(strength=0.5)
    assert options == {**{name: option.default for name, option in OPTIONS.items()}, "strength": 0.5}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_inference_steps", 0),
        ("num_inference_steps", 1001),
        ("num_inference_steps", 2.5),
        ("num_inference_steps", True),
        ("num_inference_steps", None),
        ("timesteps", 999),
        ("timesteps", "999"),
        ("timesteps", []),
        ("timesteps", [999, True]),
        ("timesteps", [999, None]),
        ("timesteps", [float("inf")]),
        ("sigmas", [1.0]),
        ("sigmas", [1.0, float("nan")]),
        ("sigmas", [[1.0, 0.0]]),
        ("timestep_spacing", "karras"),
        ("timestep_spacing", 1),
        ("preset", "lightning"),
        ("preset", 7),
        ("guidance_scale", float("nan")),
        ("guidance_scale", float("-inf")),
        ("guidance_scale", 10**400),
        ("guidance_scale", "much"),
        ("strength", 1.5),
        ("strength", -0.1),
        ("eta", 2),
        ("num_images_per_prompt", 0),
        ("seed", "one"),
        ("seed", 1.5),
        ("seed", [1, "two"]),
        ("scheduler", 7),
        ("negative_prompt", 7),
        ("negative_prompt", ["a", 7]),
        ("height", 7),
        ("height", 512.0),
        ("width", 0),
        ("width", True),
        ("width", 16385),
        ("padding_mask_crop", -1),
        ("padding_mask_crop", 1.5),
        ("clip_skip", -1),
        ("output_type", "tensor"),
        ("compat", "webui"),
        ("negative_mode", "other"),
        ("guidance_interval", (0.2, 1.1)),
        ("guidance_interval", 0.2),
        ("long_prompts", "fold"),
        ("mask_blur", -0.1),
        ("mask_blur", float("nan")),
        ("mask_blur", float("inf")),
        ("mask_blur", "4"),
        ("mask_blur", True),
        ("mask_grow", 4097),
        ("mask_grow", 0.5),
        ("mask_invert", 1),
        ("match_colors", "yes"),
        ("fill", "pink"),
        ("margins", (0, 0, 0)),
        ("margins", (0, 0, 0, -1)),
        ("margins", (0, 0, 0, 1.0)),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=name) as caught:
        wrong(**{name: value})
    assert caught.value.parameter == name
    assert caught.value.received == repr(value)


@pytest.mark.parametrize(
    ("name", "value", "message", "expected"),
    [
        ("num_inference_steps", 0, "num_inference_steps is out of range", "an integer from 1 to 1000"),
        ("num_images_per_prompt", 0, "num_images_per_prompt is out of range", "an integer from 1"),
        ("guidance_scale", "7", "guidance_scale is not valid", "a finite number or None"),
        ("mask_blur", 513, "mask_blur is out of range", "a number from 0 to 512"),
        ("height", 7, "height is out of range", "an integer from 8 to 16384 or None"),
        ("negative_mode", "x", "negative_mode is unknown", "'replace' or 'symmetric'"),
        ("mask_invert", "x", "mask_invert is not valid", "True or False"),
        ("scheduler", 1, "scheduler is not valid", "a string or None"),
        (
            "timesteps",
            [],
            "timesteps is not valid",
            "a list of 1 to 1000 items, each a finite number or None",
        ),
        ("sigmas", 1.0, "sigmas is not valid", "a list of 2 to 1001 items, each a finite number or None"),
        ("seed", "x", "seed is not valid", "an integer, a list with each item an integer or None"),
        ("margins", 3, "margins is not valid", "4 values, each an integer from 0 to 16384"),
    ],
)
def test_an_error_says_what_was_expected(name: str, value: object, message: str, expected: str) -> None:
    with pytest.raises(ParameterError) as caught:
        wrong(**{name: value})
    assert (caught.value.what, caught.value.expected) == (message, expected)


@pytest.mark.parametrize(
    ("name", "value"), [("height", 8), ("width", 8), ("padding_mask_crop", 0), ("mask_grow", -4096)]
)
def test_the_smallest_values_are_accepted(name: str, value: int) -> None:
    assert wrong(**{name: value})[name] == value


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_inference_steps", np.int64(3), 3),
        ("strength", np.float32(0.5), 0.5),
        ("guidance_scale", np.int32(2), 2.0),
        ("guidance_scale", 3, 3.0),
        ("timesteps", [999, np.int64(5)], [999.0, 5.0]),
        ("timesteps", np.array([999, 5]), [999.0, 5.0]),
        ("sigmas", (np.float32(1.5), 0), [1.5, 0.0]),
        ("seed", np.uint32(7), 7),
        ("seed", (np.int64(7), 8), [7, 8]),
        ("mask_invert", np.True_, True),
        ("margins", [0, np.int16(1), 2, 3], (0, 1, 2, 3)),
        ("guidance_interval", (np.float64(0.25), 1), (0.25, 1.0)),
    ],
)
def test_numpy_numbers_and_lists_become_python_values(name: str, value: object, expected: object) -> None:
    converted = wrong(**{name: value})[name]
    assert converted == expected
    assert type(converted) is type(expected)


def test_lists_have_a_limit() -> None:
    assert len(wrong(timesteps=[5] * 1000)["timesteps"]) == 1000
    for name, length in (("timesteps", 1001), ("sigmas", 1002)):
        with pytest.raises(ParameterError, match=f"to {length - 1} items") as caught:
            wrong(**{name: [1.0] * length})
        assert len(str(caught.value)) < 300


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ParameterError, match=r"(?s)received: steps.*num_inference_steps"):
        wrong(steps=3)


@pytest.mark.parametrize(
    ("latents", "received"),
    [
        ([1.0], "list"),
        (np.zeros((1, 4, 8, 8), np.int64), "int64"),
        (torch.zeros(1, 4, 8, 8, dtype=torch.int32), "int32"),
        (np.full((1, 4, 8, 8), np.nan, np.float32), "256 values"),
        (torch.full((2,), torch.inf), "2 values"),
    ],
)
def test_latents_are_finite_floats(latents: object, received: str) -> None:
    with pytest.raises(LatentsError, match=f"received: {received}") as caught:
        wrong(latents=latents)
    assert caught.value.parameter == "latents"


@pytest.mark.parametrize("name", ["prompt_embeds", "negative_prompt_embeds"])
def test_embeddings_are_finite_floats(name: str) -> None:
    for value in ("a balloon", np.zeros((1, 77, 8), np.int64), np.full((1, 77, 8), np.inf, np.float32)):
        with pytest.raises(PromptError, match=name) as caught:
            wrong(**{name: value})
        assert caught.value.parameter == name


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, HasDlpack])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_latents_may_be_arrays_of_any_library(
    convert: Callable[[np.ndarray], ArrayLike], dtype: type[np.floating]
) -> None:
    values = np.random.default_rng(0).standard_normal((2, 4, 3, 5)).astype(dtype)
    latents = make_options(latents=convert(values))["latents"]
    assert isinstance(latents, np.ndarray)
    assert latents.dtype == dtype
    assert np.array_equal(latents, values)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1, requires_grad=True),
        torch.zeros(1, dtype=torch.bfloat16),
        torch.zeros(1, device="meta"),
        HasDlpack(torch.zeros(1, dtype=torch.bfloat16)),
    ],
)
def test_a_tensor_that_numpy_cannot_read_is_refused_with_a_hint(tensor: ArrayLike) -> None:
    with pytest.raises(LatentsError, match=r"(?s)received: (Tensor|HasDlpack): .*detach\(\)\.cpu\(\)"):
        make_options(latents=tensor)


def test_compat_refuses_what_diffusers_does_not_have() -> None:
    with pytest.raises(ParameterError, match="fill='grey'"):
        make_options(compat="diffusers", fill="grey")
    with pytest.raises(ParameterError, match="margins"):
        make_options(compat="diffusers", margins=(1, 0, 0, 0))


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_former_name_works_with_a_warning_that_names_the_new_one(old: str, new: str) -> None:
    changed = not OPTIONS[new].default
    with pytest.warns(FutureWarning, match=f"'{old}' is now named '{new}'"):
        options = wrong(**{old: changed})
    assert options == wrong(**{new: changed})
    with pytest.raises(ParameterError, match=f"{old} and {new}"):
        wrong(**{old: changed, new: changed})


def test_a_present_name_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_options(match_colors=False)["match_colors"] is False
