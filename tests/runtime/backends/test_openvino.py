"""The backend `openvino`: the images of ONNX Runtime, in the precision that was asked for, or an error."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from inpaintrt import InpaintPipeline
from inpaintrt.backends import open_engine
from inpaintrt.backends.openvino import OpenVinoEngine
from inpaintrt.bundle import TensorSpec, load_manifest
from inpaintrt.errors import (
    EngineInputError,
    EngineRunError,
    EngineUnavailableError,
    LoraMismatchError,
    ParameterError,
)
from inpaintrt.store import find_bundle
from lora_files import save_lora
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.networks import plain_build, plain_engine

CHECKPOINT = Path(__file__).parents[3] / "demo" / "checkpoint"
IMAGE, MASK = gradient(64, 64), disc_mask(64, 64)
OPTIONS: dict[str, Any] = {"num_inference_steps": 4, "seed": 2, "compat": "diffusers"}
INPAINTING: dict[str, Any] = {"image": IMAGE, "mask_image": MASK}
BUILD = plain_build(TensorSpec(dtype="float32", shape=("batch",)))


def _inputs(rows: int = 2) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(rows)
    return {
        "sample": random.standard_normal((rows, 9, 4, 5)).astype(np.float32),
        "timestep": np.arange(1, rows + 1, dtype=np.float32),
        "encoder_hidden_states": random.standard_normal((rows, 7, 12)).astype(np.float32),
    }


def _open(folder: Path, **options: object) -> OpenVinoEngine:
    plain_engine(folder)
    engine = open_engine("openvino", folder, BUILD, options)
    assert isinstance(engine, OpenVinoEngine)
    return engine


def _assert_same_images(bundle: str | Path, request: dict[str, Any]) -> None:
    options = {"prompt": "a red balloon", **OPTIONS, **request}
    with (
        InpaintPipeline.from_bundle(bundle) as reference,
        InpaintPipeline.from_bundle(bundle, backend="openvino") as pipe,
    ):
        for ours, theirs in zip(pipe(**options).images, reference(**options).images, strict=True):
            assert largest_difference(ours, theirs) <= 1


@pytest.mark.parametrize(
    "request_",
    [
        INPAINTING,
        {**INPAINTING, "num_images_per_prompt": 3, "scheduler": "euler_a", "negative_prompt": "a tree"},
        {**INPAINTING, "guidance_interval": (0.2, 0.6), "scheduler": "dpmpp_2m_karras"},
        {**INPAINTING, "strength": 0.6, "clip_skip": 1},
    ],
    ids=["inpainting", "three images", "guidance in an interval", "strength"],
)
def test_it_paints_what_onnx_runtime_paints(request_: dict[str, Any]) -> None:
    _assert_same_images("demo", request_)


@pytest.mark.parametrize("request_", [{}, {"image": IMAGE}, INPAINTING])
def test_a_text_to_image_bundle_does_every_task(
    tiny_text_to_image_bundle: Path, request_: dict[str, Any]
) -> None:
    _assert_same_images(tiny_text_to_image_bundle, request_)


@pytest.mark.parametrize("request_", [{"prompt_2": "a blue house"}, INPAINTING])
def test_sdxl_paints_what_it_paints_on_onnx_runtime(tiny_sdxl_bundle: Path, request_: dict[str, Any]) -> None:
    _assert_same_images(tiny_sdxl_bundle, request_)


def test_a_lora_changes_the_same_weights(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for part, component, file in (
        ("unet", "denoiser", "unet/diffusion_pytorch_model.safetensors"),
        ("text_encoder", "text_encoder", "text_encoder/model.safetensors"),
    ):
        placed = load_manifest(find_bundle("demo")).exported[component].weights
        for name, value in load_file(CHECKPOINT / file).items():
            if name in placed:
                module, _, kind = name.rpartition(".")
                ending = "diff" if kind == "weight" else "diff_b"
                tensors[f"{part}.{module}.{ending}"] = 0.02 * torch.randn(value.shape, generator=random)
    assert len(tensors) > 100
    lora = save_lora(tmp_path / "everything.safetensors", tensors)
    loras = [(str(lora), 0.7)]
    with (
        InpaintPipeline.from_bundle("demo", loras=loras) as reference,
        InpaintPipeline.from_bundle("demo", loras=loras, backend="openvino") as pipe,
        InpaintPipeline.from_bundle("demo", backend="openvino") as without,
    ):
        (theirs,), (ours,), (plain,) = (
            each("a red balloon", IMAGE, MASK, **OPTIONS).images for each in (reference, pipe, without)
        )
    assert largest_difference(ours, theirs) <= 1
    assert largest_difference(ours, plain) > 1


def test_a_lora_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "style.safetensors", {"lora_unet_foo.diff": torch.ones(1)})
    with pytest.raises(LoraMismatchError, match="lora_unet_foo"):
        InpaintPipeline.from_bundle("demo", loras=[str(lora)], backend="openvino")


def test_a_weight_that_openvino_does_not_have_is_named(tmp_path: Path) -> None:
    plain_engine(tmp_path)
    changed = {"absent.weight": np.ones(3, np.float32)}
    with pytest.raises(EngineUnavailableError, match=r"(?s)received: absent\.weight.*onnxruntime"):
        OpenVinoEngine(
            tmp_path / BUILD.file, BUILD, core=openvino.Core(), device="CPU", settings={}, weights=changed
        )


def test_outputs_belong_to_the_caller(tmp_path: Path) -> None:
    engine = _open(tmp_path)
    first = engine.run(_inputs())["out_sample"]
    kept = first.copy()
    assert (engine.run({**_inputs(), "sample": _inputs()["sample"] * 2})["out_sample"] != kept).any()
    np.testing.assert_array_equal(first, kept)


def test_several_threads_may_run_an_engine(tmp_path: Path) -> None:
    engine, reference = _open(tmp_path), plain_engine(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda index: engine.run(_inputs(1 + index % 3)), range(24)))
    for index, result in enumerate(results):
        expected = reference.run(_inputs(1 + index % 3))["out_sample"]
        np.testing.assert_allclose(result["out_sample"], expected, atol=1e-5)


def test_shapes_beyond_those_that_are_kept_are_compiled_again(tmp_path: Path) -> None:
    engine = _open(tmp_path, kept_shapes=2)
    expected = engine.run(_inputs(1))["out_sample"]
    for rows in (2, 3, 4):
        engine.run(_inputs(rows))
    assert engine._compiled.held == 2
    np.testing.assert_array_equal(engine.run(_inputs(1))["out_sample"], expected)


def test_what_does_not_fit_is_refused_and_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = _open(tmp_path)
    with pytest.raises(EngineInputError):
        engine.run({})
    engine.close()
    with pytest.raises(EngineRunError, match="closed"):
        engine.run(_inputs())


def test_a_failure_has_a_name(tmp_path: Path) -> None:
    engine = _open(tmp_path)
    with pytest.raises(EngineRunError, match="OpenVINO"):
        engine.run({**_inputs(), "sample": np.zeros((2, 9, 0, 0), np.float32)})


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / BUILD.file).write_bytes(b"not a network")
    with pytest.raises(EngineUnavailableError, match=r"(?s)cannot load.*unet\.onnx"):
        open_engine("openvino", tmp_path, BUILD)


def test_a_network_that_the_manifest_does_not_describe_is_refused(tmp_path: Path) -> None:
    plain_engine(tmp_path)
    renamed = msgspec.structs.replace(BUILD, inputs={f"{name}_": spec for name, spec in BUILD.inputs.items()})
    with pytest.raises(EngineUnavailableError, match="manifest describes"):
        open_engine("openvino", tmp_path, renamed)


@pytest.mark.parametrize(
    "options",
    [
        {"speed": 9},
        {"threads": 0},
        {"kept_shapes": 0},
        {"device": 3},
        {"precision": "int3"},
        {"cache": 5},
    ],
)
def test_options_are_checked(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        _open(tmp_path, **options)


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailableError, match=r"(?s)received: HDDL.*expected: .*CPU"):
        _open(tmp_path, device="HDDL")


def test_half_precision_is_refused_where_the_device_does_not_have_it(tmp_path: Path) -> None:
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        with pytest.raises(EngineUnavailableError, match=r"(?s)does not compute in bf16.*expected: fp32"):
            _open(tmp_path, precision="bf16")
        return
    exact, coarse = (_open(tmp_path, precision=precision) for precision in ("fp32", "bf16"))
    error = np.abs(exact.run(_inputs())["out_sample"] - coarse.run(_inputs())["out_sample"])
    assert 1e-5 < error.max() < 0.1


def test_it_computes_in_float32_unless_asked(tmp_path: Path) -> None:
    engine, reference = _open(tmp_path, threads=1), plain_engine(tmp_path)
    found, expected = (each.run(_inputs())["out_sample"] for each in (engine, reference))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_command_line_takes_it_and_the_cache_fills(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with InpaintPipeline.from_bundle("demo", backend="openvino", cache=str(cache), threads=1) as pipe:
        pipe("a red balloon", IMAGE, MASK, num_inference_steps=1, seed=0)
    assert list(cache.iterdir())
    IMAGE.save(tmp_path / "image.png")
    MASK.save(tmp_path / "mask.png")
    words = ["run", "--backend", "openvino", "--threads", "1", "-p", "a red balloon", "--steps", "1"]
    files = ["--image", "image.png", "--mask", "mask.png", "--seed", "0", "-o", "out.png"]
    command = [str(Path(sys.executable).with_name("inpaintrt")), *words, *files]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.png").is_file()


def test_doctor_names_its_version_and_devices() -> None:
    command = [str(Path(sys.executable).with_name("inpaintrt")), "doctor"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "openvino" in output


def test_without_the_library_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from inpaintrt import InpaintPipeline\n"
        "from inpaintrt.errors import EngineUnavailableError\n"
        "import json\n"
        "try: InpaintPipeline.from_bundle('demo', backend='openvino')\n"
        "except EngineUnavailableError as error: print(json.dumps(str(error)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'inpaintrt[openvino]'" in json.loads(result.stdout)
