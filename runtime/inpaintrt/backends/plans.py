"""Which of a bundle's plans a library and a GPU can run."""

from __future__ import annotations

from collections.abc import Iterator

from inpaintrt.bundle import Manifest, Plan, network_digest
from inpaintrt.errors import PlanError

__all__ = ["select_plans"]


def select_plans(manifest: Manifest, backend: str, library: str, target: str) -> dict[str, Plan]:
    """The plan of every component; where several fit, the one that was built last.

    Args:
        manifest: The bundle's manifest.
        backend: "tensorrt" or "tensorrt-rtx".
        library: Version of the library.
        target: Compute capability of the GPU, e.g. "sm89".

    Raises:
        PlanError: A component has none; the message says what there is and what is wanted.
    """
    return {name: _select(manifest, name, backend, library, target) for name in manifest.components}


def _select(manifest: Manifest, component: str, backend: str, library: str, target: str) -> Plan:
    plans = [plan for plan in manifest.plans if (plan.component, plan.backend) == (component, backend)]
    digest = network_digest(manifest, component)
    for plan in reversed(plans):
        if not list(_mismatches(plan, library, target, digest)):
            return plan
    found = [", ".join(_mismatches(plan, library, target, digest)) for plan in plans]
    others = sorted({plan.backend for plan in manifest.plans if plan.component == component})
    raise PlanError(
        f"the bundle {manifest.name!r} has no plan of its {component} for {backend} {library} on {target}",
        received="; ".join(found) or f"plans for {', '.join(others) or 'no backend'}",
        expected=f"a plan built by {backend} {library} for {target}",
        hint=f"inpaintrt build {manifest.name} --backend {backend}{_target_option(backend, target)}",
    )


def _mismatches(plan: Plan, library: str, target: str, digest: str) -> Iterator[str]:
    if plan.library != library:
        yield f"a plan built by version {plan.library}"
    if plan.targets and target not in plan.targets:
        yield f"a plan for {', '.join(plan.targets)}"
    if plan.network_sha256 != digest:
        yield f"a plan of another network, {plan.network_sha256[:12]} instead of {digest[:12]}"


def _target_option(backend: str, target: str) -> str:
    return f" --target {target}" if backend == "tensorrt-rtx" else " (on this machine)"
