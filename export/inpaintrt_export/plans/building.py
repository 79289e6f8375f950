"""Plans for all four components of a bundle, and their place in its manifest."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from inpaintrt.atomic import atomic_write
from inpaintrt.backends.cuda import gpu_target
from inpaintrt.backends.tensorrt_library import PlanLibrary, load_library
from inpaintrt.bundle import (
    Plan,
    describe_file,
    load_manifest,
    network_digest,
    save_manifest,
    verify_files,
)
from inpaintrt.errors import BundleIntegrityError
from inpaintrt.store import cache_folder, find_bundle
from inpaintrt_export.conversion.networks import check_precision, chosen_network
from inpaintrt_export.plans.compiler import compile_plan
from inpaintrt_export.plans.networks import open_networks
from inpaintrt_export.plans.profiles import make_profiles
from inpaintrt_export.plans.settings import BuildSettings, check_targets
from inpaintrt_export.progress import Progress, silent

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from inpaintrt.bundle import Manifest
    from inpaintrt_export.plans.networks import PlanNetworks

__all__ = ["BuildReport", "build_plans", "describe_plan", "plan_key"]

_KEY_LENGTH = 16  # characters of the key in a file's name


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        built: Plans that were compiled.
        reused: Plans that the bundle had already.
    """

    built: tuple[Plan, ...]
    reused: tuple[Plan, ...]


def build_plans(
    bundle: str | os.PathLike[str], settings: BuildSettings, *, progress: Progress = silent
) -> BuildReport:
    """Compile the components of a bundle and add the plans to it.

    The networks of a float32 bundle are converted first where fp16 is asked for. What that does to their
    results is measured once and noted in the manifest; the VAE stays float32 where it would show in pictures.
    The converted networks themselves are not kept.

    TensorRT-RTX needs no GPU for this. Each plan is in the manifest as soon as it is built, and a plan that
    has all the sizes already is not built again; one that lacks some is built for its own and the new ones.

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
    """
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    check_precision(manifest, settings.precision)
    library = load_library(settings.backend)
    check_targets(library, settings.targets)
    targets = settings.targets if library.names_targets else (gpu_target(),)
    progress("checking the bundle", 0.0)
    verify_files(manifest, folder)
    with open_networks(folder, settings.precision, progress) as networks:
        manifest = load_manifest(folder)
        wanted = [describe_plan(manifest, name, library, targets, settings) for name in manifest.components]
        known = {plan.key for plan in manifest.plans}
        missing = [plan for plan in wanted if plan.key not in known]
        for index, plan in enumerate(missing):
            stage = functools.partial(_report, progress, plan.component, index, len(missing))
            _build_plan(folder, plan, networks, library, stage)
    return BuildReport(tuple(missing), tuple(plan for plan in wanted if plan.key in known))


def plan_key(plan: Plan) -> str:
    """SHA-256 of all that decides what a plan holds: network, library, targets, precision and profiles."""
    network = plan.network_sha256, plan.conversion
    parts = (network, plan.backend, plan.library, plan.targets, plan.precision, plan.profiles)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def describe_plan(
    manifest: Manifest, name: str, library: PlanLibrary, targets: tuple[str, ...], settings: BuildSettings
) -> Plan:
    """What the plan of a component is to be, with the sizes that earlier builds gave it."""
    component, conversion = chosen_network(manifest, name, settings.precision)
    tokens = manifest.tokenizer.max_length
    draft = Plan(
        component=name,
        backend=library.backend,
        library=library.version,
        precision=component.precision,
        targets=tuple(sorted(targets, key=lambda target: int(target.removeprefix("sm")))),
        profiles=make_profiles(name, component, manifest.architecture, tokens, settings),
        inputs=component.inputs,
        outputs=component.outputs,
        network_sha256=network_digest(manifest, name),
        conversion=conversion,
        key="",
        file="",
    )
    if not settings.fresh:
        earlier = [profile for plan in manifest.plans if _extends(draft, plan) for profile in plan.profiles]
        added = [profile for profile in draft.profiles if profile not in earlier]
        draft = msgspec.structs.replace(draft, profiles=(*earlier, *added))
    key = plan_key(draft)
    file = f"plans/{library.backend}/{name}-{key[:_KEY_LENGTH]}.plan"
    return msgspec.structs.replace(draft, key=key, file=file)


def _report(
    progress: Progress, component: str, index: int, count: int, stage: str, fraction: float | None
) -> None:
    within = 0.0 if fraction is None else fraction
    progress(f"{component}: {stage}" if stage else component, (index + within) / count)


def _build_plan(
    folder: Path, plan: Plan, networks: PlanNetworks, library: PlanLibrary, progress: Progress
) -> None:
    progress("reading the network", 0.0)
    network = networks.path(plan)
    content = compile_plan(
        library, network, plan.profiles, plan.targets, progress, _timing_cache(library, plan)
    )
    path = folder / plan.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        partial.write_bytes(memoryview(content))
    _add_to_manifest(folder, plan)


def _timing_cache(library: PlanLibrary, plan: Plan) -> Path | None:
    if library.has_runtime_cache:
        return None
    return cache_folder() / "timing" / f"{library.version}-{'-'.join(plan.targets)}.cache"


def _add_to_manifest(folder: Path, plan: Plan) -> None:
    """Write the plan into the manifest, and drop the one that it replaces."""
    manifest = load_manifest(folder)
    if network_digest(manifest, plan.component) != plan.network_sha256:
        raise BundleIntegrityError(
            f"{folder} changed while its plans were built", hint="run `inpaintrt build` again"
        )
    replaced = {old.file for old in manifest.plans if _purpose(old) == _purpose(plan)} - {plan.file}
    plans = [old for old in manifest.plans if old.file not in {*replaced, plan.file}]
    files = [entry for entry in manifest.files if entry.path not in {*replaced, plan.file}]
    files.append(describe_file(folder, plan.file))
    changed = msgspec.structs.replace(
        manifest,
        plans=(*plans, plan),
        files=tuple(sorted(files, key=lambda entry: entry.path)),
    )
    save_manifest(changed, folder)
    for path in replaced:
        (folder / path).unlink(missing_ok=True)


def _purpose(plan: Plan) -> tuple[object, ...]:
    return plan.component, plan.backend, plan.targets, plan.precision


def _extends(plan: Plan, old: Plan) -> bool:
    same = _purpose(plan) == _purpose(old)
    made = plan.library, plan.network_sha256, plan.conversion
    return same and made == (old.library, old.network_sha256, old.conversion)
