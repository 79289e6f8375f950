import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpaintrt_demo.cases import Case, cut_cases, evaluation_cases, is_free, stroke_cases
from inpaintrt_demo.classifier import crop_of, load_classifier
from inpaintrt_demo.evaluation import (
    Report,
    classifier_accuracy,
    edge_gradient,
    evaluate,
    found_in,
    psnr,
    seam,
    write_report,
)
from inpaintrt_demo.masks import hidden_share
from inpaintrt_demo.painters import Job
from inpaintrt_demo.world import COLORED, draw, random_scene


def other_color(case: Case) -> str:
    return "blue" if case.thing.color == "red" else "red"


def filled(case: Case) -> Image.Image:
    scene = random_scene(case.seed)
    return draw(replace(scene, things=(*scene.things, case.thing)))


def painted_perfectly(case: Case) -> Image.Image:
    """The case's image with the object, and nothing else, under the mask."""
    alone = draw(replace(random_scene(case.seed), things=(case.thing,)))
    return Image.composite(alone, case.image, case.mask)


def test_cases_are_fixed_and_their_places_are_empty() -> None:
    cases = evaluation_cases(14)
    assert [case.seed for case in cases] == [case.seed for case in evaluation_cases(14)]
    assert len({case.thing.kind for case in cases}) == 7
    for case in cases:
        assert is_free(random_scene(case.seed), case.thing)
        assert case.image.tobytes() != filled(case).tobytes()
        outside = np.asarray(case.mask) == 0
        assert (np.asarray(case.image)[outside] == np.asarray(filled(case))[outside]).all()


def test_masks_cut_through_objects_and_leave_part_of_each() -> None:
    for case in cut_cases(7):
        shares = [
            hidden_share(np.asarray(case.mask) > 0, thing.box) for thing in random_scene(case.seed).things
        ]
        assert 0.25 <= max(shares) < 0.6


def test_strokes_cover_most_of_the_place_and_have_ragged_edges() -> None:
    for case, boxed in zip(stroke_cases(7), evaluation_cases(7), strict=True):
        drawn = np.asarray(case.mask) > 0
        assert case.image.tobytes() == boxed.image.tobytes()
        assert hidden_share(drawn, case.thing.box) > 0.8
        assert drawn.any(axis=1).sum() > np.median(drawn.sum(axis=0)[drawn.any(axis=0)])
    assert [case.mask.tobytes() for case in stroke_cases(2)] == [
        case.mask.tobytes() for case in stroke_cases(2)
    ]


def test_the_classifier_finds_objects_under_such_masks() -> None:
    classifier = load_classifier()
    for cases in (cut_cases(35), stroke_cases(35)):
        assert found_in(classifier, [painted_perfectly(case) for case in cases], cases) >= 0.9
        assert found_in(classifier, [case.image for case in cases], cases) <= 0.1


def test_the_classifier_is_right_on_drawn_images() -> None:
    assert classifier_accuracy(load_classifier(), 200) >= 0.95


def test_images_with_the_object_pass_and_images_without_fail() -> None:
    cases, classifier = evaluation_cases(35), load_classifier()
    assert found_in(classifier, [filled(case) for case in cases], cases) >= 0.95
    assert found_in(classifier, [case.image for case in cases], cases) <= 0.05


def test_another_color_fails() -> None:
    cases = [case for case in evaluation_cases(42) if case.thing.kind in COLORED]
    wanted = [replace(case, thing=replace(case.thing, color=other_color(case))) for case in cases]
    assert found_in(load_classifier(), [filled(case) for case in cases], wanted) <= 0.05


def test_an_empty_mask_cannot_be_classified() -> None:
    with pytest.raises(ValueError, match="mask is empty"):
        crop_of(Image.new("RGB", (32, 32)), Image.new("L", (32, 32)))


def test_psnr_of_equal_and_of_opposite_images() -> None:
    black, white = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), (255, 255, 255))
    assert psnr(black, black) == math.inf
    assert psnr(black, white) == 0
    assert psnr(Image.new("RGB", (8, 8), (1, 1, 1)), black) == pytest.approx(48.13, abs=0.01)


def half_mask() -> Image.Image:
    return Image.fromarray(np.repeat(np.array([[0, 0, 255, 255]], np.uint8), 4, axis=0))


def test_the_step_across_an_edge_is_measured_where_the_mask_changes() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 2:] = 30
    assert edge_gradient(Image.fromarray(pixels), half_mask()) == 30
    assert edge_gradient(Image.fromarray(pixels.transpose(1, 0, 2).copy()), half_mask()) == 0


def test_a_mask_over_everything_has_no_seam() -> None:
    with pytest.raises(ValueError, match="no edge"):
        edge_gradient(Image.new("RGB", (4, 4)), Image.new("L", (4, 4), 255))


def test_a_seam_is_relative_to_the_original() -> None:
    ramp = Image.fromarray(np.tile(np.arange(0, 80, 20, dtype=np.uint8)[None, :, None], (4, 1, 3)))
    stepped = np.asarray(ramp).copy()
    stepped[:, 2:] += 20
    assert seam([ramp], [ramp], [half_mask()]) == 1
    assert seam([Image.fromarray(stepped)], [ramp], [half_mask()]) == 2


class Idle:
    """A painter that leaves every image as it is."""

    name = "idle"

    def paint(self, jobs: Sequence[Job], guidance: float, steps: int) -> list[Image.Image]:
        """Return the images unchanged."""
        assert steps == 20
        assert guidance in (1.0, 7.5)
        return [job.image for job in jobs]


def idle_report() -> Report:
    return evaluate(Idle(), load_classifier(), None, 7, "none")


def test_a_painter_that_paints_nothing_finds_nothing_and_leaves_no_seam() -> None:
    report = idle_report()
    assert (report.found, report.found_without_guidance, report.found_when_negated) == (0, 0, 0)
    assert report.seam == 1
    assert set(report.found_by_kind.values()) == {0}
    assert report.found_under_strokes == 0
    assert report.vae_psnr is report.seam_after_vae is None


def test_a_report_is_written_as_json(tmp_path: Path) -> None:
    write_report(idle_report(), tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["painter"] == "idle"
    assert read["versions"]["torch"]
