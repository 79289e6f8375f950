"""The weights of a bundle's networks as LoRAs change them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inpaintrt.bundle import Build, Manifest
from inpaintrt.errors import LoraMismatchError
from inpaintrt.lora.changes import Change
from inpaintrt.lora.initializers import Initializer, read_initializers
from inpaintrt.lora.loras import Lora, changed_components, check_components, whole_network

__all__ = ["PADDED", "Weights", "changed_bytes", "changed_weights", "find_changes"]

Weights = Mapping[str, NDArray[Any]]
"""New values of initializers, by name, in the graph's own dtypes and layouts."""

PADDED: Final = ("denoiser", "conv_in.weight")
"""The parameter that a LoRA for 4 channels may change in an inpainting checkpoint."""
_HALF: Final = "/half"  # ends the names of weights that were converted to half precision


def find_changes(
    loras: Sequence[Lora], component: str, parameters: Sequence[str]
) -> dict[str, list[tuple[Change, float]]]:
    """The changes of a component by several LoRAs, in their order, each with its scale.

    Raises:
        LoraMismatchError: A LoRA changes what the component does not have.
        LoraFileError: A LoRA's factors are not those of one kind.
    """
    modules = {parameter.rpartition(".")[0] for parameter in parameters}
    changes: defaultdict[str, list[tuple[Change, float]]] = defaultdict(list)
    for lora in loras:
        for parameter, change in lora.changes(component, modules).items():
            changes[parameter].append((change, lora.scale))
    return dict(changes)


def changed_weights(
    folder: Path,
    manifest: Manifest,
    builds: Mapping[str, Build],
    loras: Sequence[Lora],
) -> dict[str, Weights]:
    """The initializers that LoRAs change in each component; the others stay as they are in the files.

    The difference is formed in float32 with the exported network's weight, and rounded once.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        builds: The build of each component that is opened.
        loras: In the order in which they are applied.

    Raises:
        LoraError: A LoRA cannot be applied.
    """
    check_components(loras, list(manifest.exported))
    touched = changed_components(loras, builds)
    return {
        name: _change(folder, manifest, build, loras) for name, build in builds.items() if name in touched
    }


def changed_bytes(folder: Path, manifest: Manifest, loras: Sequence[Lora]) -> int:
    """Bytes of the exported weights that LoRAs change; no weight is read.

    Args:
        folder: The bundle.
        manifest: Its manifest.
        loras: Any number of LoRAs; what several of them change counts once.

    Raises:
        LoraMismatchError: A LoRA changes what the networks do not have.
        LoraFileError: A LoRA's factors are not those of one kind.
    """
    check_components(loras, list(manifest.exported))
    total = 0
    for component in changed_components(loras, manifest.exported):
        exported = manifest.exported[component]
        _check_places(manifest, exported)
        stored = read_initializers(folder / exported.file)
        changes = find_changes(loras, whole_network(component), list(exported.weights))
        places = {place for parameter in changes if (place := _find_place(exported, parameter))}
        total += sum(stored[place].nbytes for place in places)
    return total


def _check_places(manifest: Manifest, exported: Build) -> None:
    if not exported.weights:
        raise LoraMismatchError(
            f"the bundle {manifest.name!r} does not say where the weights of its {exported.component} lie",
            received="a bundle made by an older inpaintrt, or by `inpaintrt import-onnx`",
            expected="a bundle exported by this version",
            hint="export the checkpoint again with `inpaintrt export`",
        )


def _change(folder: Path, manifest: Manifest, build: Build, loras: Sequence[Lora]) -> Weights:
    component, exported = whole_network(build.component), manifest.exported[build.component]
    _check_places(manifest, exported)
    stored = read_initializers(folder / exported.file)
    targets = stored if build.file == exported.file else read_initializers(folder / build.file)
    weights: dict[str, NDArray[Any]] = {}
    for parameter, changes in find_changes(loras, component, list(exported.weights)).items():
        place = _find_place(exported, parameter)
        if not place:
            continue  # the outputs do not depend on it
        transposed = parameter in exported.transposed
        changed = _apply(
            stored[place], changes, transposed=transposed, padded=(component, parameter) == PADDED
        )
        for target in _find_targets(targets, place, build, parameter):
            weights[target.name] = _stored(changed, target, parameter)
    return weights


def _find_place(exported: Build, parameter: str) -> str:
    try:
        return exported.weights[parameter]
    except KeyError:
        raise LoraMismatchError(
            f"the network of the {exported.component} has no {parameter} that could be changed",
            received=f"a LoRA that changes {parameter}",
            expected="changes of weights that the exported graph has; it has no biases of zeros",
            hint="apply the LoRA at export: `inpaintrt export SOURCE -o DIR --lora FILE:SCALE`",
        ) from None


def _apply(
    initializer: Initializer, changes: Sequence[tuple[Change, float]], *, transposed: bool, padded: bool
) -> NDArray[np.float32]:
    weight = initializer.read()
    if transposed:
        weight = weight.T
    elif weight.ndim == 3:
        weight = weight.ravel()  # [channels, 1, 1], of a group normalisation
    for change, scale in changes:
        weight = change.apply(weight, scale, pads_channels=padded)
    return weight.T if transposed else weight


def _find_targets(
    targets: Mapping[str, Initializer], place: str, build: Build, parameter: str
) -> list[Initializer]:
    found = [targets[name] for name in (place, f"{place}{_HALF}") if name in targets]
    if not found:
        raise LoraMismatchError(
            f"{build.file} has no weight for {parameter}",
            received=f"a network made for the backend {build.backend!r}",
            expected=f"an initializer {place!r}",
            hint=f"build it again: `inpaintrt build BUNDLE --backend {build.backend}`, without --fused-norms "
            "if the LoRA changes normalisation layers",
        )
    return found


def _stored(changed: NDArray[np.float32], target: Initializer, parameter: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(changed.reshape(target.shape), target.dtype)
    if not np.isfinite(values).all():
        raise LoraMismatchError(
            f"with the LoRAs, {parameter} has numbers that {target.dtype} cannot hold",
            expected="finite numbers",
            hint="lower their scales",
        )
    return values
