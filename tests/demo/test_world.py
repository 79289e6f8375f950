from dataclasses import replace

import numpy as np
import pytest

from inpaintrt_demo.drawing import Difference, Ellipse, Polygon, Union, grid, rectangle
from inpaintrt_demo.world import (
    COLOR_NAMES,
    COLORED,
    KINDS,
    PARTS,
    Scene,
    Thing,
    draw,
    draw_array,
    overlap,
    random_scene,
    thing_of_kind,
)

SEEDS = range(60)


def scene_with(kind: str, seed: int) -> tuple[Scene, Thing]:
    scene = next(scene for scene in map(random_scene, range(seed, seed + 50)) if scene.has_water)
    thing = thing_of_kind(np.random.default_rng(seed), scene, kind)
    return replace(scene, things=(thing,)), thing


def test_a_seed_draws_the_same_scene_again() -> None:
    assert random_scene(5) == random_scene(5)
    assert draw(random_scene(5)).tobytes() == draw(random_scene(5)).tobytes()


def test_other_seeds_draw_other_scenes() -> None:
    assert len({draw(random_scene(seed)).tobytes() for seed in range(20)}) == 20


def test_objects_do_not_overlap_and_stay_inside() -> None:
    for scene in map(random_scene, SEEDS):
        for index, thing in enumerate(scene.things):
            assert min(thing.box[:2]) >= 0
            assert max(thing.box[2:]) <= 1
            assert not any(overlap(thing.box, other.box) for other in scene.things[:index])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 100, 200])
def test_an_object_changes_its_box_and_nothing_else(kind: str, seed: int) -> None:
    scene, thing = scene_with(kind, seed)
    change = np.abs(draw_array(scene) - draw_array(replace(scene, things=()))).max(axis=2)
    left, top, right, bottom = (round(edge * 128) for edge in thing.box)
    inside = change[top:bottom, left:right]
    assert (inside > 0.05).mean() > 0.15
    inside[:] = 0
    assert change.max() < 0.1  # the soft edge of a shape may reach a pixel over the box


@pytest.mark.parametrize("kind", sorted(COLORED))
@pytest.mark.parametrize("color", COLOR_NAMES)
def test_a_colored_object_shows_its_color(kind: str, color: str) -> None:
    scene, thing = scene_with(kind, 300)
    drawn = draw_array(replace(scene, things=(replace(thing, color=color),)))
    other = draw_array(replace(scene, things=(replace(thing, color="red" if color != "red" else "blue"),)))
    changed = np.abs(drawn - other).max(axis=2) > 0.2
    red, green, blue = drawn[changed].mean(axis=0)
    order = {
        "red": red > 2 * max(green, blue),
        "yellow": min(red, green) > 2 * blue,
        "green": green > 1.3 * max(red, blue),
        "blue": blue > 1.3 * max(red, green),
        "purple": min(red, blue) > 1.5 * green,
    }
    assert order[color]


def test_only_objects_that_come_in_colors_have_one() -> None:
    things = [thing for scene in map(random_scene, SEEDS) for thing in scene.things]
    assert {thing.kind for thing in things} == set(PARTS)
    assert all((thing.color is not None) == (thing.kind in COLORED) for thing in things)


def test_the_caption_names_every_object() -> None:
    for scene in map(random_scene, SEEDS):
        assert all(f"a {thing.name}" in scene.caption for thing in scene.things)
        assert scene.caption.endswith(scene.daytime.phrase)


def test_day_is_brighter_than_night() -> None:
    brightness: dict[str, list[float]] = {}
    for scene in map(random_scene, SEEDS):
        brightness.setdefault(scene.daytime.phrase, []).append(float(draw_array(scene).mean()))
    assert min(brightness["by day"]) > max(brightness["at night"])


def test_distances_are_negative_inside_and_positive_outside() -> None:
    across, down = grid(9)
    disc = Ellipse((0.5, 0.5), (0.3, 0.3))
    square = rectangle(0.2, 0.2, 0.8, 0.8)
    triangle = Polygon(((0.5, 0.1), (0.9, 0.9), (0.1, 0.9)))
    for shape in (disc, square, triangle):
        distance = shape.distance(across, down)
        assert distance[4, 4] < 0
        assert distance[0, 0] > 0
    assert (Union((disc, square)).distance(across, down) <= square.distance(across, down)).all()
    assert Difference(square, disc).distance(across, down)[4, 4] > 0
