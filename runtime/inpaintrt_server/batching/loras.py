"""The LoRAs that a server offers, by name: what requests choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from inpaintrt.errors import LoraFileError, ParameterError
from inpaintrt.loading import LoadedBundle, load_variant
from inpaintrt.lora import Lora, changed_bytes, changed_components, open_loras

__all__ = ["NO_LORAS", "LoraChoice", "LoraFiles", "LoraLibrary"]

LoraFiles: TypeAlias = Mapping[str, Sequence[tuple[str, float]]]
"""For each name the files that are applied together, each with its scale."""

_DECIMALS = 2
_MAX_WEIGHT = 100.0


@dataclass(frozen=True)
class LoraChoice:
    """The LoRAs that a request chooses.

    Attributes:
        weights: Names, in the order in which the server was given them, each with the factor of its scales.
    """

    weights: tuple[tuple[str, float], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names alone."""
        return tuple(name for name, _ in self.weights)

    def __str__(self) -> str:
        """For people, such as "style:0.8+detail"."""
        parts = (name if weight == 1 else f"{name}:{weight:g}" for name, weight in self.weights)
        return "+".join(parts) or "none"


NO_LORAS = LoraChoice()
"""The bundle as it is."""


@dataclass(frozen=True)
class _LoraSet:
    """What is known of the files of a name without keeping them in memory.

    Attributes:
        files: Path, scale and SHA-256 of each.
        components: The components that they change.
        changed_bytes: Bytes of the weights that they change.
    """

    files: tuple[tuple[str, float, str], ...]
    components: frozenset[str]
    changed_bytes: int


class LoraLibrary:
    """The LoRAs that a server offers. Any thread may call anything.

    Args:
        base: The bundle that they change.
        files: For each name, its files.

    Raises:
        LoraError: A file cannot be read, or changes modules that the bundle does not have.
        BundleError: The engines were not opened from a bundle.

    Attributes:
        names: All names, in the order in which they were given.
    """

    def __init__(self, base: LoadedBundle, files: LoraFiles) -> None:
        self._base = base
        self._sets = {name: _describe(base, sources) for name, sources in files.items()}
        self.names = tuple(files)

    def choose(self, weights: Mapping[str, float]) -> LoraChoice:
        """What a request chooses; weights count to two decimals, and a weight of 0 chooses nothing.

        Raises:
            ParameterError: A name is unknown, or a weight is out of range.
        """
        for name, weight in weights.items():
            if not abs(weight) <= _MAX_WEIGHT:
                raise ParameterError(
                    f"the weight of the LoRA {name} is out of range",
                    received=weight,
                    expected=f"{-_MAX_WEIGHT:g} to {_MAX_WEIGHT:g}, usually 0 to 1",
                    parameter="lora",
                )
            if name not in self._sets:
                raise ParameterError(
                    "this server does not have the LoRA",
                    received=name,
                    expected=", ".join(self.names) or "none: the server was started without --lora",
                    parameter="lora",
                )
        rounded = {name: round(weight, _DECIMALS) for name, weight in weights.items()}
        return LoraChoice(tuple((name, rounded[name]) for name in self.names if rounded.get(name)))

    def choose_one(self, name: str | None) -> LoraChoice:
        """A single LoRA as the server was given it; None chooses nothing.

        Raises:
            ParameterError: The name is unknown.
        """
        return NO_LORAS if name is None else self.choose({name: 1.0})

    def nbytes(self, choice: LoraChoice) -> int:
        """Bytes that a choice takes in memory: the components that it changes, and their new weights."""
        sets = [self._sets[name] for name in choice.names]
        components = {component for each in sets for component in each.components}
        manifest = self._base.manifest
        exported = sum(
            entry.size
            for component in components
            for entry in manifest.files
            if entry.path.startswith(manifest.exported[component].file)
        )
        return exported + sum(each.changed_bytes for each in sets)

    @property
    def largest(self) -> int:
        """Bytes that the largest name alone takes; 0 where there is none."""
        return max((self.nbytes(self.choose_one(name)) for name in self.names), default=0)

    def load(self, choice: LoraChoice) -> LoadedBundle:
        """The bundle with the LoRAs of a choice; what they do not change is shared with the bundle itself.

        Raises:
            LoraError: A file has changed since the start, or a LoRA cannot be applied with this weight.
            EngineError: A component cannot be opened.
            BundleError: The bundle is damaged.
        """
        loras = [
            _reopen(path, scale * weight, sha256)
            for name, weight in choice.weights
            for path, scale, sha256 in self._sets[name].files
        ]
        return load_variant(self._base, loras)


def _describe(base: LoadedBundle, sources: Sequence[tuple[str, float]]) -> _LoraSet:
    loras = open_loras(sources)
    files = tuple((path, scale, lora.file.sha256) for (path, scale), lora in zip(sources, loras, strict=True))
    components = changed_components(loras, base.manifest.exported)
    return _LoraSet(files, components, changed_bytes(base.opened_from.folder, base.manifest, loras))


def _reopen(path: str, scale: float, sha256: str) -> Lora:
    (lora,) = open_loras([(path, scale)])
    if lora.file.sha256 != sha256:
        raise LoraFileError(
            f"the LoRA file {path} has changed since the server was started",
            received=f"SHA-256 {lora.file.sha256}",
            expected=sha256,
            hint="start the server again",
        )
    return lora
