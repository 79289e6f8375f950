"""A judge of results: which object of which colour is seen inside a mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inpaintrt_export.demo.drawing import Array
from inpaintrt_export.demo.world import COLOUR_NAMES, KINDS

NOTHING = len(KINDS)
COLOURLESS = len(COLOUR_NAMES)
CROP_SIZE = 48
JUDGE_FILE = Path(__file__).with_name("judge.safetensors")


@dataclass(frozen=True)
class Verdict:
    """What is seen: an object or none, and its colour where such objects have one."""

    kind: str | None
    colour: str | None


class Judge(nn.Module):
    """A small convolutional classifier of the picture's part around the mask."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64)
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            layers += [
                nn.Conv2d(inner, outer, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(outer, outer, 3, 2, 1),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten())
        self.kind = nn.Linear(9 * widths[-1], NOTHING + 1)
        self.colour = nn.Linear(9 * widths[-1], COLOURLESS + 1)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of kinds [n, 8] and colours [n, 6] for crops [n, 3, 48, 48], values 0 to 1."""
        features = self.features(crops)
        return self.kind(features), self.colour(features)

    @torch.no_grad()
    def verdicts(self, pictures: Sequence[Image.Image], masks: Sequence[Image.Image]) -> list[Verdict]:
        """Return what is seen inside the masks (white) of the pictures."""
        crops = np.stack([crop_of(picture, mask) for picture, mask in zip(pictures, masks, strict=True)])
        kinds, colours = self(torch.from_numpy(crops))
        pairs = zip(kinds.argmax(dim=1).tolist(), colours.argmax(dim=1).tolist(), strict=True)
        return [Verdict((*KINDS, None)[kind], (*COLOUR_NAMES, None)[colour]) for kind, colour in pairs]


def crop_of(picture: Image.Image, mask: Image.Image) -> Array:
    """Return the picture inside the mask's bounding box, [3, 48, 48], values 0 to 1.

    Raises:
        ValueError: the mask is empty.
    """
    box = mask.convert("L").point(lambda value: 255 * (value >= 128)).getbbox()
    if box is None:
        raise ValueError("the mask is empty: there is nothing to judge")
    crop = picture.convert("RGB").resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(crop, np.float32).transpose(2, 0, 1) / np.float32(255)


def save_judge(judge: Judge, file: Path = JUDGE_FILE) -> None:
    """Write the judge's weights as float16."""
    save_file({name: weight.half().contiguous() for name, weight in judge.state_dict().items()}, file)


def load_judge(file: Path = JUDGE_FILE) -> Judge:
    """Return the judge that belongs to the drawn world."""
    judge = Judge()
    judge.load_state_dict({name: weight.float() for name, weight in load_file(file).items()})
    return judge.eval()
