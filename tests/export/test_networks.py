"""The graphs of an exported bundle, each against the same weights in diffusers or transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from bundles import SD_COMPONENTS
from inpaintrt.bundle import PRECISIONS, Manifest, load_manifest, verify_files


@pytest.fixture(scope="module")
def manifest(tiny_bundle: Path) -> Manifest:
    return load_manifest(tiny_bundle)


@pytest.fixture(scope="module")
def sessions(tiny_bundle: Path) -> dict[str, onnxruntime.InferenceSession]:
    providers = ["CPUExecutionProvider"]
    return {
        name: onnxruntime.InferenceSession(tiny_bundle / name / "model.onnx", providers=providers)
        for name in SD_COMPONENTS
    }


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint: Path) -> CLIPTextModel:
    return CLIPTextModel.from_pretrained(tiny_checkpoint / "text_encoder").eval()


@pytest.fixture(scope="module")
def vae(tiny_checkpoint: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(tiny_checkpoint / "vae").eval()


@pytest.fixture(scope="module")
def unet(tiny_checkpoint: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet").eval()


@pytest.fixture(autouse=True)
def repeatable() -> None:
    torch.manual_seed(0)


def assert_close(found: Any, expected: torch.Tensor) -> None:
    reference = expected.detach().numpy()
    np.testing.assert_allclose(found, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())


@pytest.mark.parametrize("clip_skip", [[0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 2, 1]])
def test_text_encoder_skips_layers_row_by_row(
    sessions: dict[str, onnxruntime.InferenceSession], encoder: CLIPTextModel, clip_skip: list[int]
) -> None:
    ids = torch.randint(encoder.config.vocab_size, (3, 77))
    (found,) = sessions["text_encoder"].run(
        None, {"input_ids": ids.numpy(), "clip_skip": np.array(clip_skip)}
    )
    output = encoder(ids, output_hidden_states=True)
    for row, skip in enumerate(clip_skip):
        assert_close(found[row], encoder.final_layer_norm(output.hidden_states[-(skip + 1)][row]))
    if not any(clip_skip):
        assert_close(found, output.last_hidden_state)


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (2, 8, 72), (1, 200, 16), (3, 88, 40)])
def test_vae_encoder_gives_the_parameters_of_the_posterior(
    sessions: dict[str, onnxruntime.InferenceSession], vae: AutoencoderKL, batch: int, height: int, width: int
) -> None:
    images = torch.rand(batch, 3, height, width) * 2 - 1
    (found,) = sessions["vae_encoder"].run(None, {"sample": images.numpy()})
    posterior = vae.encode(images).latent_dist
    assert_close(found[:, :4], posterior.mean)
    assert_close(found[:, 4:], posterior.logvar)


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 8, 8), (2, 1, 9), (1, 25, 2), (3, 11, 5)])
def test_vae_decoder_decodes(
    sessions: dict[str, onnxruntime.InferenceSession], vae: AutoencoderKL, batch: int, height: int, width: int
) -> None:
    latents = torch.randn(batch, 4, height, width) / vae.config.scaling_factor
    (found,) = sessions["vae_decoder"].run(None, {"latent_sample": latents.numpy()})
    assert_close(found, vae.decode(latents).sample)


@pytest.mark.parametrize(
    ("rows", "height", "width", "tokens"),
    [(1, 8, 8, 77), (2, 9, 7, 77), (3, 5, 13, 154), (5, 12, 10, 77), (1, 2, 3, 77), (2, 33, 6, 231)],
)
def test_step_evaluates_the_unet_at_any_size(
    sessions: dict[str, onnxruntime.InferenceSession],
    unet: UNet2DConditionModel,
    rows: int,
    height: int,
    width: int,
    tokens: int,
) -> None:
    """With a slot a row, guidance that picks it and an update that takes it, the next state is the output."""
    state = torch.randn(rows, 6, 4, height, width)
    condition = torch.randn(rows, 5, height, width)
    timestep = torch.tensor([999.0, 0.0, 500.5, 1.0, 20.0])[:rows]
    context = torch.randn(rows, tokens, unet.config.cross_attention_dim)
    update = torch.zeros(rows, 7, 10)
    update[:, 2, 6] = 1
    inputs = {
        "state": state,
        "finite": torch.ones(rows),
        "condition": condition,
        "mask": torch.ones(rows, 1, height, width),
        "image_latents": torch.zeros(rows, 4, height, width),
        "first_noise": torch.zeros(rows, 4, height, width),
        "row_slot": torch.arange(rows).flip(0),
        "timestep": timestep,
        "context": context,
        "guidance": torch.eye(rows),
        "prompt_rows": torch.eye(rows),
        "guidance_rescale": torch.zeros(rows),
        "update": update,
        "threshold": torch.full((rows,), 0.5),
        "noise": torch.randn(rows, 4, height, width),
    }
    found, _ = sessions["denoiser"].run(None, {name: value.numpy() for name, value in inputs.items()})
    sample = torch.cat([state[:, 0], condition], dim=1).flip(0)
    assert_close(found[:, 2], unet(sample, timestep, context).sample)
    assert np.abs(np.delete(found, 2, axis=1)).max() == 0


def test_manifest_describes_the_graphs(
    tiny_bundle: Path, manifest: Manifest, sessions: dict[str, onnxruntime.InferenceSession]
) -> None:
    verify_files(manifest, tiny_bundle)
    assert tuple(manifest.exported) == SD_COMPONENTS
    types = {"float32": "tensor(float)", "float16": "tensor(float16)", "int64": "tensor(int64)"}
    for name, component in manifest.exported.items():
        values = (*sessions[name].get_inputs(), *sessions[name].get_outputs())
        specs = {**component.inputs, **component.outputs}
        assert {value.name for value in values} == set(specs)
        for value in values:
            assert value.type == types[specs[value.name].dtype]
            assert tuple(value.shape) == specs[value.name].shape
    assert [component.form for component in manifest.exported.values()] == [None, None, "step", None]


def test_manifest_has_the_checkpoint_and_its_architecture(manifest: Manifest) -> None:
    architecture = manifest.architecture
    assert architecture.native_resolution == (64, 64)
    assert (architecture.latent_channels, architecture.vae_scale_factor) == (4, 8)
    assert architecture.latent_scale == 0.18215
    assert (architecture.context_width, architecture.text_layers) == (16, 3)
    assert architecture.prediction_type == "epsilon"
    assert manifest.checkpoint.sha256 is not None
    assert "/" not in manifest.checkpoint.id  # no path of the machine that exported it
    assert manifest.scheduler["_class_name"] == "PNDMScheduler"
    assert manifest.producer["torch"] == torch.__version__


def test_every_component_was_compared_at_odd_and_even_sizes(manifest: Manifest) -> None:
    for component in manifest.exported.values():
        assert len(component.parity) >= 3
        for parity in component.parity:
            assert parity.relative_error <= PRECISIONS["fp32"].tolerance
    cases = [parity.case for parity in manifest.exported["denoiser"].parity]
    assert any("height=9 width=7" in case for case in cases)
    assert any("height=8 width=8" in case for case in cases)


@pytest.mark.parametrize("name", SD_COMPONENTS)
def test_graphs_carry_no_descriptions(tiny_bundle: Path, name: str) -> None:
    model = onnx.load(tiny_bundle / name / "model.onnx")
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import] == [18]
    assert not model.graph.value_info
    for node in model.graph.node:
        assert not node.metadata_props
        assert not node.doc_string


def test_half_bundle_computes_in_half_between_float32_ends(tiny_half_bundle: Path) -> None:
    manifest = load_manifest(tiny_half_bundle)
    verify_files(manifest, tiny_half_bundle)
    components = manifest.exported
    assert {component.precision for component in components.values()} == {"fp16"}
    assert components["text_encoder"].outputs["last_hidden_state"].dtype == "float16"
    halves = [name for name, spec in components["denoiser"].inputs.items() if spec.dtype == "float16"]
    assert halves == ["context"]
    for name in ("vae_encoder", "vae_decoder"):
        specs = {**components[name].inputs, **components[name].outputs}
        assert {spec.dtype for spec in specs.values()} == {"float32"}
    for component in components.values():
        for parity in component.parity:
            assert 1e-5 < parity.relative_error <= PRECISIONS["fp16"].tolerance


@pytest.mark.parametrize("name", SD_COMPONENTS)
def test_half_graphs_hold_half_weights(tiny_bundle: Path, tiny_half_bundle: Path, name: str) -> None:
    sizes = [(bundle / name / "model.onnx").stat().st_size for bundle in (tiny_half_bundle, tiny_bundle)]
    assert sizes[0] < sizes[1]
    initializers = onnx.load(tiny_half_bundle / name / "model.onnx").graph.initializer
    floats = {tensor.data_type for tensor in initializers if np.prod(tensor.dims) > 64}
    assert onnx.TensorProto.FLOAT16 in floats
    assert onnx.TensorProto.FLOAT not in floats
