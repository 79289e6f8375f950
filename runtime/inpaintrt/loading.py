"""A bundle in memory: manifest, engines and tokenizer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inpaintrt.backends import DEFAULT_BACKEND, Engine, open_engines
from inpaintrt.bundle import Manifest, load_manifest, verify_files
from inpaintrt.lora import LoraSource, open_loras
from inpaintrt.prompts import PromptTokenizer
from inpaintrt.store import find_bundle

__all__ = ["LoadedBundle", "load_bundle"]


@dataclass(frozen=True)
class LoadedBundle:
    """What a pipeline is made of.

    Attributes:
        manifest: The bundle's manifest.
        engines: The components by name.
        tokenizers: The tokenizer of each text encoder, by the component's name.
    """

    manifest: Manifest
    engines: Mapping[str, Engine]
    tokenizers: Mapping[str, PromptTokenizer]


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
    return LoadedBundle(manifest, engines, tokenizers)
