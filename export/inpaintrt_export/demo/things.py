"""What stands in the drawn world: the parts of every object."""

from collections.abc import Callable

from inpaintrt_export.demo.drawing import Colour, Difference, Ellipse, Part, Polygon, Union, rectangle

COLOURS: dict[str, Colour] = {
    "red": (0.90, 0.10, 0.10),
    "yellow": (0.98, 0.82, 0.08),
    "green": (0.05, 0.62, 0.25),
    "blue": (0.06, 0.28, 1.00),
    "purple": (0.60, 0.12, 0.75),
}
WOOD: Colour = (0.42, 0.26, 0.13)
WHITE: Colour = (0.97, 0.97, 0.95)


def sun_parts(_: Colour) -> list[Part]:
    """Return a warm disc with a brighter middle."""
    return [
        Part(Ellipse((0, 0), (0.92, 0.92)), (1.0, 0.72, 0.12)),
        Part(Ellipse((0, 0), (0.68, 0.68)), (1.0, 0.93, 0.45)),
    ]


def moon_parts(_: Colour) -> list[Part]:
    """Return a crescent, open to the right."""
    crescent = Difference(Ellipse((0, 0), (0.92, 0.92)), Ellipse((0.5, -0.15), (0.75, 0.75)))
    return [Part(crescent, (1.0, 0.98, 0.82))]


def cloud_parts(_: Colour) -> list[Part]:
    """Return four white puffs, grey below."""
    puffs = (((-0.52, 0.18), 0.40), ((-0.08, -0.16), 0.52), ((0.48, 0.12), 0.44), ((0.0, 0.28), 0.40))
    body = Union(tuple(Ellipse(centre, (radius, radius * 0.85)) for centre, radius in puffs))
    return [Part(body, (1.0, 1.0, 1.0), (0.0, 0.28))]


def tree_parts(_: Colour) -> list[Part]:
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


def house_parts(colour: Colour) -> list[Part]:
    """Return walls of the colour, a dark roof, a door and a window."""
    return [
        Part(rectangle(-0.74, -0.2, 0.74, 0.96), colour, (0.2, 0.0)),
        Part(Polygon(((0, -0.96), (0.95, -0.14), (-0.95, -0.14))), (0.36, 0.16, 0.12), (0.25, 0.0)),
        Part(rectangle(-0.5, 0.22, -0.06, 0.96), (0.25, 0.14, 0.08)),
        Part(rectangle(0.14, 0.06, 0.54, 0.46), (1.0, 0.95, 0.7)),
    ]


def balloon_parts(colour: Colour) -> list[Part]:
    """Return an envelope of the colour with a highlight, and a basket on ropes."""
    return [
        Part(Polygon(((-0.5, 0.1), (-0.42, 0.1), (-0.12, 0.7), (-0.2, 0.7))), WOOD),
        Part(Polygon(((0.42, 0.1), (0.5, 0.1), (0.2, 0.7), (0.12, 0.7))), WOOD),
        Part(Ellipse((0, -0.26), (0.7, 0.7)), colour, (0.35, 0.15)),
        Part(Ellipse((-0.26, -0.52), (0.2, 0.2)), tuple_mix(colour, 0.35)),
        Part(rectangle(-0.24, 0.64, 0.24, 0.96), WOOD, (0.3, 0.0)),
    ]


def boat_parts(colour: Colour) -> list[Part]:
    """Return a hull of the colour below a white sail."""
    return [
        Part(rectangle(-0.06, -0.9, 0.04, 0.4), WOOD),
        Part(Polygon(((0.08, -0.92), (0.78, 0.26), (0.08, 0.26))), WHITE, (0.15, 0.1)),
        Part(Polygon(((-0.1, -0.7), (-0.1, 0.26), (-0.6, 0.26))), WHITE, (0.15, 0.1)),
        Part(Polygon(((-0.95, 0.36), (0.95, 0.36), (0.62, 0.94), (-0.62, 0.94))), colour, (0.2, 0.25)),
    ]


def tuple_mix(colour: Colour, white: float) -> Colour:
    """Return the colour with a share of white mixed in."""
    red, green, blue = (value + (1 - value) * white for value in colour)
    return red, green, blue


PARTS: dict[str, Callable[[Colour], list[Part]]] = {
    "sun": sun_parts,
    "moon": moon_parts,
    "cloud": cloud_parts,
    "tree": tree_parts,
    "house": house_parts,
    "balloon": balloon_parts,
    "boat": boat_parts,
}
COLOURED = frozenset({"house", "balloon", "boat"})
