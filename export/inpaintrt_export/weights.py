"""The weights that LoRAs change, by the checkpoint's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

from inpaintrt.errors import ExportError

if TYPE_CHECKING:
    from inpaintrt_export.initializers import WeightPlaces

__all__ = ["name_weights", "parameter_name"]

_ATTRIBUTES: Final = {"denoiser": "unet.", "text_encoder": "encoder.", "text_encoder_2": "encoder."}
"""What the networks call the checkpoint's module, for the components that LoRAs change."""
_MAX_NAMES: Final = 5
_TEXT_MODEL: Final = ("text_model.", "text_projection.")


class _Fields(TypedDict, total=False):
    weights: dict[str, str]
    transposed: tuple[str, ...]


def parameter_name(component: str, name: str) -> str:
    """The checkpoint's name of a parameter of a UNet or text encoder.

    transformers 5 has the parts of CLIP's text encoder in the model itself; in checkpoints, and for
    transformers 4, they are those of its attribute `text_model`.
    """
    if component == "denoiser" or name.startswith(_TEXT_MODEL):
        return name
    return f"text_model.{name}"


def name_weights(component: str, places: WeightPlaces, prefix: str) -> _Fields:
    """What a build says of its weights; nothing of a component that LoRAs do not change.

    Args:
        component: The component.
        places: Where the traced graph holds its network's parameters.
        prefix: What composing put before the names of the traced graph's tensors.

    Raises:
        ExportError: The graph does not hold a matrix or convolution in one place.
    """
    if component not in _ATTRIBUTES:
        return {}
    if places.lost:
        raise ExportError(
            f"the graph of the {component} does not hold every weight in one place, as LoRAs need it",
            received=", ".join(places.lost[:_MAX_NAMES]),
            expected="one initializer for each matrix and convolution",
            hint="report this checkpoint's configuration",
        )
    names = {
        name: parameter_name(component, name.removeprefix(_ATTRIBUTES[component]))
        for name in places.initializers
    }
    return {
        "weights": {names[name]: place and f"{prefix}{place}" for name, place in places.initializers.items()},
        "transposed": tuple(names[name] for name in places.transposed),
    }
