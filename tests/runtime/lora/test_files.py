"""LoRA files: every type of number, and what is refused with a message that names it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from inpaintrt.errors import LoraError, LoraFileError, LoraMismatchError
from inpaintrt.lora import find_changes, open_lora, open_loras, parse_lora
from lora_files import save_lora

UP, DOWN = "lora_unet_conv_out.lora_up.weight", "lora_unet_conv_out.lora_down.weight"
PLAIN = {UP: torch.ones(6, 2), DOWN: torch.ones(2, 5)}
WEIGHT = np.zeros((6, 5), np.float32)


def saved(
    folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None, **options: Any
) -> Path:
    return save_lora(folder / "a.safetensors", tensors, metadata, **options)


def apply(path: Path, weight: np.ndarray[Any, Any] = WEIGHT, scale: float = 1.0) -> np.ndarray[Any, Any]:
    ((change, factor),) = find_changes(open_loras([(path, scale)]), "denoiser", ["conv_out.weight"])[
        "conv_out.weight"
    ]
    return change.apply(weight, factor)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_numbers_of_every_type_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor([1.5, -3.25, 1e-3, 200.0])
    tensor = open_lora(saved(tmp_path, {UP: values}, dtype=dtype)).tensors[UP]
    np.testing.assert_array_equal(tensor.read(), values.to(dtype).float().numpy())
    assert tensor.shape == (4,)


def test_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path, PLAIN)
    assert open_lora(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(None, 2.0), (torch.tensor(1.0), 1.0), (torch.tensor([4]), 4.0), (torch.tensor(0.0), 2.0)],
)
def test_alpha_over_rank_scales_the_difference(tmp_path: Path, alpha: Tensor | None, expected: float) -> None:
    tensors = PLAIN | ({} if alpha is None else {"lora_unet_conv_out.alpha": alpha})
    assert (apply(saved(tmp_path, tensors)) == expected).all()


def test_scale_0_changes_nothing_and_negative_scales_subtract(tmp_path: Path) -> None:
    path = saved(tmp_path, PLAIN)
    assert (apply(path, scale=0.0) == 0).all()
    assert (apply(path, scale=-1.0) == -2).all()


def test_metadata_of_peft_decides_the_scale(tmp_path: Path) -> None:
    peft = {"unet.conv_out.lora_A.weight": PLAIN[DOWN], "unet.conv_out.lora_B.weight": PLAIN[UP]}
    for adapter, expected in (
        ({"unet.lora_alpha": 8}, 8.0),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 * 2**0.5),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"conv_out": 2}}, 2.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"out": 2}}, 8.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"(": 2}}, 8.0),
        ({"text_encoder.lora_alpha": 8}, 2.0),
    ):
        path = saved(tmp_path, peft, {"lora_adapter_metadata": json.dumps(adapter)})
        np.testing.assert_allclose(apply(path), expected, rtol=1e-6)


def test_bias_of_peft_is_scaled_with_the_rest(tmp_path: Path) -> None:
    names = {"unet.conv_out.lora_A.weight": PLAIN[DOWN], "unet.conv_out.lora_B.weight": PLAIN[UP]}
    tensors = {**names, "unet.conv_out.lora_B.bias": torch.ones(6)}
    path = saved(tmp_path, tensors, {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4})})
    changes = find_changes(open_loras([path]), "denoiser", ["conv_out.weight", "conv_out.bias"])
    ((change, scale),) = changes["conv_out.bias"]
    assert (change.apply(np.zeros(6, np.float32), 0.5 * scale) == 1).all()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{", "cannot be read"),
        ("[1]", "cannot be read"),
        (json.dumps({"unet.lora_alpha": "many"}), "no usable alpha"),
        (json.dumps({"unet.lora_alpha": True}), "no usable alpha"),
        (json.dumps({"unet.fan_in_fan_out": True}), "transposed"),
    ],
)
def test_bad_metadata_is_refused(tmp_path: Path, metadata: str, message: str) -> None:
    peft = {"unet.conv_out.lora_A.weight": PLAIN[DOWN], "unet.conv_out.lora_B.weight": PLAIN[UP]}
    with pytest.raises(LoraFileError, match=message):
        apply(saved(tmp_path, peft, {"lora_adapter_metadata": metadata}))


@pytest.mark.parametrize("content", [b"", b"\x80\x02pickle", b"\xff" * 64, (10**9).to_bytes(8, "little")])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(LoraFileError, match=r"not a whole \.safetensors file"):
        open_lora(path)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, PLAIN)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(LoraFileError, match="not a whole"):
        open_lora(path)


@pytest.mark.parametrize("name", ["missing.safetensors", ""])
def test_missing_files_and_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoraFileError, match="cannot be read"):
        open_lora(tmp_path / name)


def test_empty_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(LoraFileError, match="no tensors"):
        open_lora(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(LoraFileError, match=r"lora_up\.weight' has values that are not finite"):
        apply(saved(tmp_path, {**PLAIN, UP: torch.full((6, 2), value)}))


def test_unknown_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="F8_E4M3"):
        open_lora(saved(tmp_path, PLAIN, dtype=torch.float8_e4m3fn))


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_conv_out.oft_blocks",
        "lora_unet_conv_out.a1.weight",
        "lora_unet_conv_out",
        "lora_unet_.alpha",
        "transformer.blocks.0.lora_A.weight",
        "bundle_emb.style.string_to_param.*",
        "emb_params",
    ],
)
def test_unknown_tensors_are_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoraFileError) as caught:
        open_loras([saved(tmp_path, {**PLAIN, name: torch.ones(2)})])
    assert str(caught.value.received) == name


def test_of_many_unknown_tensors_the_first_are_named(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match=r"x\.7 and 2 more"):
        open_loras([saved(tmp_path, {f"x.{index}": torch.ones(1) for index in range(10)})])


def test_unknown_modules_are_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path, {**PLAIN, "lora_unet_foo.lora_up.weight": torch.ones(6, 2)})
    with pytest.raises(LoraMismatchError) as caught:
        apply(path)
    assert str(caught.value.received) == "lora_unet_foo.lora_up.weight"


def test_factors_that_lack_others_are_refused(tmp_path: Path) -> None:
    for extra in (
        {},
        {"lora_unet_conv_out.hada_w1_a": torch.ones(6, 2)},
        {"lora_unet_conv_out.alpha": torch.ones([])},
    ):
        with pytest.raises(LoraFileError, match="not those of one kind"):
            apply(saved(tmp_path, {UP: PLAIN[UP], **extra}))
    with pytest.raises(LoraFileError, match="not those of one kind"):
        apply(saved(tmp_path, {**PLAIN, "lora_unet_conv_out.lokr_w1": torch.ones(1)}))


def test_two_tensors_for_one_factor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoraMismatchError, match="two tensors for the factor 'up'"):
        apply(saved(tmp_path, {**PLAIN, "unet.conv_out.lora_B.weight": PLAIN[UP].clone()}))


def test_alpha_is_one_number(tmp_path: Path) -> None:
    with pytest.raises(LoraFileError, match="alpha of 'conv_out' is not one number"):
        apply(saved(tmp_path, {**PLAIN, "lora_unet_conv_out.alpha": torch.ones(3)}))


@pytest.mark.parametrize(
    "factors",
    [
        {"lora_up.weight": (6, 3), "lora_down.weight": (2, 5)},
        {"lora_up.weight": (6, 2, 3, 3), "lora_down.weight": (2, 5)},
        {"lora_up.weight": (6,), "lora_down.weight": (2, 5)},
        {"lora_up.weight": (6, 2), "lora_down.weight": ()},
        {"lora_up.weight": (6, 2), "lora_down.weight": (2, 5, 1)},
        {"lora_up.weight": (6, 2), "lora_down.weight": (2, 5), "lora_mid.weight": (2, 2)},
        {"hada_w1_a": (6, 2), "hada_w1_b": (2, 5), "hada_w2_a": (6, 2), "hada_w2_b": (2, 4)},
        {"hada_w1_a": (6, 2), "hada_w1_b": (), "hada_w2_a": (6, 2), "hada_w2_b": ()},
        {
            "hada_w1_a": (2, 6),
            "hada_w1_b": (2, 5),
            "hada_w2_a": (6, 2),
            "hada_w2_b": (2, 5),
            "hada_t1": (2, 2, 1, 1),
        },
        {"lokr_w1": (2,), "lokr_w2": (3, 5)},
        {"lokr_w1": (2, 1), "lokr_w2": (3,)},
        {"lokr_w1": (2, 1), "lokr_w2": (3, 5), "lokr_t2": (2, 2, 1, 1)},
        {"lokr_w1": (2, 1), "lokr_w2_a": (3, 2), "lokr_w2_b": (4, 5)},
        {"lokr_w1_a": (2, 3), "lokr_w1_b": (), "lokr_w2": (3, 5)},
        {"diff": (5, 6)},
        {"diff": ()},
    ],
)
def test_factors_that_do_not_fit_are_refused(tmp_path: Path, factors: dict[str, tuple[int, ...]]) -> None:
    tensors = {f"lora_unet_conv_out.{name}": torch.ones(shape) for name, shape in factors.items()}
    with pytest.raises(LoraMismatchError, match="change of 'conv_out' does not fit"):
        apply(saved(tmp_path, tensors))


def test_a_kernel_does_not_fit_a_wider_input(tmp_path: Path) -> None:
    """[2, 45, 1, 1] has as many numbers as [2, 5, 3, 3]."""
    path = saved(tmp_path, {UP: torch.ones(6, 2, 1, 1), DOWN: torch.ones(2, 45, 1, 1)})
    with pytest.raises(LoraMismatchError, match="does not fit"):
        apply(path, np.zeros((6, 5, 3, 3), np.float32))


def test_huge_products_are_refused_before_they_are_formed(tmp_path: Path) -> None:
    path = saved(tmp_path, {UP: torch.ones(10**6, 1), DOWN: torch.ones(1, 10**6)})
    with pytest.raises(LoraMismatchError, match=r"does not fit"):
        apply(path)


@pytest.mark.parametrize(
    "name", ["lora_unet_conv_out.dora_scale", "lora_unet_conv_out.lora_magnitude_vector"]
)
def test_magnitudes_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoraMismatchError, match="magnitude of 'conv_out' does not fit"):
        apply(saved(tmp_path, {**PLAIN, name: torch.ones(7)}))


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("style.safetensors", "style.safetensors", 1.0),
        ("style.safetensors:0.8", "style.safetensors", 0.8),
        ("a:b.safetensors:-1", "a:b.safetensors", -1.0),
        ("C:\\style.safetensors", "C:\\style.safetensors", 1.0),
        (":0.5", ":0.5", 1.0),
        ("5", "5", 1.0),
    ],
)
def test_files_and_scales_of_the_command_line(text: str, path: str, scale: float) -> None:
    assert parse_lora(text) == (path, scale)


@pytest.mark.parametrize("scale", [np.nan, np.inf, "0.8", None, True])
def test_scales_are_finite_numbers(tmp_path: Path, scale: Any) -> None:
    with pytest.raises(LoraError, match="is not a finite number"):
        open_loras([(saved(tmp_path, PLAIN), scale)])


def test_a_list_of_files_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, PLAIN)
    with pytest.raises(LoraError, match="loras is not a list"):
        open_loras(str(path))
    with pytest.raises(LoraError, match="names no LoRA"):
        open_loras([3])  # type: ignore[list-item]
