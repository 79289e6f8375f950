"""Which network of a component a backend runs."""

from __future__ import annotations

from inpaintrt.bundle.files import network_digest
from inpaintrt.bundle.records import Component, Manifest

__all__ = ["choose_networks"]


def choose_networks(manifest: Manifest, backend: str, *, variants: bool = True) -> dict[str, Component]:
    """The network of every component that a backend runs.

    Args:
        manifest: The bundle's manifest.
        backend: The backend.
        variants: Take the variants for this backend, where there are any; else the bundle's own networks.
    """
    networks = dict(manifest.components)
    for variant in manifest.variants if variants else ():
        current = variant.network_sha256 == network_digest(manifest, variant.component)
        if variant.backend == backend and current:
            networks[variant.component] = variant.network
    return networks
