"""What the names of a LoRA file's tensors say: which module of which component, and which factor.

Sources: kohya-ss' sd-scripts (`lora_unet_…`), diffusers' `lora_conversion_utils.py` and
`state_dict_utils.py` (PEFT's names and those before it), LyCORIS (`hada_…`, `lokr_…`, `diff`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from inpaintrt.errors import LoraFileError

__all__ = ["Key", "list_names", "parse_keys"]

_COMPONENTS: Final = (
    ("lora_unet_", "denoiser"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("unet.", "denoiser"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
)
_UNPREFIXED: Final = ("conv_in.", "time_embedding.", "down_blocks.", "mid_block.", "up_blocks.", "conv_out.")
_LYCORIS: Final = (
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    *("alpha", "dora_scale", "diff", "diff_b"),
)
_FACTORS: Final = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.bias": "up_bias",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora.alpha": "alpha",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_linear_layer.alpha": "alpha",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    "_lora.alpha": "alpha",
    ".w_norm": "diff",
    ".b_norm": "diff_b",
    **{f".{name}": name for name in _LYCORIS},
}
_SUFFIXES: Final = tuple(sorted(_FACTORS, key=len, reverse=True))
_MAX_NAMES: Final = 8


class Key(NamedTuple):
    """What the name of a tensor says.

    Attributes:
        component: The component of the bundle whose weight changes.
        module: The module as the file spells it.
        flat: Whether it is spelled with underscores in the place of dots, as kohya-ss does.
        factor: What the tensor is.
    """

    component: str
    module: str
    flat: bool
    factor: str


def parse_keys(names: Iterable[str]) -> dict[str, Key]:
    """Read the names of all tensors of a file.

    Raises:
        LoraFileError: Some are not those of a LoRA for Stable Diffusion; the message lists them.
    """
    keys = {name: _parse(name) for name in names}
    unknown = sorted(name for name, key in keys.items() if key is None)
    if unknown:
        raise LoraFileError(
            "the LoRA file has tensors that cannot be applied",
            received=list_names(unknown),
            expected="LoRA, LoCon, LoHa, LoKr, DoRA or full differences, for a UNet or a CLIP text encoder, "
            "with the names of kohya-ss, PEFT, diffusers or LyCORIS",
            hint="if it is for another model, take one for this checkpoint",
        )
    return {name: key for name, key in keys.items() if key is not None}


def list_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _parse(name: str) -> Key | None:
    for prefix, component in _COMPONENTS:
        if name.startswith(prefix):
            return _split(component, name.removeprefix(prefix), flat=prefix.endswith("_"))
    return _split("denoiser", name, flat=False) if name.startswith(_UNPREFIXED) else None


def _split(component: str, name: str, *, flat: bool) -> Key | None:
    for suffix in _SUFFIXES:
        module = name.removesuffix(suffix)
        if module != name and module:
            return Key(component, module, flat, _FACTORS[suffix])
    return None
