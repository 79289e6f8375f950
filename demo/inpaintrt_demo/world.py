"""The drawn world: objects, landscapes and their captions; the same seed gives the same scene."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from inpaintrt_demo.drawing import (
    Array,
    Box,
    Color,
    Difference,
    Ellipse,
    Part,
    Polygon,
    Union,
    blend,
    draw_parts,
    grid,
    rectangle,
)

IMAGE_SIZE = 128
COLORS: dict[str, Color] = {
    "red": (0.90, 0.10, 0.10),
    "yellow": (0.98, 0.82, 0.08),
    "green": (0.05, 0.62, 0.25),
    "blue": (0.06, 0.28, 1.00),
    "purple": (0.60, 0.12, 0.75),
}
WOOD: Color = (0.42, 0.26, 0.13)
WHITE: Color = (0.97, 0.97, 0.95)


def sun_parts(_: Color) -> list[Part]:
    """Return a warm disc with a brighter middle."""
    return [
        Part(Ellipse((0, 0), (0.92, 0.92)), (1.0, 0.72, 0.12)),
        Part(Ellipse((0, 0), (0.68, 0.68)), (1.0, 0.93, 0.45)),
    ]


def moon_parts(_: Color) -> list[Part]:
    """Return a crescent, open to the right."""
    crescent = Difference(Ellipse((0, 0), (0.92, 0.92)), Ellipse((0.5, -0.15), (0.75, 0.75)))
    return [Part(crescent, (1.0, 0.98, 0.82))]


def cloud_parts(_: Color) -> list[Part]:
    """Return four white puffs, grey below."""
    puffs = (((-0.52, 0.18), 0.40), ((-0.08, -0.16), 0.52), ((0.48, 0.12), 0.44), ((0.0, 0.28), 0.40))
    body = Union(tuple(Ellipse(center, (radius, radius * 0.85)) for center, radius in puffs))
    return [Part(body, (1.0, 1.0, 1.0), (0.0, 0.28))]


def tree_parts(_: Color) -> list[Part]:
    """Return a trunk below a round crown."""
    crown = Union(
        (
            Ellipse((-0.34, -0.1), (0.5, 0.48)),
            Ellipse((0.34, -0.1), (0.5, 0.48)),
            Ellipse((0, -0.42), (0.54, 0.52)),
        )
    )
    return [
        Part(rectangle(-0.13, 0.1, 0.13, 0.98), WOOD, (0.3, 0.0)),
        Part(crown, (0.16, 0.56, 0.14), (0.35, 0.35)),
    ]


def house_parts(color: Color) -> list[Part]:
    """Return walls of the color, a dark roof, a door and a window."""
    return [
        Part(rectangle(-0.74, -0.2, 0.74, 0.96), color, (0.2, 0.0)),
        Part(Polygon(((0, -0.96), (0.95, -0.14), (-0.95, -0.14))), (0.36, 0.16, 0.12), (0.25, 0.0)),
        Part(rectangle(-0.5, 0.22, -0.06, 0.96), (0.25, 0.14, 0.08)),
        Part(rectangle(0.14, 0.06, 0.54, 0.46), (1.0, 0.95, 0.7)),
    ]


def balloon_parts(color: Color) -> list[Part]:
    """Return an envelope of the color with a highlight, and a basket on ropes."""
    return [
        Part(Polygon(((-0.5, 0.1), (-0.42, 0.1), (-0.12, 0.7), (-0.2, 0.7))), WOOD),
        Part(Polygon(((0.42, 0.1), (0.5, 0.1), (0.2, 0.7), (0.12, 0.7))), WOOD),
        Part(Ellipse((0, -0.26), (0.7, 0.7)), color, (0.35, 0.15)),
        Part(Ellipse((-0.26, -0.52), (0.2, 0.2)), tuple_mix(color, 0.35)),
        Part(rectangle(-0.24, 0.64, 0.24, 0.96), WOOD, (0.3, 0.0)),
    ]


def boat_parts(color: Color) -> list[Part]:
    """Return a hull of the color below a white sail."""
    return [
        Part(rectangle(-0.06, -0.9, 0.04, 0.4), WOOD),
        Part(Polygon(((0.08, -0.92), (0.78, 0.26), (0.08, 0.26))), WHITE, (0.15, 0.1)),
        Part(Polygon(((-0.1, -0.7), (-0.1, 0.26), (-0.6, 0.26))), WHITE, (0.15, 0.1)),
        Part(Polygon(((-0.95, 0.36), (0.95, 0.36), (0.62, 0.94), (-0.62, 0.94))), color, (0.2, 0.25)),
    ]


def tuple_mix(color: Color, white: float) -> Color:
    """Return the color with a share of white mixed in."""
    red, green, blue = (value + (1 - value) * white for value in color)
    return red, green, blue


PARTS: dict[str, Callable[[Color], list[Part]]] = {
    "sun": sun_parts,
    "moon": moon_parts,
    "cloud": cloud_parts,
    "tree": tree_parts,
    "house": house_parts,
    "balloon": balloon_parts,
    "boat": boat_parts,
}
COLORED = frozenset({"house", "balloon", "boat"})


KINDS = tuple(PARTS)
COLOR_NAMES = tuple(COLORS)
ZONES: dict[str, tuple[str, ...]] = {
    "sky": ("sun", "moon", "cloud", "balloon"),
    "land": ("tree", "house"),
    "water": ("boat",),
}


@dataclass(frozen=True)
class Daytime:
    """How the world looks at a time of day; colors are 0 to 1."""

    phrase: str
    sky_top: Color
    sky_bottom: Color
    land: Color
    water: Color
    light: Color
    sky_kinds: tuple[str, ...]


DAYTIMES = (
    Daytime(
        "by day",
        (0.33, 0.62, 0.94),
        (0.74, 0.89, 0.98),
        (0.52, 0.68, 0.30),
        (0.24, 0.52, 0.72),
        (1.0, 1.0, 1.0),
        ("sun", "cloud", "balloon"),
    ),
    Daytime(
        "at dusk",
        (0.42, 0.30, 0.55),
        (0.98, 0.66, 0.45),
        (0.46, 0.44, 0.26),
        (0.42, 0.36, 0.48),
        (0.96, 0.88, 0.84),
        ("sun", "moon", "cloud", "balloon"),
    ),
    Daytime(
        "at night",
        (0.06, 0.08, 0.24),
        (0.18, 0.23, 0.46),
        (0.18, 0.27, 0.20),
        (0.10, 0.16, 0.32),
        (0.90, 0.90, 0.95),
        ("moon", "cloud", "balloon"),
    ),
)


@dataclass(frozen=True)
class Thing:
    """An object, its color where it has one to name, and the square box that holds it (0 to 1)."""

    kind: str
    color: str | None
    box: Box

    @property
    def name(self) -> str:
        """The object as a caption calls it, such as "red balloon"."""
        return self.kind if self.color is None else f"{self.color} {self.kind}"

    @property
    def zone(self) -> str:
        """Where the object lives: sky, land or water."""
        return next(zone for zone, kinds in ZONES.items() if self.kind in kinds)


@dataclass(frozen=True)
class Scene:
    """Everything that is needed to draw one image; lengths are shares of the side."""

    daytime: Daytime
    horizon: float
    shore: float  # where the water begins; 1 or more where there is none
    hills: tuple[tuple[float, float, float], ...]  # of the far and the near hills: height, frequency, phase
    things: tuple[Thing, ...]

    @property
    def has_water(self) -> bool:
        """Whether there is water at the bottom."""
        return self.shore < 1

    @property
    def caption(self) -> str:
        """The whole image in words."""
        names = [with_article(thing.name) for thing in self.things]
        place = "water and hills" if self.has_water else "hills"
        return f"{' and '.join([*names, place])} {self.daytime.phrase}"


def with_article(name: str) -> str:
    """Return the name with its indefinite article."""
    return f"a {name}"


def overlap(one: Box, other: Box, margin: float = 0.0) -> bool:
    """Tell whether two boxes, the first grown by the margin, have an area in common."""
    apart_across = one[2] + margin <= other[0] or other[2] <= one[0] - margin
    apart_down = one[3] + margin <= other[1] or other[3] <= one[1] - margin
    return not (apart_across or apart_down)


def random_scene(seed: int) -> Scene:
    """Return the scene of the seed."""
    rng = np.random.default_rng(seed)
    daytime = DAYTIMES[rng.integers(len(DAYTIMES))]
    has_water = bool(rng.random() < 0.5)
    horizon = float(rng.uniform(0.46, 0.54)) if has_water else float(rng.uniform(0.52, 0.64))
    shore = float(rng.uniform(0.66, 0.72)) if has_water else 2.0
    hills = tuple(
        (float(rng.uniform(0.01, 0.03)), float(rng.uniform(0.8, 2.0)), float(rng.uniform(0, 1)))
        for _ in range(2)
    )
    empty = Scene(daytime, horizon, shore, hills, ())
    return Scene(daytime, horizon, shore, hills, random_things(rng, empty))


def random_things(rng: np.random.Generator, scene: Scene) -> tuple[Thing, ...]:
    """Return up to three objects that do not overlap, farthest first."""
    zones = ["sky", "land", "water"] if scene.has_water else ["sky", "land"]
    things: list[Thing] = []
    for _ in range(int(rng.integers(2, 6))):
        thing = random_thing(rng, scene, zones[rng.integers(len(zones))])
        if not any(overlap(thing.box, other.box, margin=0.02) for other in things):
            things.append(thing)
    return tuple(sorted(things[:3], key=lambda thing: thing.box[3]))


def random_thing(rng: np.random.Generator, scene: Scene, zone: str) -> Thing:
    """Return an object of the zone at a place where such an object can be."""
    kinds = scene.daytime.sky_kinds if zone == "sky" else ZONES[zone]
    return thing_of_kind(rng, scene, kinds[rng.integers(len(kinds))])


def kinds_of(scene: Scene) -> list[str]:
    """Return which kinds of objects the scene can hold."""
    others = ["tree", "house", "boat"] if scene.has_water else ["tree", "house"]
    return [*scene.daytime.sky_kinds, *others]


def thing_of_kind(rng: np.random.Generator, scene: Scene, kind: str) -> Thing:
    """Return an object of the kind, of random color, at a place where such an object can be."""
    color = COLOR_NAMES[rng.integers(len(COLOR_NAMES))] if kind in COLORED else None
    size = float(rng.uniform(0.28, 0.42))
    left = float(rng.uniform(0.01, 0.99 - size))
    bottom = float(rng.uniform(*bottom_range(scene, kind, size)))
    return Thing(kind, color, (left, bottom - size, left + size, bottom))


def bottom_range(scene: Scene, kind: str, size: float) -> tuple[float, float]:
    """Return between which heights the lower edge of an object of the kind and size may lie."""
    if kind in ZONES["sky"]:
        return size + 0.01, max(size + 0.02, scene.horizon - 0.03)
    if kind in ZONES["water"]:
        return scene.shore + 0.08, 0.97
    return scene.horizon + 0.1, min(scene.shore - 0.01, 0.97)


def draw(scene: Scene, size: int = IMAGE_SIZE) -> Image.Image:
    """Draw the scene as an RGB image of size x size pixels."""
    image = draw_array(scene, size)
    return Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8), "RGB")


def draw_array(scene: Scene, size: int = IMAGE_SIZE) -> Array:
    """Draw the scene as float32 [height, width, 3], values 0 to 1."""
    image = sky(scene, size)
    for thing in scene.things:
        if thing.zone == "sky":
            draw_thing(image, scene, thing)
    draw_land(image, scene)
    for thing in scene.things:
        if thing.zone != "sky":
            draw_thing(image, scene, thing)
    return image


def draw_thing(image: Array, scene: Scene, thing: Thing) -> None:
    """Draw one object into the image."""
    color = COLORS[thing.color] if thing.color is not None else (0.0, 0.0, 0.0)
    glows = thing.kind in ("sun", "moon")
    draw_parts(image, PARTS[thing.kind](color), thing.box, (1.0, 1.0, 1.0) if glows else scene.daytime.light)


def sky(scene: Scene, size: int) -> Array:
    """Return the sky: a gradient from top to horizon, [size, size, 3]."""
    _, down = grid(size)
    depth = np.clip(down / scene.horizon, 0, 1)[..., None]
    top, bottom = (
        np.asarray(color, np.float32) for color in (scene.daytime.sky_top, scene.daytime.sky_bottom)
    )
    return np.asarray(top + depth * (bottom - top), np.float32)


def draw_land(image: Array, scene: Scene) -> None:
    """Draw the far hills, the near hills and the water over the sky."""
    size = image.shape[0]
    across, down = grid(size)
    land = np.asarray(scene.daytime.land, np.float32)
    haze = np.asarray(scene.daytime.sky_bottom, np.float32)
    for index, (height, frequency, phase) in enumerate(scene.hills):
        line = scene.horizon + 0.09 * index + height * np.sin(2 * np.pi * (frequency * across + phase))
        nearness = np.clip((down - line) / 0.5, 0, 1)[..., None]
        color = (land if index else 0.7 * land + 0.3 * haze) * (1 - 0.3 * nearness)
        blend(image, np.clip((down - line) * size / 1.5 + 0.5, 0, 1), np.asarray(color, np.float32))
    if scene.has_water:
        depth = ((down - scene.shore) / 0.35)[..., None]
        water = np.asarray(scene.daytime.water, np.float32) * (1.15 - 0.3 * np.clip(depth, 0, 1))
        blend(image, np.clip((down - scene.shore) * size / 1.5 + 0.5, 0, 1), np.asarray(water, np.float32))
