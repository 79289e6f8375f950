"""The classifier of results, and its training: which object of which color is seen inside a mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from inpaintrt_demo.autoencoder import rebuild
from inpaintrt_demo.drawing import Array, Box, Ellipse, Part, draw_parts, rectangle
from inpaintrt_demo.masks import as_image, box_mask
from inpaintrt_demo.training import Training, TrainingPlan
from inpaintrt_demo.world import (
    COLOR_NAMES,
    COLORS,
    IMAGE_SIZE,
    KINDS,
    Scene,
    Thing,
    draw,
    draw_array,
    kinds_of,
    random_scene,
    thing_of_kind,
)

NOTHING = len(KINDS)
COLORLESS = len(COLOR_NAMES)
CROP_SIZE = 48
CLASSIFIER_FILE = Path(__file__).with_name("classifier.safetensors")
CLASSIFIER_TRAINING_SEEDS = 7_000_000
EXAMPLES = 4000
PLAN = TrainingPlan(steps=1000, batch=64, learning_rate=2e-3, shards=1, average=0.99, log_every=100)
REBUILT_SHARE = 0.4  # of the examples that went through the autoencoder, as results do


@dataclass(frozen=True)
class SeenObject:
    """What is seen: an object or none, and its color where such objects have one."""

    kind: str | None
    color: str | None


class Classifier(nn.Module):
    """A small convolutional classifier of the image's part around the mask."""

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
        self.color = nn.Linear(9 * widths[-1], COLORLESS + 1)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of kinds [n, 8] and colors [n, 6] for crops [n, 3, 48, 48], values 0 to 1."""
        features = self.features(crops)
        return self.kind(features), self.color(features)

    @torch.no_grad()
    def classify(self, images: Sequence[Image.Image], masks: Sequence[Image.Image]) -> list[SeenObject]:
        """Return what is seen inside the masks (white) of the images."""
        crops = np.stack([crop_of(image, mask) for image, mask in zip(images, masks, strict=True)])
        kinds, colors = self(torch.from_numpy(crops))
        pairs = zip(kinds.argmax(dim=1).tolist(), colors.argmax(dim=1).tolist(), strict=True)
        return [SeenObject((*KINDS, None)[kind], (*COLOR_NAMES, None)[color]) for kind, color in pairs]


def crop_of(image: Image.Image, mask: Image.Image) -> Array:
    """Return the image inside the mask's bounding box, [3, 48, 48], values 0 to 1.

    Raises:
        ValueError: the mask is empty.
    """
    box = mask.convert("L").point(lambda value: 255 * (value >= 128)).getbbox()
    if box is None:
        raise ValueError("the mask is empty: there is nothing to classify")
    crop = image.convert("RGB").resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(crop, np.float32).transpose(2, 0, 1) / np.float32(255)


def save_classifier(classifier: Classifier, file: Path = CLASSIFIER_FILE) -> None:
    """Write the classifier's weights as float16."""
    save_file({name: weight.half().contiguous() for name, weight in classifier.state_dict().items()}, file)


def load_classifier(file: Path = CLASSIFIER_FILE) -> Classifier:
    """Return the classifier that belongs to the drawn world."""
    classifier = Classifier()
    classifier.load_state_dict({name: weight.float() for name, weight in load_file(file).items()})
    return classifier.eval()


@dataclass(frozen=True)
class Example:
    """An image, a mask, and what the classifier is to say of it."""

    image: Image.Image
    mask: Image.Image
    kind: int
    color: int


def place_thing(rng: np.random.Generator, scene: Scene, kind: str) -> tuple[Scene, Thing]:
    """Return the scene cleared of everything but a new object of the kind, and the object."""
    thing = thing_of_kind(rng, scene, kind)
    return replace(scene, things=(thing,)), thing


def random_example(seed: int, size: int) -> Example:
    """Return an example: mostly an object, else an empty place, a colored blob, or a smear."""
    rng = np.random.default_rng((seed, 2))
    empty = random_scene(seed)
    kinds = kinds_of(empty)
    scene, thing = place_thing(rng, empty, kinds[rng.integers(len(kinds))])
    mask = as_image(box_mask(shifted(rng, thing.box), float(rng.uniform(1.05, 1.7)), size))
    color = COLORLESS if thing.color is None else COLOR_NAMES.index(thing.color)
    choice = rng.random()
    if choice < 0.72:
        return Example(draw(scene, size), mask, KINDS.index(thing.kind), color)
    bare = replace(empty, things=())
    if choice < 0.82:
        return Example(draw(bare, size), mask, NOTHING, COLORLESS)
    if choice < 0.92:
        return Example(draw_blob(rng, bare, thing, size), mask, NOTHING, COLORLESS)
    return Example(smeared(draw(scene, size)), mask, NOTHING, COLORLESS)


def shifted(rng: np.random.Generator, box: Box) -> Box:
    """Return the box moved a little, since results do not sit in the middle of their masks."""
    across, down = (rng.uniform(-0.12, 0.12, 2) * (box[2] - box[0])).tolist()
    left, top, right, bottom = box
    return left + across, top + down, right + across, bottom + down


def draw_blob(rng: np.random.Generator, bare: Scene, thing: Thing, size: int) -> Image.Image:
    """Draw the bare scene with a blob of a random color in place of the object."""
    color = COLORS[COLOR_NAMES[rng.integers(len(COLOR_NAMES))]]
    shape = Ellipse((0, 0), (0.8, 0.6)) if rng.random() < 0.5 else rectangle(-0.7, -0.7, 0.7, 0.7)
    image = draw_array(bare, size)
    draw_parts(image, [Part(shape, color, (0.2, 0.2))], thing.box, bare.daytime.light)
    return Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))


def smeared(image: Image.Image) -> Image.Image:
    """Return the image so blurred that no object is to be seen in it."""
    return image.filter(ImageFilter.GaussianBlur(image.width / 12))


def training_set(
    first_seed: int, count: int, size: int, vae: AutoencoderKL | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return crops [count, 3, 48, 48], kinds and colors [count]; with a VAE, a share of crops is rebuilt."""
    examples = [random_example(first_seed + index, size) for index in range(count)]
    rebuilt = round(count * REBUILT_SHARE) if vae is not None else 0
    crops = [
        crop_of(rebuild(vae, example.image) if index < rebuilt else example.image, example.mask)
        for index, example in enumerate(examples)
    ]
    kinds = torch.tensor([example.kind for example in examples])
    colors = torch.tensor([example.color for example in examples])
    return torch.from_numpy(np.stack(crops)), kinds, colors


class ClassifierObjective:
    """Name kind and color of the crops, which get a little noise."""

    def __init__(self, classifier: Classifier, crops: Tensor, kinds: Tensor, colors: Tensor) -> None:
        self.modules: nn.Module = classifier
        self.crops, self.kinds, self.colors = crops, kinds, colors

    def loss(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the cross entropy of kinds and colors."""
        picks = torch.randint(len(self.crops), (count,), generator=generator)
        noise = torch.randn((count, *self.crops.shape[1:]), generator=generator)
        level = 0.06 * torch.rand((count, 1, 1, 1), generator=generator)
        kinds, colors = self.modules(self.crops[picks] + level * noise)
        return functional.cross_entropy(kinds, self.kinds[picks]) + functional.cross_entropy(
            colors, self.colors[picks]
        )


def train_classifier(
    vae: AutoencoderKL, work: Path, plan: TrainingPlan = PLAN, examples: int = EXAMPLES
) -> Classifier:
    """Train a classifier on drawn images, some of them rebuilt by the autoencoder."""
    torch.manual_seed(plan.seed)
    data = training_set(CLASSIFIER_TRAINING_SEEDS, examples, IMAGE_SIZE, vae)
    averaged = Training(ClassifierObjective(Classifier(), *data), plan, work / "classifier.pt").run()
    if not isinstance(averaged, Classifier):
        raise TypeError(f"the averaged classifier is a {type(averaged).__name__}")
    return averaged
