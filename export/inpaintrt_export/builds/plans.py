"""Plans for all components of a bundle: their networks, compiled by TensorRT or TensorRT-RTX."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

import msgspec

from inpaintrt.atomic import atomic_write
from inpaintrt.backends.cuda import gpu_target
from inpaintrt.backends.tensorrt_library import PlanLibrary, load_library
from inpaintrt.bundle import (
    Build,
    add_builds,
    load_manifest,
    lora_digests,
    network_digest,
    same_purpose,
    verify_files,
)
from inpaintrt.lora import check_components, describe_loras
from inpaintrt.store import cache_folder, find_bundle
from inpaintrt_export.builds.compiler import compile_plan
from inpaintrt_export.builds.profiles import make_profiles
from inpaintrt_export.builds.report import BuildReport
from inpaintrt_export.builds.settings import BuildSettings, check_targets
from inpaintrt_export.builds.sources import open_sources
from inpaintrt_export.precision.conversions import check_precision, choose_source
from inpaintrt_export.progress import Progress, silent

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from inpaintrt.bundle import Manifest
    from inpaintrt_export.builds.sources import PlanSources

__all__ = ["build_plans", "describe_plan", "plan_key"]

_KEY_LENGTH = 16  # characters of the key in a file's name


def build_plans(
    bundle: str | os.PathLike[str], settings: BuildSettings, *, progress: Progress = silent
) -> BuildReport:
    """Compile the components of a bundle and add the plans to it.

    The networks of a float32 bundle are converted first where fp16 is asked for. What that does to their
    results is measured once and noted in the manifest; the VAE stays float32 where it would show in images.
    The converted networks themselves are not kept.

    TensorRT-RTX needs no GPU for this. Each plan is in the manifest as soon as it is built, and a plan that
    has all the sizes already is not built again; one that lacks some is built for its own and the new ones.

    Plans with LoRAs lie beside those without, and beside those with others. The components that no LoRA
    changes share theirs.

    Args:
        bundle: The name of a bundle in the engine store, or a path.
        settings: What the plans are for.
        progress: Called as the work goes on.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        ParameterError: The settings do not suit the library or the bundle.
        EngineUnavailableError: The library is not installed, or TensorRT finds no GPU.
        PlanBuildError: The library cannot compile a component.
        ParityError: Half precision changes what a component computes too much.
        LoraError: A LoRA cannot be applied to the bundle.
    """
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    check_components(settings.loras, list(manifest.exported))
    check_precision(manifest, settings.precision)
    library = load_library(settings.backend)
    check_targets(library, settings.targets)
    targets = settings.targets if library.names_targets else (gpu_target(),)
    progress("checking the bundle", 0.0)
    verify_files(manifest, folder)
    with open_sources(folder, settings.precision, progress, settings.loras) as sources:
        manifest = load_manifest(folder)
        wanted = [describe_plan(manifest, name, library, targets, settings) for name in manifest.exported]
        known = {build.key for build in manifest.builds}
        missing = [plan for plan in wanted if plan.key not in known]
        for index, plan in enumerate(missing):
            stage = functools.partial(_report, progress, plan.component, index, len(missing))
            _build_plan(folder, plan, sources, library, stage)
    return BuildReport(tuple(missing), tuple(plan for plan in wanted if plan.key in known))


def plan_key(plan: Build) -> str:
    """SHA-256 of all that decides what a plan holds: network, LoRAs, library, targets, precision, sizes."""
    network = plan.network_sha256, plan.revision, *lora_digests(plan.loras)
    parts = (network, plan.backend, plan.library, plan.targets, plan.precision, plan.profiles)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def describe_plan(
    manifest: Manifest, name: str, library: PlanLibrary, targets: tuple[str, ...], settings: BuildSettings
) -> Build:
    """What the plan of a component is to be, with the sizes that earlier builds gave it."""
    source = choose_source(manifest, name, settings.precision)
    tokens = manifest.window
    draft = Build(
        component=name,
        precision=source.precision,
        inputs=source.inputs,
        outputs=source.outputs,
        form=source.form,
        backend=library.backend,
        network_sha256=network_digest(manifest, name),
        revision=source.revision,
        library=library.version,
        targets=tuple(sorted(targets, key=lambda target: int(target.removeprefix("sm")))),
        loras=describe_loras(settings.loras, name),
        profiles=make_profiles(source, manifest.architecture, tokens, settings),
    )
    if not settings.fresh:
        earlier = [profile for old in manifest.builds if _extends(draft, old) for profile in old.profiles]
        added = [profile for profile in draft.profiles if profile not in earlier]
        draft = msgspec.structs.replace(draft, profiles=(*earlier, *added))
    key = plan_key(draft)
    file = f"plans/{library.backend}/{name}-{key[:_KEY_LENGTH]}.plan"
    return msgspec.structs.replace(draft, key=key, files=(file,))


def _report(
    progress: Progress, component: str, index: int, count: int, stage: str, fraction: float | None
) -> None:
    within = 0.0 if fraction is None else fraction
    progress(f"{component}: {stage}" if stage else component, (index + within) / count)


def _build_plan(
    folder: Path, plan: Build, sources: PlanSources, library: PlanLibrary, progress: Progress
) -> None:
    progress("reading the network", 0.0)
    network = sources.path(plan)
    path = folder / plan.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        timing_cache = _timing_cache(library, plan)
        compile_plan(library, network, plan.profiles, plan.targets, partial, progress, timing_cache)
    add_builds(folder, plan)


def _timing_cache(library: PlanLibrary, plan: Build) -> Path | None:
    if library.has_runtime_cache:
        return None
    return cache_folder() / "timing" / f"{library.version}-{'-'.join(plan.targets)}.cache"


def _extends(plan: Build, old: Build) -> bool:
    made = plan.library, plan.network_sha256, plan.revision
    return same_purpose(plan, old) and made == (old.library, old.network_sha256, old.revision)
