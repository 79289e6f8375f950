"""A bundle from ONNX files that others exported, in a folder laid out as optimum lays it out."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from inpaintrt.bundle import Build, Checkpoint, TensorSpec
from inpaintrt.errors import SourceError
from inpaintrt_export.configs import read_config
from inpaintrt_export.families import SD, find_family
from inpaintrt_export.families.parts import UNET_INPUTS
from inpaintrt_export.manifest import write_manifest, write_tokenizers
from inpaintrt_export.output import check_disk_space, check_output, new_folder
from inpaintrt_export.progress import silent
from inpaintrt_export.tokenizer import read_tokenizer

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from tokenizers import Tokenizer

    from inpaintrt.bundle import Architecture, Dtype
    from inpaintrt_export.progress import Progress
    from inpaintrt_export.sources.checkpoint import Part

__all__ = ["import_onnx"]

# Component of the bundle: folder of the source, inputs and output that it must have.
_GRAPHS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "text_encoder": ("text_encoder", ("input_ids",), "last_hidden_state"),
    "vae_encoder": ("vae_encoder", ("sample",), "latent_parameters"),
    "denoiser": ("unet", ("sample", "timestep", "encoder_hidden_states"), "out_sample"),
    "vae_decoder": ("vae_decoder", ("latent_sample",), "sample"),
}
_CONFIG_FOLDERS: dict[Part, str] = {"text_encoder": "text_encoder", "vae": "vae_decoder", "unet": "unet"}
_DTYPES: dict[int, Dtype] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT64: "int64",
}


class _OnnxFolder:
    """The configurations in a folder of ONNX files."""

    def __init__(self, folder: Path, tokenizer: Path | None) -> None:
        self._folder = folder
        self._tokenizer = folder / "tokenizer" if tokenizer is None else tokenizer

    def has(self, part: Part) -> bool:
        return part in _CONFIG_FOLDERS and (self._folder / _CONFIG_FOLDERS[part]).is_dir()

    def pipeline_config(self) -> dict[str, Any]:
        return {}

    def config(self, part: Part) -> dict[str, Any]:
        path = self._folder / _CONFIG_FOLDERS[part] / "config.json"
        return read_config(path, f"no configuration of the {part} in {self._folder}")

    def tokenizer(self, part: Part) -> tuple[Tokenizer, int]:
        del part
        return read_tokenizer(self._tokenizer)

    def scheduler_config(self) -> dict[str, Any]:
        path = self._folder / "scheduler" / "scheduler_config.json"
        return read_config(path, f"no scheduler in {self._folder}")


def import_onnx(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Path:
    """Make a bundle of the ONNX files in a folder: `text_encoder`, `unet`, `vae_encoder`, `vae_decoder`.

    The denoiser stays the plain UNet, around which the runtime computes guidance and sampler itself. There
    being no PyTorch model, nothing is compared.

    Args:
        folder: Laid out as optimum does, with `tokenizer` and `scheduler`.
        output: The bundle's folder, which must be empty or not exist.
        tokenizer: A folder with a CLIP tokenizer to take instead of the one in `folder`.
        force: Replace an older bundle.
        progress: Called as the work goes on.

    Returns:
        The bundle's folder.

    Raises:
        SourceError: A file is missing, or is not that of a Stable Diffusion 1.x or 2.x checkpoint.
        OutputFolderError: The output folder holds something that may not be replaced.
        DiskSpaceError: There is too little room for the bundle.
    """
    source, target = Path(folder), Path(output)
    check_output(target, force=force)
    configs = _OnnxFolder(source, None if tokenizer is None else Path(tokenizer))
    _check_family(configs)
    architecture = msgspec.structs.replace(SD.check_architecture(configs), text_layers=None)
    files = {name: list(_files(source / where)) for name, (where, _, _) in _GRAPHS.items()}
    check_disk_space(target, sum(path.stat().st_size for paths in files.values() for path in paths))
    with new_folder(target, force=force) as new:
        for index, (name, paths) in enumerate(files.items()):
            progress(f"{name}: copying", index / len(files))
            _copy(paths, new / name)
        write_manifest(
            new,
            name=target.absolute().name,
            checkpoint=Checkpoint(id=source.resolve().name),
            architecture=architecture,
            family=SD.name,
            scheduler=SD.scheduler_of(configs),
            tokenizers=write_tokenizers(configs, SD.parts(configs), new),
            builds={name: _describe(name, paths, architecture) for name, paths in files.items()},
            costs={},
        )
        progress("writing the manifest", 1.0)
    return target


def _check_family(configs: _OnnxFolder) -> None:
    family = find_family(configs.config("unet"))
    if family is not SD:
        raise SourceError(
            "ONNX files of SDXL cannot be imported",
            received=f"a UNet of the family {family.name!r}",
            expected="one of Stable Diffusion 1.x or 2.x",
            hint="export the checkpoint itself with `inpaintrt export`",
        )


def _files(folder: Path) -> Iterator[Path]:
    """The graph of a component, and the files of its external weights."""
    graph = folder / "model.onnx"
    if not graph.is_file():
        raise SourceError(
            f"there is no {graph}",
            expected="text_encoder, unet, vae_encoder and vae_decoder, each with a model.onnx",
            hint="name a folder laid out as optimum exports it",
        )
    yield graph
    for location in sorted(_external_locations(_load(graph).graph)):
        path = PurePosixPath(location)
        if path.is_absolute() or len(path.parts) != 1:
            raise SourceError(
                f"{graph} keeps weights outside its folder",
                received=location,
                expected="a file beside it",
                hint="save the model again with its external data beside it",
            )
        if not (folder / location).is_file():
            raise SourceError(f"{graph} misses its weights", expected=f"a file {folder / location}")
        yield folder / location


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise SourceError(f"{path} is not an ONNX file", received=str(error)) from error


def _external_locations(graph: onnx.GraphProto) -> set[str]:
    return {
        entry.value
        for tensor in graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _copy(paths: Iterable[Path], folder: Path) -> None:
    folder.mkdir()
    for path in paths:
        shutil.copyfile(path, folder / path.name)


def _describe(name: str, paths: Sequence[Path], architecture: Architecture) -> Build:
    path = paths[0]
    graph = _load(path).graph
    initialized = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: _spec(path, value) for value in graph.input if value.name not in initialized}
    outputs = {value.name: _spec(path, value) for value in graph.output}
    _check_names(name, path, inputs, outputs, architecture)
    _check_channels(name, path, {**inputs, **outputs}, architecture)
    half = "float16" in (spec.dtype for spec in (*inputs.values(), *outputs.values()))
    return Build(
        component=name,
        precision="fp16" if half else "fp32",
        inputs=inputs,
        outputs=outputs,
        files=tuple(f"{name}/{file.name}" for file in paths),
        form="unet" if name == "denoiser" else None,
    )


def _spec(path: Path, value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    dtype = _DTYPES.get(kind.elem_type)
    if dtype is None:
        raise SourceError(
            f"{path} has a tensor of a type that the runtime does not handle",
            received=f"{value.name}: {TensorProto.DataType.Name(kind.elem_type)}",
            expected=", ".join(_DTYPES.values()),
        )
    shape: list[int | str] = [
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or f"{value.name}_{index}"
        for index, axis in enumerate(kind.shape.dim)
    ]
    return TensorSpec(dtype=dtype, shape=tuple(shape))


def _check_names(
    name: str,
    path: Path,
    inputs: dict[str, TensorSpec],
    outputs: dict[str, TensorSpec],
    architecture: Architecture,
) -> None:
    _, expected_inputs, expected_output = _GRAPHS[name]
    if name == "denoiser" and architecture.guidance_embedding_width is not None:
        expected_inputs = (*expected_inputs, UNET_INPUTS["guidance_embedding"])
    if set(inputs) != set(expected_inputs) or expected_output not in outputs:
        raise SourceError(
            f"{path} has other inputs or outputs than the runtime feeds",
            received=f"{', '.join(inputs)} to {', '.join(outputs)}",
            expected=f"{', '.join(expected_inputs)} to {expected_output}",
            hint="export it with a recent optimum, or use `inpaintrt export`",
        )


def _check_channels(name: str, path: Path, specs: dict[str, TensorSpec], architecture: Architecture) -> None:
    latents = architecture.latent_channels
    expected = {
        ("denoiser", "sample"): latents + architecture.condition_channels,
        ("denoiser", "out_sample"): latents,
        ("vae_encoder", "latent_parameters"): 2 * latents,
    }
    for (component, tensor), channels in expected.items():
        shape = specs[tensor].shape if component == name else ()
        if len(shape) > 1 and isinstance(shape[1], int) and shape[1] != channels:
            raise SourceError(
                f"{path} does not fit the configurations beside it",
                received=f"{tensor} with {shape[1]} channels",
                expected=f"{channels} channels",
            )
