"""The demo's picture, mask and prompts, drawn from a fixed seed."""

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from inpaintrt_export.demo.cases import evaluation_case
from inpaintrt_export.demo.world import PICTURE_SIZE


@dataclass(frozen=True)
class DemoScene:
    """Which scene, where, and what to ask for."""

    first_seed: int
    kind: str  # whose usual place is masked
    prompts: tuple[str, ...]
    seed: int  # of the noise


DEMO = DemoScene(9_504_000, "balloon", ("a red balloon", "a blue balloon", "a cloud"), 0)


def write_assets(folder: Path, demo: DemoScene = DEMO) -> None:
    """Write input.png, mask.png (white: repaint) and prompts.json."""
    case = evaluation_case(demo.first_seed, demo.kind, PICTURE_SIZE)
    folder.mkdir(parents=True, exist_ok=True)
    save_png(case.picture, folder / "input.png")
    save_png(case.mask, folder / "mask.png")
    (folder / "prompts.json").write_text(
        json.dumps({"prompts": demo.prompts, "seed": demo.seed}, indent=2) + "\n"
    )


def save_png(picture: Image.Image, file: Path) -> None:
    """Write a small PNG."""
    picture.save(file, optimize=True)
