"""A bundle in memory: manifest, engines and tokenizer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from inpaintrt.backends import DEFAULT_BACKEND, Engine, open_engines
from inpaintrt.bundle import Manifest, load_manifest, verify_files
from inpaintrt.errors import BundleError
from inpaintrt.lora import Lora, LoraSource, changed_components, check_components, open_loras
from inpaintrt.prompts import PromptTokenizer
from inpaintrt.store import find_bundle

__all__ = ["BundleSource", "LoadedBundle", "load_bundle", "load_variant"]


@dataclass(frozen=True)
class BundleSource:
    """Where a bundle's engines were opened from, and how.

    Attributes:
        folder: The bundle.
        backend: What runs the engines.
        backend_options: What the backend lets its users set, by name.
    """

    folder: Path
    backend: str
    backend_options: Mapping[str, object]


@dataclass(frozen=True)
class LoadedBundle:
    """What a pipeline is made of.

    Attributes:
        manifest: The bundle's manifest.
        engines: The components by name.
        tokenizers: The tokenizer of each text encoder, by the component's name.
        source: Where the engines were opened from; None where they were made otherwise.
    """

    manifest: Manifest
    engines: Mapping[str, Engine]
    tokenizers: Mapping[str, PromptTokenizer]
    source: BundleSource | None = None

    @property
    def opened_from(self) -> BundleSource:
        """Where the engines were opened from.

        Raises:
            BundleError: They were made otherwise.
        """
        if self.source is None:
            raise BundleError(
                "LoRAs cannot be applied to engines that were not opened from a bundle",
                received="a LoadedBundle without a source",
                expected="one that load_bundle has loaded",
            )
        return self.source


def load_bundle(
    bundle: str | os.PathLike[str],
    *,
    backend: str = DEFAULT_BACKEND,
    verify: bool = True,
    backend_options: Mapping[str, object] | None = None,
    loras: Sequence[LoraSource] = (),
) -> LoadedBundle:
    """Find, verify and open a bundle.

    Args:
        bundle: The name of a bundle in the engine store, or a path.
        backend: What runs the engines; there is no fallback to another.
        verify: Compare every file with its hash; without it only names and sizes are checked.
        backend_options: What the backend lets its users set, by name.
        loras: LoRA files, each alone or with a scale, in the order in which they are applied.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        EngineUnavailableError: The backend is unknown, or cannot run here.
        PlanError: The bundle has no plan that the backend can run here.
        LoraError: A LoRA cannot be read, or cannot be applied to the bundle or by the backend.
    """
    opened = open_loras(loras)
    folder = find_bundle(bundle)
    manifest = load_manifest(folder)
    verify_files(manifest, folder, hashes=verify)
    engines = open_engines(backend, folder, manifest, backend_options, opened)
    tokenizers = {
        name: PromptTokenizer(
            folder / settings.file,
            max_length=settings.max_length,
            bos_id=settings.start_token,
            eos_id=settings.end_token,
            pad_id=settings.pad_token,
        )
        for name, settings in manifest.tokenizers.items()
    }
    source = BundleSource(folder, backend, dict(backend_options or {}))
    return LoadedBundle(manifest, engines, tokenizers, source)


def load_variant(base: LoadedBundle, loras: Sequence[Lora]) -> LoadedBundle:
    """A loaded bundle with other weights: the components that LoRAs change are opened again with them.

    The other engines and the tokenizers are those of `base`. Files are compared with the manifest by their
    sizes alone.

    Args:
        base: A bundle that `load_bundle` has loaded without LoRAs.
        loras: What changes the weights, in the order in which it is applied.

    Raises:
        BundleError: The engines of `base` were not opened by `load_bundle`, or the bundle is damaged.
        EngineUnavailableError: A component cannot be opened.
        PlanError: The bundle has no plan with these LoRAs that the backend can run here.
        LoraError: A LoRA cannot be applied.
    """
    source, manifest = base.opened_from, base.manifest
    check_components(loras, list(manifest.exported))
    verify_files(manifest, source.folder, hashes=False)
    changed = changed_components(loras, manifest.exported)
    builds = tuple(build for build in manifest.builds if build.component in changed)
    restricted = msgspec.structs.replace(manifest, builds=builds)
    engines = open_engines(source.backend, source.folder, restricted, source.backend_options, loras)
    return replace(base, engines={**base.engines, **engines})
