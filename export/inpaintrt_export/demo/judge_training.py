"""The judge's training: objects in drawn pictures, and things that are no objects."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional

from inpaintrt_export.demo.drawing import Box, Ellipse, Part, draw_parts, rectangle
from inpaintrt_export.demo.judge import COLOURLESS, NOTHING, Judge, crop_of
from inpaintrt_export.demo.masks import box_mask
from inpaintrt_export.demo.things import COLOURS
from inpaintrt_export.demo.training import Plan, Training
from inpaintrt_export.demo.vae_training import to_tensor
from inpaintrt_export.demo.world import (
    COLOUR_NAMES,
    KINDS,
    PICTURE_SIZE,
    Scene,
    Thing,
    draw,
    draw_array,
    random_scene,
    thing_of_kind,
)

JUDGE_TRAINING_SEEDS = 7_000_000
EXAMPLES = 4000
PLAN = Plan(steps=1000, batch=64, learning_rate=2e-3, shards=1, average=0.99, log_every=100)
REBUILT_SHARE = 0.4  # of the examples that went through the autoencoder, as results do


@dataclass(frozen=True)
class Example:
    """A picture, a mask, and what the judge is to say of it."""

    picture: Image.Image
    mask: Image.Image
    kind: int
    colour: int


def place_thing(rng: np.random.Generator, scene: Scene, kind: str) -> tuple[Scene, Thing]:
    """Return the scene cleared of everything but a new object of the kind, and the object."""
    thing = thing_of_kind(rng, scene, kind)
    return replace(scene, things=(thing,)), thing


def kinds_of(scene: Scene) -> list[str]:
    """Return which kinds of objects the scene can hold."""
    others = ["tree", "house", "boat"] if scene.has_water else ["tree", "house"]
    return [*scene.daytime.sky_kinds, *others]


def random_example(seed: int, size: int) -> Example:
    """Return an example: mostly an object, else an empty place, a coloured blob, or a smear."""
    rng = np.random.default_rng((seed, 2))
    empty = random_scene(seed)
    kinds = kinds_of(empty)
    scene, thing = place_thing(rng, empty, kinds[rng.integers(len(kinds))])
    mask = as_mask(box_mask(shifted(rng, thing.box), float(rng.uniform(1.05, 1.7)), size))
    colour = COLOURLESS if thing.colour is None else COLOUR_NAMES.index(thing.colour)
    choice = rng.random()
    if choice < 0.72:
        return Example(draw(scene, size), mask, KINDS.index(thing.kind), colour)
    bare = replace(empty, things=())
    if choice < 0.82:
        return Example(draw(bare, size), mask, NOTHING, COLOURLESS)
    if choice < 0.92:
        return Example(draw_blob(rng, bare, thing, size), mask, NOTHING, COLOURLESS)
    return Example(smeared(draw(scene, size)), mask, NOTHING, COLOURLESS)


def shifted(rng: np.random.Generator, box: Box) -> Box:
    """Return the box moved a little, since results do not sit in the middle of their masks."""
    across, down = (rng.uniform(-0.12, 0.12, 2) * (box[2] - box[0])).tolist()
    left, top, right, bottom = box
    return left + across, top + down, right + across, bottom + down


def as_mask(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Image.Image:
    """Return a mask as a picture, white where True."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def draw_blob(rng: np.random.Generator, bare: Scene, thing: Thing, size: int) -> Image.Image:
    """Draw the bare scene with a blob of a random colour in place of the object."""
    colour = COLOURS[COLOUR_NAMES[rng.integers(len(COLOUR_NAMES))]]
    shape = Ellipse((0, 0), (0.8, 0.6)) if rng.random() < 0.5 else rectangle(-0.7, -0.7, 0.7, 0.7)
    picture = draw_array(bare, size)
    draw_parts(picture, [Part(shape, colour, (0.2, 0.2))], thing.box, bare.daytime.light)
    return Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8))


def smeared(picture: Image.Image) -> Image.Image:
    """Return the picture so blurred that no object is to be seen in it."""
    return picture.filter(ImageFilter.GaussianBlur(picture.width / 12))


@torch.no_grad()
def rebuild(vae: AutoencoderKL, picture: Image.Image) -> Image.Image:
    """Return the picture after the autoencoder."""
    latents = vae.encode(to_tensor(np.asarray(picture)[None])).latent_dist.mode()
    decoded = vae.decode(latents).sample[0].permute(1, 2, 0).clamp(-1, 1)
    return Image.fromarray(((decoded + 1) * 127.5).round().to(torch.uint8).numpy())


def training_set(
    first_seed: int, count: int, size: int, vae: AutoencoderKL | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return crops [count, 3, 48, 48], kinds and colours [count]; with a VAE, a share of crops is rebuilt."""
    examples = [random_example(first_seed + index, size) for index in range(count)]
    rebuilt = round(count * REBUILT_SHARE) if vae is not None else 0
    crops = [
        crop_of(rebuild(vae, example.picture) if index < rebuilt else example.picture, example.mask)
        for index, example in enumerate(examples)
    ]
    kinds = torch.tensor([example.kind for example in examples])
    colours = torch.tensor([example.colour for example in examples])
    return torch.from_numpy(np.stack(crops)), kinds, colours


class JudgeObjective:
    """Name kind and colour of the crops, which get a little noise."""

    def __init__(self, judge: Judge, crops: Tensor, kinds: Tensor, colours: Tensor) -> None:
        self.modules: nn.Module = judge
        self.crops, self.kinds, self.colours = crops, kinds, colours

    def loss(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the cross entropy of kinds and colours."""
        picks = torch.randint(len(self.crops), (count,), generator=generator)
        noise = torch.randn((count, *self.crops.shape[1:]), generator=generator)
        level = 0.06 * torch.rand((count, 1, 1, 1), generator=generator)
        kinds, colours = self.modules(self.crops[picks] + level * noise)
        return functional.cross_entropy(kinds, self.kinds[picks]) + functional.cross_entropy(
            colours, self.colours[picks]
        )


def train_judge(vae: AutoencoderKL, work: Path, plan: Plan = PLAN, examples: int = EXAMPLES) -> Judge:
    """Train a judge on drawn pictures, some of them rebuilt by the autoencoder."""
    torch.manual_seed(plan.seed)
    data = training_set(JUDGE_TRAINING_SEEDS, examples, PICTURE_SIZE, vae)
    averaged = Training(JudgeObjective(Judge(), *data), plan, work / "judge.pt").run()
    if not isinstance(averaged, Judge):
        raise TypeError(f"the averaged judge is a {type(averaged).__name__}")
    return averaged
