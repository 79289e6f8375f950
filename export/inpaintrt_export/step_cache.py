"""Step caching for a bundle: its denoiser gives a feature, and a second, shallow denoiser takes it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import onnx_ir as ir

from inpaintrt.bundle import (
    CACHED_FEATURE,
    SHALLOW_DENOISER,
    Build,
    describe_file,
    drop_builds,
    load_manifest,
    number_format,
    save_manifest,
    verify_files,
)
from inpaintrt.conditioning import cached_feature
from inpaintrt.errors import ExportError, ParityError
from inpaintrt.store import find_bundle
from inpaintrt_export.builds.variants import build_variants
from inpaintrt_export.graphs.feature import Feature, find_feature, give_feature, take_feature
from inpaintrt_export.graphs.files import find_files, save_beside_weights, save_model
from inpaintrt_export.graphs.inputs import axis_sizes, input_shapes, random_inputs
from inpaintrt_export.parity import Reference, compare_case, open_session
from inpaintrt_export.progress import silent

if TYPE_CHECKING:
    import os

    from inpaintrt.bundle import Manifest, Parity, TensorSpec
    from inpaintrt_export.progress import Progress

__all__ = ["add_step_cache", "write_step_cache"]

_DENOISER: Final = "denoiser"
_FILE: Final = f"{SHALLOW_DENOISER}/model.onnx"
_SIZE: Final = (9, 7)
"""Height and width in latent pixels of the image that the two networks are compared at."""
_ROWS: Final = 2


def add_step_cache(
    bundle: str | os.PathLike[str], *, cache_branch_id: int = 0, progress: Progress = silent
) -> Path:
    """Add step caching to an exported bundle, or cut it at another layer; nothing is traced again.

    The denoiser's file is written again with one output more, and what was made of the former file for a
    backend is dropped: `inpaintrt build` has to make plans and variants for GPUs again. Those for the backend
    "onnxruntime" are made at once.

    Args:
        bundle: The name of a bundle in the engine store, or a path.
        cache_branch_id: DeepCache's name for where the UNet is cut: how many layers of its last block a
            shallow evaluation computes besides the last one.
        progress: Called as the work goes on.

    Returns:
        The bundle's folder.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        ParameterError: The UNet's last block has no such layer.
        ExportError: The denoiser's graph is not one of `inpaintrt export`.
        ParityError: The shallow denoiser does not compute what the denoiser computes.
    """
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    verify_files(manifest, folder)
    for_cpus = any(build.backend == "onnxruntime" for build in manifest.builds)
    write_step_cache(folder, cache_branch_id, progress)
    if for_cpus:
        build_variants(folder, backend="onnxruntime", progress=progress)
    return folder


def write_step_cache(folder: Path, cache_branch_id: int = 0, progress: Progress = silent) -> None:
    """Write both networks into a bundle, then into its manifest; see `add_step_cache`."""
    manifest = load_manifest(folder)
    denoiser = manifest.exported[_DENOISER]
    if denoiser.form != "step" or not denoiser.weights:
        raise ExportError(
            f"the bundle {manifest.name!r} does not say where the weights of its denoiser lie",
            received="a bundle made by an older inpaintrt, or by `inpaintrt import-onnx`",
            expected="a bundle exported by this version",
            hint="export the checkpoint again with `inpaintrt export --step-cache`",
        )
    progress(f"{SHALLOW_DENOISER}: cutting the denoiser", None)
    with tempfile.TemporaryDirectory(prefix=".step-cache-", dir=folder) as scratch:
        shallow = Path(scratch) / "model.onnx"
        full = (folder / denoiser.file).with_name("with-feature.onnx")  # beside its weights
        try:
            giving = _write_full(folder / denoiser.file, full, denoiser, cache_branch_id)
            taking = _write_shallow(folder / denoiser.file, shallow, giving, cache_branch_id)
            progress(f"{SHALLOW_DENOISER}: comparing", None)
            parity = _compare(manifest, full, shallow, taking)
            _drop_former(folder, manifest)
            full.replace(folder / denoiser.file)
        finally:
            full.unlink(missing_ok=True)
        _move_files(Path(scratch), (folder / _FILE).parent)
    files = find_files(folder, _FILE)
    _describe(folder, giving, msgspec.structs.replace(taking, files=files, parity=(parity,)))


def _write_full(source: Path, path: Path, denoiser: Build, branch: int) -> Build:
    model = ir.load(source)
    feature = find_feature(model.graph, denoiser.weights, branch)
    give_feature(model.graph, feature)
    save_beside_weights(model, path)
    kept = {name: spec for name, spec in denoiser.outputs.items() if name != CACHED_FEATURE}
    return msgspec.structs.replace(denoiser, outputs={**kept, CACHED_FEATURE: _spec(feature)})


def _write_shallow(source: Path, path: Path, denoiser: Build, branch: int) -> Build:
    model = ir.load(source)
    feature = find_feature(model.graph, denoiser.weights, branch)
    take_feature(model, feature, denoiser.weights)
    left = model.graph.initializers
    weights = {name: place if place in left else "" for name, place in denoiser.weights.items()}
    inputs = {str(value.name) for value in model.graph.inputs}
    outputs = {name: spec for name, spec in denoiser.outputs.items() if name != CACHED_FEATURE}
    save_model(ir.external_data.load_to_model(model), path)
    specs = {**denoiser.inputs, CACHED_FEATURE: _spec(feature)}
    return Build(
        component=SHALLOW_DENOISER,
        precision=denoiser.precision,
        inputs={name: spec for name, spec in specs.items() if name in inputs},
        outputs=outputs,
        form="step",
        weights=weights,
        transposed=tuple(name for name in denoiser.transposed if weights[name]),
    )


def _spec(feature: Feature) -> TensorSpec:
    half = feature.dtype == ir.DataType.FLOAT16
    return cached_feature(feature.channels, "float16" if half else "float32")


def _compare(manifest: Manifest, full: Path, shallow: Path, build: Build) -> Parity:
    """How far the shallow denoiser is from the denoiser whose feature it is given."""
    denoiser = manifest.exported[_DENOISER]
    factor = manifest.architecture.vae_scale_factor
    height, width = _SIZE
    sizes = axis_sizes(_DENOISER, (height * factor, width * factor), factor, manifest.window, rows=_ROWS)
    given = random_inputs(manifest, _DENOISER, input_shapes(denoiser, sizes))
    sparing = denoiser.precision != "fp32"
    session = open_session(full, sparing=sparing)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, given), strict=True))
    inputs = {name: {**given, **outputs}[name] for name in build.inputs}
    expected = tuple(outputs[name].astype(np.float32) for name in build.outputs)
    case = f"from the denoiser's {CACHED_FEATURE} {'x'.join(map(str, outputs[CACHED_FEATURE].shape))}"
    parity = compare_case(open_session(shallow, sparing=sparing), Reference(case, inputs, expected))
    limit = number_format(denoiser.precision).tolerance
    if not parity.relative_error <= limit:
        raise ParityError(
            "the shallow denoiser does not compute what the denoiser computes",
            received=f"relative error {parity.relative_error:.2e}",
            expected=f"at most {limit:.0e}",
            hint="report this checkpoint's configuration",
        )
    return parity


def _drop_former(folder: Path, manifest: Manifest) -> None:
    """Drop what was made of the denoiser's former file."""
    made = [build for build in manifest.builds if build.component in (_DENOISER, SHALLOW_DENOISER)]
    drop_builds(folder, [build for build in made if build.network_sha256 is not None])


def _move_files(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in source.iterdir():
        path.replace(target / path.name)


def _describe(folder: Path, denoiser: Build, shallow: Build) -> None:
    """Put both networks into the manifest."""
    manifest = load_manifest(folder)
    builds: list[Build] = []
    for build in manifest.builds:
        if build.component == _DENOISER:
            builds += [denoiser, shallow]
        elif build.component != SHALLOW_DENOISER:
            builds.append(build)
    written = {path: describe_file(folder, path) for path in (*denoiser.files, *shallow.files)}
    former = [entry for entry in manifest.files if not entry.path.startswith(f"{SHALLOW_DENOISER}/")]
    files = {entry.path: entry for entry in former} | written
    listed = tuple(files[path] for path in sorted(files))
    save_manifest(msgspec.structs.replace(manifest, builds=tuple(builds), files=listed), folder)
