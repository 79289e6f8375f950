"""ONNX folders laid out as optimum lays them out, made of the plain components of our own exporter."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from inpaintrt import InpaintPipeline
from inpaintrt.bundle import load_manifest, verify_files
from inpaintrt.errors import InpaintError, OutputFolderError, SourceError
from inpaintrt.families import FAMILIES, step_specs
from inpaintrt_export import import_onnx
from inpaintrt_export.families import SD
from inpaintrt_export.networks import unet_network
from inpaintrt_export.sources.folder import FolderSource
from inpaintrt_export.tracing import trace
from runtime.image_tools import disc_mask, gradient, largest_difference

GRAPHS = ("text_encoder", "unet", "vae_encoder", "vae_decoder")


@pytest.fixture
def folder(tiny_onnx_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_onnx_folder, tmp_path / "onnx")
    return tmp_path / "onnx"


def change_graph(folder: Path, name: str, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / name / "model.onnx")
    change(model)
    onnx.save(model, folder / name / "model.onnx")


def refusal(folder: Path, error: type[InpaintError] = SourceError) -> str:
    with pytest.raises(error) as caught:
        import_onnx(folder, folder.parent / "bundle")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    return str(caught.value)


def test_bundle_describes_the_imported_graphs(folder: Path, tmp_path: Path) -> None:
    manifest = load_manifest(import_onnx(folder, tmp_path / "bundle"))
    verify_files(manifest, tmp_path / "bundle")
    components = manifest.exported
    assert list(components["text_encoder"].inputs) == ["input_ids"]
    assert components["denoiser"].form == "unet"
    assert list(components["denoiser"].inputs) == ["sample", "timestep", "encoder_hidden_states"]
    assert components["denoiser"].outputs["out_sample"].shape == ("batch", 4, "height", "width")
    assert all(component.parity == () for component in components.values())
    assert manifest.export_costs == {}
    assert manifest.architecture.text_layers is None
    assert manifest.architecture.native_resolution == (64, 64)
    assert manifest.checkpoint.id == folder.name


def test_imported_bundle_paints_what_the_exported_one_paints(
    folder: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    """The step in NumPy around the plain UNet, and the step in the graph."""
    import_onnx(folder, tmp_path / "bundle")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 72, 3), np.uint8))
    mask = Image.new("L", image.size)
    mask.paste(255, (16, 8, 48, 60))
    images = []
    for bundle in (tmp_path / "bundle", tiny_bundle):
        with InpaintPipeline.from_bundle(bundle) as pipe:
            output = pipe("a red balloon", image, mask, num_inference_steps=4, seed=1)
            images.append(np.asarray(output.images[0]).astype(int))
    assert np.abs(images[0] - images[1]).max() <= 1
    assert np.abs(images[0] - np.asarray(image)).max() > 10


def test_an_imported_text_to_image_bundle_does_every_task_of_the_exported_one(
    folder: Path, tiny_text_to_image_checkpoint: Path, tiny_text_to_image_bundle: Path, tmp_path: Path
) -> None:
    """Both tiny checkpoints have the same weights but for the UNet."""
    source = FolderSource(tiny_text_to_image_checkpoint, name="tiny")
    specs = step_specs(FAMILIES["sd"], SD.check_architecture(source))
    shutil.rmtree(folder / "unet")
    trace(unet_network(source.load("unet"), torch.float32, specs), folder / "unet" / "model.onnx")
    shutil.copy(tiny_text_to_image_checkpoint / "unet" / "config.json", folder / "unet")
    import_onnx(folder, tmp_path / "bundle")
    imported = load_manifest(tmp_path / "bundle")
    assert imported.architecture.condition_channels == 0
    assert imported.exported["denoiser"].inputs["sample"].shape[1] == 4
    image = gradient(64, 64)
    tasks: list[dict[str, Any]] = [{}, {"image": image}, {"image": image, "mask_image": disc_mask(64, 64)}]
    painted = []
    for bundle in (tmp_path / "bundle", tiny_text_to_image_bundle):
        with InpaintPipeline.from_bundle(bundle) as pipe:
            options: dict[str, Any] = {"num_inference_steps": 4, "seed": 1}
            painted.append([pipe("a red balloon", **task, **options).images[0] for task in tasks])
    for mine, theirs in zip(*painted, strict=True):
        assert largest_difference(mine, theirs) <= 1
        assert largest_difference(mine, image) > 10


def test_imported_files_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    import_onnx(folder, tmp_path / "bundle")
    for source, target in {"unet": "denoiser", "vae_encoder": "vae_encoder"}.items():
        imported = (tmp_path / "bundle" / target / "model.onnx").read_bytes()
        assert imported == (folder / source / "model.onnx").read_bytes()


def test_weights_beside_the_graph_are_brought_along(folder: Path, tmp_path: Path) -> None:
    path = folder / "unet" / "model.onnx"
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=100)
    import_onnx(folder, tmp_path / "bundle")
    manifest = load_manifest(tmp_path / "bundle")
    assert "denoiser/model.onnx_data" in [entry.path for entry in manifest.files]
    session = onnxruntime.InferenceSession(
        tmp_path / "bundle" / "denoiser" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    inputs = {
        "sample": np.zeros((1, 9, 8, 8), np.float32),
        "timestep": np.zeros(1, np.float32),
        "encoder_hidden_states": np.zeros((1, 77, 16), np.float32),
    }
    assert np.isfinite(session.run(None, inputs)[0]).all()


def test_extra_outputs_and_a_scalar_timestep_are_described(folder: Path, tmp_path: Path) -> None:
    """As optimum has them: the text encoder also gives `pooler_output`, and the timestep has no axis."""

    def add_output(model: onnx.ModelProto) -> None:
        model.graph.node.append(
            onnx.helper.make_node("ReduceMax", ["last_hidden_state"], ["pooler_output"], keepdims=0)
        )
        value = onnx.helper.make_tensor_value_info("pooler_output", onnx.TensorProto.FLOAT, [])
        model.graph.output.append(value)

    def drop_axis(model: onnx.ModelProto) -> None:
        del model.graph.input[1].type.tensor_type.shape.dim[:]
        model.graph.input[0].type.tensor_type.shape.dim[2].Clear()

    change_graph(folder, "text_encoder", add_output)
    change_graph(folder, "unet", drop_axis)
    components = load_manifest(import_onnx(folder, tmp_path / "bundle")).exported
    assert list(components["text_encoder"].outputs) == ["last_hidden_state", "pooler_output"]
    assert components["denoiser"].inputs["timestep"].shape == ()
    assert components["denoiser"].inputs["sample"].shape == ("batch", 9, "sample_2", "width")


@pytest.mark.parametrize("name", GRAPHS)
def test_missing_graph_is_named(folder: Path, name: str) -> None:
    (folder / name / "model.onnx").unlink()
    assert f"{name}/model.onnx" in refusal(folder)


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae_decoder"])
def test_missing_configuration_is_named(folder: Path, name: str) -> None:
    (folder / name / "config.json").unlink()
    assert f"{name}/config.json" in refusal(folder)


def test_unet_whose_graph_belies_its_configuration_is_refused(folder: Path) -> None:
    def narrow(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4

    change_graph(folder, "unet", narrow)
    assert "sample with 4 channels" in refusal(folder)


def test_encoder_that_samples_by_itself_is_refused(folder: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["latent_sample" if out == "latent_parameters" else out for out in node.output]
        model.graph.output[0].name = "latent_sample"

    change_graph(folder, "vae_encoder", rename)
    message = refusal(folder)
    assert "sample to latent_sample" in message
    assert "latent_parameters" in message


def test_unknown_element_type_is_refused(folder: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16

    change_graph(folder, "unet", change)
    assert "BFLOAT16" in refusal(folder)


def test_file_that_is_no_graph_is_refused(folder: Path) -> None:
    (folder / "unet" / "model.onnx").write_bytes(b"\xff" * 100)
    assert "not an ONNX file" in refusal(folder)


@pytest.mark.parametrize("location", ["../outside", "/etc/passwd", "deep/weights"])
def test_weights_outside_the_folder_are_refused(folder: Path, location: str) -> None:
    def point(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer.add(name="far", data_type=onnx.TensorProto.FLOAT, dims=[1])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    model = onnx.load(folder / "unet" / "model.onnx")
    point(model)
    (folder / "unet" / "model.onnx").write_bytes(model.SerializeToString())
    message = refusal(folder)
    assert "outside its folder" in message
    assert location in message


def test_missing_weights_are_named(folder: Path) -> None:
    path = folder / "unet" / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=100)
    (folder / "unet" / "weights.bin").unlink()
    assert "weights.bin" in refusal(folder)


def test_occupied_output_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine").write_text("mine")
    with pytest.raises(OutputFolderError):
        import_onnx(folder, tmp_path / "bundle")


def test_tokenizer_can_be_named(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "tokenizer", tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="--tokenizer"):
        import_onnx(folder, tmp_path / "bundle")
    import_onnx(folder, tmp_path / "bundle", tokenizer=tmp_path / "elsewhere")
