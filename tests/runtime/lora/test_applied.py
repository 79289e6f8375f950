"""LoRAs that are applied when a bundle is loaded: every weight, wherever it lies, and whole images."""

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx.external_data_helper import set_external_data
from safetensors.torch import load_file
from torch import nn

from bundles import list_files_again, make_tiny_bundle, make_tiny_checkpoint
from inpaintrt import InpaintPipeline
from inpaintrt.bundle import load_manifest, save_manifest
from inpaintrt.errors import LoraMismatchError
from inpaintrt.lora import LoraSource, changed_weights, open_loras, read_initializers
from inpaintrt.store import find_bundle
from inpaintrt_export.families import find_family
from inpaintrt_export.networks import Network, step_network, text_encoder_network
from inpaintrt_export.precision.conversions import describe_half
from inpaintrt_export.precision.halves import HalfNetworks
from inpaintrt_export.sources.checkpoint import Part
from inpaintrt_export.sources.folder import FolderSource
from inpaintrt_export.tracing import example_inputs
from lora_files import Format, adaptable, make_lora, save_lora
from runtime.image_tools import disc_mask, gradient, largest_difference
from runtime.reference import Reference, compare

# diffusers hands PyTorch tensors to NumPy in its schedulers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

CHECKPOINT = Path(__file__).parents[3] / "demo" / "checkpoint"
DEMO_FILES = {
    "denoiser": "unet/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}
SIDE = 64
CASE: dict[str, Any] = {
    "prompt": "a red balloon over the hills",
    "image": gradient(SIDE, SIDE),
    "mask_image": disc_mask(SIDE, SIDE),
    "num_inference_steps": 4,
    "seed": 0,
    "height": SIDE,
    "width": SIDE,
}
SIZES = {"slots": 2, "rows": 3, "tokens": 77, "height": 8, "width": 8, "batch": 2}
PARTS: dict[str, Part] = {
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
    "denoiser": "unet",
}
SDXL = "tiny-sdxl-inpaint"
NAMES = ("tiny", SDXL)
COMPONENTS = [("tiny", name) for name in ("text_encoder", "denoiser")] + [(SDXL, name) for name in PARTS]


@dataclass(frozen=True)
class Sample:
    """A checkpoint, its bundle, and a LoRA that changes every parameter that has a place in the bundle."""

    source: FolderSource
    bundle: Path
    everything: Path


@pytest.fixture(scope="session")
def samples(bundle_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Sample]:
    @functools.cache
    def make(name: str) -> Sample:
        source = FolderSource(make_tiny_checkpoint(bundle_cache, name), name=name)
        bundle = make_tiny_bundle(bundle_cache, name=name)
        path = tmp_path_factory.mktemp("lora") / "everything.safetensors"
        return Sample(source, bundle, save_lora(path, _change_everything(source, bundle)))

    return make


def _change_everything(source: FolderSource, bundle: Path) -> dict[str, torch.Tensor]:
    """Full differences, each with its own numbers, by names of PEFT's kind."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for component, build in load_manifest(bundle).exported.items():
        for name, value in _parameters(source, component).items() if build.weights else ():
            if name in build.weights:
                module, _, kind = f"{PARTS[component]}.{name}".rpartition(".")
                ending = "diff" if kind == "weight" else "diff_b"
                tensors[f"{module}.{ending}"] = torch.randn(value.shape, generator=generator) * 0.1
    return tensors


def _parameters(source: FolderSource, component: str) -> dict[str, torch.Tensor]:
    return _named(component, source.load(PARTS[component]))


def _named(component: str, module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters by the names of checkpoints."""
    return {
        name if component == "denoiser" or name.startswith("text_") else f"text_model.{name}": value
        for name, value in module.named_parameters()
    }


def changed(sample: Sample, component: str) -> tuple[Network, nn.Module]:
    """A network of PyTorch whose weights are changed without any of our code for LoRAs."""
    part = PARTS[component]
    module: Any = sample.source.load(part)
    parameters = _named(component, module)
    for name, difference in load_file(sample.everything).items():
        if name.startswith(f"{part}."):
            own = name.removeprefix(f"{part}.").removesuffix("_b").removesuffix(".diff")
            parameters[f"{own}.{'bias' if name.endswith('_b') else 'weight'}"].data += difference
    if component == "denoiser":
        specs = load_manifest(sample.bundle).exported[component].inputs
        network = step_network(module, torch.float32, specs)
    else:
        family = find_family(sample.source.config("unet"))
        network = text_encoder_network(module, torch.float32, family)
    return network, network.module


def inputs_of(network: Network) -> dict[str, torch.Tensor]:
    examples = example_inputs(network, SIZES, torch.Generator().manual_seed(3))
    if "finite" in examples:
        examples["finite"].fill_(1)
    return examples


def run(bundle: Path, component: str, inputs: Any, *loras: LoraSource, **options: Any) -> list[NDArray[Any]]:
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    with InpaintPipeline.from_bundle(bundle, loras=list(loras), **options) as pipe:
        return list(pipe.stages.engines[component].run(arrays).values())


@pytest.mark.parametrize("variants", [True, False])
@pytest.mark.parametrize(("name", "component"), COMPONENTS)
def test_every_parameter_is_changed_as_in_pytorch(
    samples: Callable[[str], Sample], name: str, component: str, variants: bool
) -> None:
    sample = samples(name)
    network, module = changed(sample, component)
    inputs = inputs_of(network)
    with torch.no_grad():
        computed = module(**inputs)
    expected = computed if isinstance(computed, tuple) else (computed,)
    found = run(sample.bundle, component, inputs, sample.everything, variants=variants)
    assert np.abs(found[0] - run(sample.bundle, component, inputs)[0]).max() > 0.5
    for ours, theirs in zip(found, expected, strict=False):
        limit = 2e-4 * np.abs(theirs.numpy()).max()
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=limit)


@pytest.mark.parametrize("name", NAMES)
def test_all_weights_but_dropped_biases_have_places(samples: Callable[[str], Sample], name: str) -> None:
    sample = samples(name)
    for component, build in load_manifest(sample.bundle).exported.items():
        if component in PARTS:
            parameters = _parameters(sample.source, component).keys()
            # The synthetic checkpoint's last bias is all zeros, which the exporter leaves out.
            assert parameters - build.weights.keys() <= {"conv_out.bias"}
            assert set(build.transposed) < parameters


def test_a_parameter_that_counts_for_nothing_is_accepted(
    samples: Callable[[str], Sample], tmp_path: Path
) -> None:
    """SDXL's first text encoder ends before its final layer norm."""
    sample = samples(SDXL)
    manifest = load_manifest(sample.bundle)
    assert manifest.exported["text_encoder"].weights["text_model.final_layer_norm.weight"] == ""
    name = "text_encoder.text_model.final_layer_norm.w_norm"
    width = _parameters(sample.source, "text_encoder")["text_model.final_layer_norm.weight"].shape
    lora = save_lora(tmp_path / "a.safetensors", {name: torch.ones(width)})
    weights = changed_weights(sample.bundle, manifest, manifest.exported, open_loras([lora]))
    assert weights == {"text_encoder": {}}


@pytest.fixture(scope="module")
def source(tiny_checkpoint: Path) -> FolderSource:
    return FolderSource(tiny_checkpoint, name="tiny")


@pytest.fixture(scope="module")
def everything(samples: Callable[[str], Sample]) -> Path:
    return samples("tiny").everything


@pytest.fixture(scope="module")
def outside_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with its denoiser's weights beside the graphs, as those of a real checkpoint lie."""
    bundle = tmp_path_factory.mktemp("outside") / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    for file in ("model.onnx", "onnxruntime.onnx"):
        path = bundle / "denoiser" / file
        model = onnx.load(path)
        with (bundle / "denoiser" / f"{file}.data").open("wb") as data:
            for tensor in model.graph.initializer:
                if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
                    content = tensor.raw_data
                    set_external_data(tensor, f"{file}.data", data.tell(), len(content))
                    tensor.ClearField("raw_data")
                    data.write(content)
        path.write_bytes(model.SerializeToString())
    list_files_again(bundle)
    return bundle


@pytest.mark.parametrize("variants", [True, False])
def test_weights_beside_the_graph_are_changed_as_those_in_it(
    samples: Callable[[str], Sample], outside_bundle: Path, variants: bool
) -> None:
    sample = samples("tiny")
    inputs = inputs_of(changed(sample, "denoiser")[0])
    results = [
        run(bundle, "denoiser", inputs, sample.everything, variants=variants)[0]
        for bundle in (sample.bundle, outside_bundle)
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5 * np.abs(results[1]).max())


def test_half_weights_are_rounded_once(tiny_bundle: Path, tiny_half_bundle: Path, everything: Path) -> None:
    loras = open_loras([(everything, 0.5)])
    full, half = (
        changed_weights(bundle, manifest, manifest.exported, loras)["denoiser"]
        for bundle in (tiny_bundle, tiny_half_bundle)
        for manifest in [load_manifest(bundle)]
    )
    assert len(full) == len(half) > 100
    for ours, theirs in zip(half.values(), full.values(), strict=True):
        np.testing.assert_allclose(ours.astype(np.float32), theirs, rtol=2e-3, atol=1e-3)
    assert {str(value.dtype) for value in half.values()} == {"float16"}


def test_a_network_that_was_converted_to_half_takes_the_float32_weights_rounded_once(
    tiny_bundle: Path, everything: Path, tmp_path: Path
) -> None:
    manifest = load_manifest(tiny_bundle)
    loras = open_loras([everything])
    expected = changed_weights(tiny_bundle, manifest, manifest.exported, loras)
    halves = HalfNetworks(tiny_bundle, manifest, tmp_path)
    for name in ("text_encoder", "denoiser"):
        half = msgspec.structs.replace(describe_half(manifest, name), files=(str(halves.path(name)),))
        found = changed_weights(tiny_bundle, manifest, {name: half}, loras)[name]
        assert {place.removesuffix("/half") for place in found} == expected[name].keys()
        for place, value in found.items():
            exact = expected[name][place.removesuffix("/half")]
            np.testing.assert_array_equal(value, exact.astype(value.dtype))


def test_a_half_bundle_runs_with_a_lora(tiny_half_bundle: Path, everything: Path) -> None:
    inputs = {"input_ids": np.arange(77)[None] * 3, "clip_skip": np.array([0])}
    plain, found = (run(tiny_half_bundle, "text_encoder", inputs, *loras)[0] for loras in ((), (everything,)))
    assert np.abs(found - plain).max() > 0.1


@pytest.mark.parametrize("layout", ["kohya", "peft with metadata", "old diffusers"])
def test_images_equal_diffusers(
    tiny_checkpoint: Path, tiny_bundle: Path, source: FolderSource, tmp_path: Path, layout: Format
) -> None:
    modules = adaptable(source.load("unet"), source.load("text_encoder"), convolutions=layout == "kohya")
    path = save_lora(tmp_path / "a.safetensors", *make_lora(layout, modules))
    theirs = Reference(tiny_checkpoint)
    theirs.pipe.load_lora_weights(path)
    theirs.pipe.fuse_lora(lora_scale=0.8)
    with InpaintPipeline.from_bundle(tiny_bundle, loras=[(path, 0.8)]) as ours:
        images = ours(**CASE, compat="diffusers").images
    compare(images, theirs(**CASE))
    with InpaintPipeline.from_bundle(tiny_bundle) as plain:
        assert largest_difference(plain(**CASE, compat="diffusers").images[0], images[0]) > 20


def test_a_lora_of_the_text_encoder_alone_leaves_the_denoiser(
    tiny_bundle: Path, source: FolderSource, tmp_path: Path
) -> None:
    modules = adaptable(nn.Module(), source.load("text_encoder"))
    path = save_lora(tmp_path / "a.safetensors", *make_lora("kohya", modules))
    manifest = load_manifest(tiny_bundle)
    assert changed_weights(tiny_bundle, manifest, manifest.exported, open_loras([path])).keys() == {
        "text_encoder"
    }


def test_loras_are_applied_in_their_order(tiny_bundle: Path, tmp_path: Path) -> None:
    """Both add up, and a magnitude is set on what came before it."""
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    plain = save_lora(tmp_path / "a.safetensors", {f"{name}.diff": torch.ones(32, 32)})
    zeros = {f"{name}.lora_A.weight": torch.zeros(1, 32), f"{name}.lora_B.weight": torch.zeros(32, 1)}
    dora = save_lora(tmp_path / "b.safetensors", {**zeros, f"{name}.lora_magnitude_vector": torch.ones(32)})
    manifest = load_manifest(tiny_bundle)

    def weight(*loras: LoraSource) -> NDArray[Any]:
        found = changed_weights(tiny_bundle, manifest, manifest.exported, open_loras(loras))
        (value,) = found["denoiser"].values()
        return value.T  # the graph holds it transposed

    np.testing.assert_allclose(np.linalg.norm(weight(plain, dora), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weight(dora, plain) - 1, weight(dora), atol=1e-6)
    np.testing.assert_allclose(weight(plain, (plain, -1.0)), weight((plain, 0.0)), atol=1e-6)


def test_a_bundle_without_places_asks_for_another_export(
    tiny_bundle: Path, everything: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    manifest = load_manifest(bundle)
    bare = [msgspec.structs.replace(build, weights={}, transposed=()) for build in manifest.builds]
    save_manifest(msgspec.structs.replace(manifest, builds=tuple(bare)), bundle)
    InpaintPipeline.from_bundle(bundle).close()
    with pytest.raises(LoraMismatchError, match="does not say where the weights") as caught:
        InpaintPipeline.from_bundle(bundle, loras=[everything])
    assert "inpaintrt export" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lora_te2_text_projection", (2, 2), "text_encoder_2, which this checkpoint does not have"),
        ("unet.conv_in", (16, 5, 3, 3), "change of 'conv_in' does not fit"),
        ("lora_unet_foo", (1,), "modules that the denoiser of this checkpoint does not have"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tiny_bundle: Path, tmp_path: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    lora = save_lora(tmp_path / "a.safetensors", {f"{name}.diff": torch.ones(shape)})
    with pytest.raises(LoraMismatchError, match=message):
        InpaintPipeline.from_bundle(tiny_bundle, loras=[lora])


def test_a_bias_that_the_graph_lacks_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "a.safetensors", {"unet.conv_out.diff_b": torch.ones(4)})
    with pytest.raises(LoraMismatchError, match=r"has no conv_out\.bias that could be changed") as caught:
        InpaintPipeline.from_bundle(tiny_bundle, loras=[lora])
    assert "inpaintrt export" in str(caught.value.hint)


def test_numbers_that_half_cannot_hold_are_refused(tiny_half_bundle: Path, tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "a.safetensors", {"unet.conv_in.diff": torch.full((16, 9, 3, 3), 1e5)})
    with pytest.raises(LoraMismatchError, match="float16 cannot hold"):
        InpaintPipeline.from_bundle(tiny_half_bundle, loras=[lora])


def test_a_build_without_the_weight_asks_to_be_built_again(tiny_bundle: Path, everything: Path) -> None:
    manifest = load_manifest(tiny_bundle)
    other = msgspec.structs.replace(
        manifest.exported["denoiser"],
        files=manifest.exported["text_encoder"].files,
        backend="onnxruntime-cuda",
    )
    builds = {**manifest.exported, "denoiser": other}
    with pytest.raises(LoraMismatchError, match="has no weight for") as caught:
        changed_weights(tiny_bundle, manifest, builds, open_loras([everything]))
    assert "inpaintrt build" in str(caught.value.hint)


def test_the_demo_takes_loras(tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "a.safetensors", {"unet.conv_in.diff": torch.ones(64, 4, 3, 3)})
    demo = find_bundle("demo")
    manifest = load_manifest(demo)
    place = manifest.exported["denoiser"].weights["conv_in.weight"]
    weights = changed_weights(demo, manifest, manifest.exported, open_loras([lora]))["denoiser"]
    before = read_initializers(demo / manifest.exported["denoiser"].file)[place].read()
    np.testing.assert_allclose(weights[place][:, :4], before[:, :4] + 1, rtol=1e-6)
    np.testing.assert_array_equal(weights[place][:, 4:], before[:, 4:])


@pytest.mark.parametrize(("component", "file"), DEMO_FILES.items())
def test_the_demo_s_weights_lie_where_its_manifest_says(component: str, file: str) -> None:
    demo = find_bundle("demo")
    build = load_manifest(demo).exported[component]
    initializers = read_initializers(demo / build.file)
    stored = load_file(CHECKPOINT / file)
    for name, place in build.weights.items():
        held = initializers[place].read()
        own = name if name in stored else name.removeprefix("text_model.")  # as transformers 5 saves it
        expected = stored[own].float().numpy()
        same = held.T if name in build.transposed else held.reshape(expected.shape)
        np.testing.assert_array_equal(same, expected, err_msg=name)
    assert len(build.weights) >= len(stored) - 1
