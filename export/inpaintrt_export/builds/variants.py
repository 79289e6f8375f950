"""Variants of a bundle's networks for ONNX Runtime, which runs ONNX files as they are.

For CPUs every network of images gets attention as one node, whose memory grows with the size of the image,
not with its square. For the CUDA provider the denoiser gets that, and on request group normalisation as one
node, and the networks of a float32 bundle get half precision. A variant lies beside the bundle's own network,
and shares its external weights if the precision is the same.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import onnx_ir as ir

from inpaintrt.bundle import (
    SHALLOW_DENOISER,
    Build,
    add_builds,
    drop_builds,
    load_manifest,
    network_digest,
    number_format,
    verify_files,
)
from inpaintrt.errors import ExportError, ParityError
from inpaintrt.store import find_bundle
from inpaintrt_export.builds.activations import record_activations
from inpaintrt_export.builds.report import BuildReport
from inpaintrt_export.graphs.attention import fuse_attention
from inpaintrt_export.graphs.files import find_files, save_beside_weights, save_model
from inpaintrt_export.graphs.norms import fuse_norms
from inpaintrt_export.precision.check import compare_networks, record_conversions
from inpaintrt_export.precision.conversions import check_precision, choose_source, find_conversion
from inpaintrt_export.precision.halves import HalfNetworks
from inpaintrt_export.progress import Progress, silent

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from inpaintrt.bundle import Manifest, Parity, Precision
    from inpaintrt_export.builds.settings import VariantBackend

__all__ = ["VARIANT_REVISION", "build_variants"]

VARIANT_REVISION: Final = 1
"""Of all that makes variants: to be raised with every change that changes them."""

_FUSED: Final[Mapping[VariantBackend, tuple[str, ...]]] = {
    "onnxruntime": ("vae_encoder", "denoiser", SHALLOW_DENOISER, "vae_decoder"),
    "onnxruntime-cuda": ("denoiser",),
}
_ATTENTION: Final = "MultiHeadAttention"
_NORM: Final = "GroupNorm"


@dataclass(frozen=True)
class _Form:
    """What variants are to be.

    Attributes:
        backend: The backend that runs them.
        precision: What they compute in.
        operators: Operators that take the place of several.
    """

    backend: VariantBackend
    precision: Precision
    operators: tuple[str, ...]

    def fuses(self, name: str) -> bool:
        """Whether nodes of a component are fused."""
        return name in _FUSED[self.backend]


def build_variants(
    bundle: str | os.PathLike[str],
    *,
    backend: VariantBackend = "onnxruntime-cuda",
    precision: Precision | None = None,
    fused_norms: bool = False,
    progress: Progress = silent,
) -> BuildReport:
    """Add to a bundle the forms of its networks that suit ONNX Runtime best.

    For "onnxruntime", which an fp32 bundle has from its export on, these are graphs that refer to the weights
    that are there; the memory that they take is measured and noted in the manifest. A network whose attention
    has another form than that of `inpaintrt export` is left as it is, and measured, too.

    For "onnxruntime-cuda" it is the denoiser's graph of an fp16 bundle. Of an fp32 bundle it is every network
    that can compute in half precision, with weights of its own, or with `precision="fp32"` the denoiser's
    graph alone. Each variant is compared with the bundle's own network before it is kept.

    Args:
        bundle: The name of a bundle in the engine store, or a path.
        backend: What runs the variants.
        precision: What the networks shall compute in; by default fp32 on CPUs, and fp16 on GPUs.
        fused_norms: Also make one node of each group normalisation. The CUDA provider then computes it in one
            kernel, but the last bits of a result change from run to run.
        progress: Called as the work goes on.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        ParameterError: The bundle computes in fp16, and fp32 is asked for.
        ExportError: A network is not of the form that can be converted.
        ParityError: A variant does not compute what the bundle's own network computes.
    """
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    operators = (_ATTENTION, _NORM) if fused_norms else (_ATTENTION,)
    form = _Form(backend, precision or ("fp32" if backend == "onnxruntime" else "fp16"), operators)
    check_precision(manifest, form.precision)
    progress("checking the bundle", 0.0)
    verify_files(manifest, folder)
    with tempfile.TemporaryDirectory(prefix=".half-", dir=folder) as scratch:
        if manifest.precision != form.precision:
            record_conversions(folder, Path(scratch), lambda stage: progress(stage, None))
        report = _build(folder, Path(scratch), form, progress)
        if backend == "onnxruntime":
            measured = [name for name in _FUSED[backend] if name in manifest.exported]
            record_activations(folder, Path(scratch), measured, progress)
        return report


def _build(folder: Path, scratch: Path, form: _Form, progress: Progress) -> BuildReport:
    manifest = load_manifest(folder)
    drafts = {name: _describe(folder, manifest, name, form) for name in manifest.exported}
    wanted = {name: draft for name, draft in drafts.items() if draft is not None}
    # An earlier build was for another precision.
    drop_builds(folder, [old for old in _variants(manifest, form.backend) if old.component not in wanted])
    reused = {name: variant for name in wanted if (variant := _find(manifest, wanted[name])) is not None}
    missing = [name for name in wanted if name not in reused]
    built = []
    for index, name in enumerate(missing):
        progress(f"{name}: making the variant", index / len(missing))
        built.append(_make(folder, scratch, wanted[name]))
    return BuildReport(tuple(built), tuple(reused.values()))


def _variants(manifest: Manifest, backend: str | None) -> list[Build]:
    return [build for build in manifest.builds if build.backend == backend]


def _describe(folder: Path, manifest: Manifest, name: str, form: _Form) -> Build | None:
    """What a variant is to be, but for figures; None where the bundle's own network is as good."""
    exported, source = manifest.exported[name], choose_source(manifest, name, form.precision)
    if source == exported and not form.fuses(name):
        return None
    if form.backend == "onnxruntime" and not _can_be_fused(folder / exported.file):
        return None
    return Build(
        component=name,
        precision=source.precision,
        inputs=source.inputs,
        outputs=source.outputs,
        files=(Path(exported.file).with_name(f"{form.backend}.onnx").as_posix(),),
        form=source.form,
        backend=form.backend,
        network_sha256=network_digest(manifest, name),
        revision=VARIANT_REVISION,
        fused=dict.fromkeys(form.operators, 0) if form.fuses(name) else {},
    )


def _can_be_fused(path: Path) -> bool:
    try:
        fuse_attention(ir.load(path))
    except ExportError:
        return False
    return True


def _find(manifest: Manifest, wanted: Build) -> Build | None:
    """The variant that is there, if it is what is wanted, but for figures."""
    for build in _variants(manifest, wanted.backend):
        bare = msgspec.structs.replace(
            build,
            files=build.files[:1],
            parity=(),
            activations=None,
            fused=dict.fromkeys(build.fused, 0),
        )
        if bare == wanted:
            return build
    return None


def _make(folder: Path, scratch: Path, wanted: Build) -> Build:
    """Write a variant's files, and put it into the manifest in the place of an older one."""
    manifest = load_manifest(folder)
    older = [old for old in _variants(manifest, wanted.backend) if old.component == wanted.component]
    drop_builds(folder, older)
    name, path = wanted.component, folder / wanted.file
    exported = manifest.exported[name]
    _remove_files(folder, wanted.file)
    try:
        source = folder / exported.file
        if wanted.precision != exported.precision:
            save_model(ir.load(HalfNetworks(folder, manifest, scratch).path(name)), path)
            source = path
        fused = _fuse(source, path) if wanted.fused else {}
        parity = _compare(folder, manifest, wanted)
        if _NORM in wanted.fused:
            fused[_NORM] = _fuse_norms(path)
    except BaseException:
        _remove_files(folder, wanted.file)
        raise
    files = find_files(folder, wanted.file)
    variant = msgspec.structs.replace(wanted, files=files, parity=(parity,), fused=fused)
    add_builds(folder, variant)
    return variant


def _fuse(source: Path, path: Path) -> dict[str, int]:
    model = ir.load(source)
    layers = fuse_attention(model)
    save_beside_weights(model, path)
    return {_ATTENTION: layers}


def _fuse_norms(path: Path) -> int:
    """Comes after the comparison: the operator has no CPU kernel."""
    model = ir.load(path)
    norms = fuse_norms(model)
    save_beside_weights(model, path)
    return norms


def _compare(folder: Path, manifest: Manifest, variant: Build) -> Parity:
    name = variant.component
    conversion = find_conversion(manifest, name)
    if not variant.fused and conversion is not None:
        return conversion.parity[0]  # the very same network
    parity = compare_networks(folder / manifest.exported[name].file, folder / variant.file, manifest, name)
    limit = number_format(variant.precision).tolerance
    if not parity.relative_error <= limit:
        raise ParityError(
            f"the variant of the {name} does not compute what the bundle's own network computes",
            received=f"relative error {parity.relative_error:.2e}",
            expected=f"at most {limit:.0e}",
            hint="use the bundle without it: the backend then runs the bundle's own network",
        )
    return parity


def _remove_files(folder: Path, file: str) -> None:
    for path in find_files(folder, file):
        (folder / path).unlink()
