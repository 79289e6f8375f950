"""Which build of a component a backend runs, and how builds are added to a bundle and dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from inpaintrt.bundle.files import describe_file
from inpaintrt.bundle.manifest import load_manifest, save_manifest
from inpaintrt.bundle.records import Build, FusedLora, Manifest
from inpaintrt.errors import BundleIntegrityError, PlanError

__all__ = [
    "add_builds",
    "choose_builds",
    "drop_builds",
    "lora_digests",
    "network_digest",
    "replace_build",
    "same_purpose",
]


def network_digest(manifest: Manifest, component: str) -> str:
    """SHA-256 over a component's exported network: its ONNX file, and those of its external weights."""
    paths = manifest.exported[component].files
    digest = hashlib.sha256()
    for entry in sorted(manifest.files, key=lambda entry: entry.path):
        if entry.path in paths:
            digest.update(f"{PurePosixPath(entry.path).name} {entry.sha256}\n".encode())
    return digest.hexdigest()


def choose_builds(
    manifest: Manifest,
    backend: str,
    *,
    library: str | None = None,
    target: str | None = None,
    exported_only: bool = False,
    loras: Mapping[str, Sequence[FusedLora]] | None = None,
) -> dict[str, Build]:
    """The build of every component that a backend runs on this machine.

    Of several that fit it is the one that was made last. Where none fits, a backend that runs ONNX files
    takes the exported network.

    Args:
        manifest: The bundle's manifest.
        backend: The backend.
        library: For a backend that runs plans, its library's version; None for one that runs ONNX files.
        target: For a backend that runs plans, the GPU's compute capability, e.g. "sm89".
        exported_only: Take the exported networks.
        loras: For a backend that runs plans, what has to have changed the weights of each component.

    Raises:
        PlanError: A component has no plan that library and GPU can run; the message says what there is and
            what is wanted.
    """
    exported = manifest.exported
    if exported_only:
        return exported
    wanted = loras or {}
    chosen = {
        name: _choose(manifest, name, backend, library, target, wanted.get(name, ())) for name in exported
    }
    return {name: exported[name] if build is None else build for name, build in chosen.items()}


def _choose(
    manifest: Manifest,
    component: str,
    backend: str,
    library: str | None,
    target: str | None,
    loras: Sequence[FusedLora],
) -> Build | None:
    digest = network_digest(manifest, component)
    reasons: list[str] = []
    for build in reversed(manifest.builds):
        if (build.component, build.backend) == (component, backend):
            reason = ", ".join(_mismatches(build, library, target, digest, loras))
            if not reason:
                return build
            reasons.insert(0, reason)
    if library is None:
        return None
    plans = [build for build in manifest.builds if build.component == component and build.profiles]
    others = sorted({str(plan.backend) for plan in plans})
    raise PlanError(
        f"the bundle {manifest.name!r} has no plan of its {component} for {backend} {library} on {target}",
        received="; ".join(reasons) or f"plans for {', '.join(others) or 'no backend'}",
        expected=f"a plan built by {backend} {library} for {target}",
        hint=f"inpaintrt build {manifest.name} --backend {backend}"
        + "".join(f" --lora {lora.text}" for lora in loras)
        + _target_option(backend, target),
    )


def _mismatches(
    build: Build, library: str | None, target: str | None, digest: str, loras: Sequence[FusedLora]
) -> Iterator[str]:
    if library is not None and build.library != library:
        yield f"a plan built by version {build.library}"
    if build.targets and target not in build.targets:
        yield f"a plan for {', '.join(build.targets)}"
    if build.network_sha256 != digest:
        yield f"a plan of another network, {(build.network_sha256 or '')[:12]} instead of {digest[:12]}"
    if lora_digests(build.loras) != lora_digests(loras):
        names = ", ".join(lora.text for lora in build.loras)
        yield f"a plan with {names}" if names else "a plan without LoRAs"


def lora_digests(loras: Sequence[FusedLora]) -> tuple[tuple[str, float], ...]:
    """What decides how LoRAs change weights, whatever their files are called."""
    return tuple((lora.sha256, lora.scale) for lora in loras)


def _target_option(backend: str, target: str | None) -> str:
    return f" --target {target}" if backend == "tensorrt-rtx" else " (on this machine)"


def same_purpose(build: Build, other: Build) -> bool:
    """Whether one of two builds takes the place of the other."""
    return _purpose(build) == _purpose(other)


def _purpose(build: Build) -> tuple[object, ...]:
    exported = build.network_sha256 is None
    made_for = build.component, build.backend, build.targets, build.precision
    return *made_for, exported, lora_digests(build.loras)


def add_builds(folder: Path, *builds: Build) -> None:
    """Add builds, whose files are there, to a bundle, and drop those that they replace with their files.

    Args:
        folder: The bundle.
        builds: Made of the bundle's exported networks.

    Raises:
        BundleIntegrityError: One was made of a network that is no longer the bundle's.
    """
    manifest = load_manifest(folder)
    for build in builds:
        if build.network_sha256 != network_digest(manifest, build.component):
            raise BundleIntegrityError(
                f"{folder} changed while it was built", hint="run `inpaintrt build` again"
            )
    replaced = [old for old in manifest.builds if any(same_purpose(old, build) for build in builds)]
    _change(folder, manifest, replaced, builds)


def drop_builds(folder: Path, builds: Collection[Build]) -> None:
    """Remove builds from a bundle's manifest and then, with their files, from the disk."""
    if builds:
        _change(folder, load_manifest(folder), builds, ())


def _change(folder: Path, manifest: Manifest, dropped: Collection[Build], added: Collection[Build]) -> None:
    builds = (*(build for build in manifest.builds if build not in dropped), *added)
    used = {path for build in builds for path in build.files}
    unused = {path for build in dropped for path in build.files} - used
    described = {path: describe_file(folder, path) for build in added for path in build.files}
    kept = {entry.path: entry for entry in manifest.files if entry.path not in unused}
    files = sorted((kept | described).values(), key=lambda entry: entry.path)
    save_manifest(msgspec.structs.replace(manifest, builds=builds, files=tuple(files)), folder)
    for path in unused:
        (folder / path).unlink(missing_ok=True)


def replace_build(folder: Path, old: Build, new: Build) -> None:
    """Write another description of a build whose files stay as they are."""
    manifest = load_manifest(folder)
    builds = tuple(new if build == old else build for build in manifest.builds)
    save_manifest(msgspec.structs.replace(manifest, builds=builds), folder)
