import numpy as np

from inpaintrt_demo.masks import EMPTY_PLACES, box_mask, caption, hidden_share, random_masked, zone_of
from inpaintrt_demo.world import Scene, random_scene

SIZE = 128


def scene_with_things() -> Scene:
    return next(scene for scene in map(random_scene, range(100)) if len(scene.things) >= 2)


def test_a_mask_is_true_where_its_object_is() -> None:
    scene = scene_with_things()
    thing = scene.things[0]
    mask = box_mask(thing.box, 1.3, SIZE)
    assert hidden_share(mask, thing.box) == 1
    assert 0 < mask.mean() < 0.5


def test_a_mask_around_an_object_is_captioned_with_it() -> None:
    scene = scene_with_things()
    for seed, thing in enumerate(scene.things):
        text = caption(np.random.default_rng(seed), scene, box_mask(thing.box, 1.05, SIZE))
        assert thing.kind in text


def test_a_mask_over_half_an_object_has_no_caption() -> None:
    scene = scene_with_things()
    left, top, right, bottom = scene.things[0].box
    mask = box_mask((left, top, right - (right - left) * 0.6, bottom), 1, SIZE)
    assert caption(np.random.default_rng(0), scene, mask) == ""


def test_a_mask_over_nothing_is_captioned_as_an_empty_place() -> None:
    scene = Scene(random_scene(0).daytime, 0.5, 0.7, ((0.02, 1.0, 0.0), (0.02, 1.0, 0.0)), ())
    places = [(0.1, 0.1, 0.3, 0.3), (0.1, 0.55, 0.3, 0.65), (0.1, 0.8, 0.3, 0.9)]
    masks = [box_mask(box, 1, SIZE) for box in places]
    assert [zone_of(scene, mask) for mask in masks] == ["sky", "land", "water"]
    assert [caption(np.random.default_rng(0), scene, mask) for mask in masks] == list(EMPTY_PLACES.values())


def test_random_masks_are_the_same_for_the_same_seed() -> None:
    scene = scene_with_things()
    first, second = (random_masked(np.random.default_rng(3), scene, SIZE) for _ in range(2))
    assert first.caption == second.caption
    assert np.array_equal(first.mask, second.mask)


def test_a_mask_over_everything_has_the_scene_as_caption() -> None:
    scene = scene_with_things()
    drawn = [random_masked(np.random.default_rng(seed), scene, SIZE) for seed in range(200)]
    whole = [masked for masked in drawn if masked.mask.all()]
    assert whole
    assert all(masked.caption == scene.caption for masked in whole)
    assert all(masked.mask.any() for masked in drawn)
