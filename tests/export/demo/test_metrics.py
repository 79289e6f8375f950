import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpaintrt_export.demo.cases import Case, evaluation_cases, is_free
from inpaintrt_export.demo.evaluation import Report, evaluate, found_in, judge_accuracy, write_report
from inpaintrt_export.demo.judge import crop_of, load_judge
from inpaintrt_export.demo.metrics import edge_gradient, psnr, seam
from inpaintrt_export.demo.painters import Job
from inpaintrt_export.demo.things import COLOURED
from inpaintrt_export.demo.world import draw, random_scene


def other_colour(case: Case) -> str:
    return "blue" if case.thing.colour == "red" else "red"


def filled(case: Case) -> Image.Image:
    scene = random_scene(case.seed)
    return draw(replace(scene, things=(*scene.things, case.thing)))


def test_cases_are_fixed_and_their_places_are_empty() -> None:
    cases = evaluation_cases(14)
    assert [case.seed for case in cases] == [case.seed for case in evaluation_cases(14)]
    assert len({case.thing.kind for case in cases}) == 7
    for case in cases:
        assert is_free(random_scene(case.seed), case.thing)
        assert case.picture.tobytes() != filled(case).tobytes()
        outside = np.asarray(case.mask) == 0
        assert (np.asarray(case.picture)[outside] == np.asarray(filled(case))[outside]).all()


def test_the_judge_is_right_on_drawn_pictures() -> None:
    assert judge_accuracy(load_judge(), 200) >= 0.95


def test_pictures_with_the_object_pass_and_pictures_without_fail() -> None:
    cases, judge = evaluation_cases(35), load_judge()
    assert found_in(judge, [filled(case) for case in cases], cases) >= 0.95
    assert found_in(judge, [case.picture for case in cases], cases) <= 0.05


def test_another_colour_fails() -> None:
    cases = [case for case in evaluation_cases(42) if case.thing.kind in COLOURED]
    wanted = [replace(case, thing=replace(case.thing, colour=other_colour(case))) for case in cases]
    assert found_in(load_judge(), [filled(case) for case in cases], wanted) <= 0.05


def test_an_empty_mask_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="mask is empty"):
        crop_of(Image.new("RGB", (32, 32)), Image.new("L", (32, 32)))


def test_psnr_of_equal_and_of_opposite_pictures() -> None:
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
    """A painter that leaves every picture as it is."""

    name = "idle"

    def paint(self, jobs: Sequence[Job], guidance: float, steps: int) -> list[Image.Image]:
        """Return the pictures unchanged."""
        assert steps == 20
        assert guidance in (1.0, 7.5)
        return [job.picture for job in jobs]


def idle_report() -> Report:
    return evaluate(Idle(), load_judge(), None, 7, "none")


def test_a_painter_that_paints_nothing_finds_nothing_and_leaves_no_seam() -> None:
    report = idle_report()
    assert (report.found, report.found_without_guidance, report.found_when_negated) == (0, 0, 0)
    assert report.seam == 1
    assert set(report.found_by_kind.values()) == {0}
    assert report.vae_psnr is report.seam_after_vae is None


def test_a_report_is_written_as_json(tmp_path: Path) -> None:
    write_report(idle_report(), tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["painter"] == "idle"
    assert read["versions"]["torch"]
