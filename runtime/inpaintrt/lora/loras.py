"""LoRAs as users name them: a file and a scale, opened and matched with a checkpoint's modules."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from inpaintrt.bundle import SHALLOW_DENOISER, FusedLora
from inpaintrt.errors import LoraError, LoraMismatchError
from inpaintrt.lora.adapter import AdapterConfig
from inpaintrt.lora.changes import Change, make_changes
from inpaintrt.lora.files import LoraFile, LoraTensor, open_lora
from inpaintrt.lora.keys import Key, list_names, parse_keys
from inpaintrt.lora.modules import ModuleNames

__all__ = [
    "Lora",
    "LoraSource",
    "changed_components",
    "check_components",
    "describe_loras",
    "open_loras",
    "parse_lora",
    "whole_network",
]

LoraSource = str | os.PathLike[str] | tuple[str | os.PathLike[str], float]
"""The path of a LoRA file, or a path and a scale."""


@dataclass(frozen=True)
class Lora:
    """A LoRA file and the scale that it is applied with.

    Attributes:
        file: The file.
        scale: The user's scale; 1 is the whole LoRA.
        keys: What the names of its tensors say.
    """

    file: LoraFile
    scale: float
    keys: Mapping[str, Key]

    @property
    def components(self) -> frozenset[str]:
        """The components that it changes."""
        return frozenset(key.component for key in self.keys.values())

    def changes(self, component: str, modules: Collection[str]) -> dict[str, Change]:
        """What it changes of a component: for each parameter, by the checkpoint's name, the change.

        Args:
            component: "denoiser", "text_encoder" or "text_encoder_2".
            modules: The component's modules.

        Raises:
            LoraMismatchError: It changes modules that the component does not have.
            LoraFileError: The factors of a module are not those of one kind of LoRA.
        """
        names = ModuleNames(component, modules)
        spelled: dict[str, str] = {}
        factors: defaultdict[str, dict[str, LoraTensor]] = defaultdict(dict)
        missing = []
        for name, key in self.keys.items():
            if key.component != component:
                continue
            module = names.find(key.module, flat=key.flat)
            if module is None:
                missing.append(name)
            elif key.factor in factors[module]:
                raise self._twice(module, key.factor, sorted((factors[module][key.factor].name, name)))
            else:
                spelled[module] = key.module
                factors[module][key.factor] = self.file.tensors[name]
        if missing:
            raise self._mismatch(component, missing)
        config = AdapterConfig.of_component(self.file.adapter, component)
        return {
            f"{module}.{parameter}": change
            for module, found in factors.items()
            for parameter, change in make_changes(spelled[module], module, found, config).items()
        }

    def _mismatch(self, component: str, missing: Sequence[str]) -> LoraMismatchError:
        return LoraMismatchError(
            f"{self.file.path} changes modules that the {component} of this checkpoint does not have",
            received=list_names(sorted(missing)),
            expected="modules of this checkpoint",
            hint="take a LoRA that was trained for this family of checkpoints (SD 1.x, SD 2.x or SDXL)",
        )

    def _twice(self, module: str, factor: str, names: Sequence[str]) -> LoraMismatchError:
        return LoraMismatchError(
            f"{self.file.path} has two tensors for the factor {factor!r} of {module}",
            received=", ".join(names),
            expected="one",
        )


def open_loras(sources: Sequence[LoraSource]) -> tuple[Lora, ...]:
    """Open LoRA files, in the order in which they are applied.

    Args:
        sources: Paths, or pairs of a path and a scale; the scale is 1 where there is none.

    Raises:
        LoraError: A scale is not a finite number, or a source is neither.
        LoraFileError: A file cannot be read, or has tensors that cannot be applied.
    """
    if isinstance(sources, str | os.PathLike):
        raise LoraError(
            "loras is not a list",
            received=repr(sources),
            expected='a list such as [("style.safetensors", 0.8)]',
        )
    return tuple(_open(source) for source in sources)


def _open(source: LoraSource) -> Lora:
    path, scale = source if isinstance(source, tuple) and len(source) == 2 else (source, 1.0)
    if not isinstance(path, str | os.PathLike):
        raise LoraError(
            "this names no LoRA",
            received=repr(source),
            expected='a path, or a pair ("style.safetensors", 0.8)',
        )
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise LoraError(
            f"the scale of the LoRA {os.fspath(path)} is not a finite number",
            received=repr(scale),
            expected="a number, usually from 0 to 1",
        )
    file = open_lora(path)
    return Lora(file, float(scale), parse_keys(file.tensors))


def parse_lora(text: str) -> tuple[str, float]:
    """Path and scale of a text such as "style.safetensors:0.8"; without a number, the scale is 1."""
    path, colon, tail = text.rpartition(":")
    try:
        scale = float(tail)
    except ValueError:
        return text, 1.0
    return (path, scale) if colon and path else (text, 1.0)


def describe_loras(loras: Sequence[Lora], component: str | None = None) -> tuple[FusedLora, ...]:
    """What a manifest says of LoRAs, or of those that change a component."""
    return tuple(
        FusedLora(name=lora.file.path.name, sha256=lora.file.sha256, scale=lora.scale)
        for lora in loras
        if component is None or whole_network(component) in lora.components
    )


def whole_network(component: str) -> str:
    """The component that LoRAs name: the denoiser for its shallow form, which has some of its weights."""
    return "denoiser" if component == SHALLOW_DENOISER else component


def changed_components(loras: Sequence[Lora], components: Iterable[str]) -> frozenset[str]:
    """Those components of a bundle whose weights LoRAs change."""
    named = {component for lora in loras for component in lora.components}
    return frozenset(component for component in components if whole_network(component) in named)


def check_components(loras: Sequence[Lora], components: Collection[str]) -> None:
    """Check that a checkpoint has the components that LoRAs change.

    Raises:
        LoraMismatchError: It lacks one.
    """
    for lora in loras:
        lacking = sorted(lora.components.difference(components))
        if lacking:
            example = next(name for name, key in lora.keys.items() if key.component == lacking[0])
            raise LoraMismatchError(
                f"{lora.file.path} changes the {', '.join(lacking)}, which this checkpoint does not have",
                received=example,
                expected=f"changes of {', '.join(sorted(components))}",
                hint="take a LoRA that was trained for this family of checkpoints (SD 1.x, SD 2.x or SDXL)",
            )
