"""Previews of images that are not finished."""

from typing import Any

import pytest

from inpaintrt import InpaintPipeline
from inpaintrt.loading import LoadedBundle
from inpaintrt_server.batching import Event, Finished, Stepped
from runtime.image_tools import largest_difference
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in


def test_previews_come_in_order_at_the_steps_asked_for_and_are_the_pipelines(
    demo: LoadedBundle, make_service: MakeService
) -> None:
    request = ask(num_inference_steps=8, num_images_per_prompt=2)
    ear = Ear()
    hand_in(make_service(slots=2), request, ear, preview_steps={2, 5, 8, 99})
    finished = ear.finished()
    steps = [event for event in ear.events if isinstance(event, Stepped)]
    assert [step.index for step in steps] == list(range(1, 9))
    assert [step.index for step in steps if step.previews] == [2, 5]
    image: Any = request.images[0]
    stream = InpaintPipeline(demo).stream(str(request.prompts[0]), image, request.masks[0], **request.options)
    for event in stream:
        if event.index in (2, 5):
            for one, other in zip(steps[event.index - 1].previews, event.preview(), strict=True):
                assert largest_difference(one, other) <= 1
    assert largest_difference(steps[1].previews[0], finished.images[0]) > 1


def test_a_result_that_has_not_begun_is_shown_as_the_image(make_service: MakeService) -> None:
    request = ask(num_inference_steps=6, num_images_per_prompt=3)
    ear = Ear()
    hand_in(make_service(slots=1), request, ear, preview_steps=range(1, 6))
    images = ear.finished().images
    steps = {event.index: event for event in ear.events if isinstance(event, Stepped)}
    begun, *others = steps[1].previews
    image = request.images[0]
    assert begun.tobytes() != image.tobytes()  # type: ignore[union-attr]
    assert all(other.tobytes() == image.tobytes() for other in others)  # type: ignore[union-attr]
    assert steps[5].previews[0].tobytes() == images[0].tobytes()


def test_previews_of_one_request_do_not_hold_up_the_steps_of_another(make_service: MakeService) -> None:
    service = make_service(slots=2)
    curious, other = Ear(), Ear()
    hand_in(service, ask(num_inference_steps=30), curious, preview_steps=range(30))
    hand_in(service, ask(num_inference_steps=8, seed=1), other)
    other.finished()
    curious.finished()
    assert len([event for event in curious.events if isinstance(event, Stepped) and event.previews]) == 29


def test_previews_of_a_cancelled_request_are_dropped(make_service: MakeService) -> None:
    service = make_service(slots=1, workers=1)

    def give_up(event: Event) -> None:
        if isinstance(event, Stepped) and event.index == 4:
            job.cancel()

    ear = Ear(give_up)
    job = hand_in(service, ask(num_inference_steps=50), ear, preview_steps=range(50))
    after = Ear()
    hand_in(service, ask(), after)
    assert isinstance(after.last(), Finished)
    assert ear.steps[-1] <= 4


@pytest.mark.parametrize(
    ("steps", "count", "expected"), [(8, 0, []), (8, 1, [4]), (9, 2, [3, 6]), (3, 10, [1, 2]), (1, 3, [])]
)
def test_a_number_of_previews_is_spread_over_the_run(
    make_service: MakeService, steps: int, count: int, expected: list[int]
) -> None:
    ear = Ear()
    hand_in(make_service(slots=1), ask(num_inference_steps=steps), ear, preview_steps=count)
    ear.finished()
    assert [event.index for event in ear.events if isinstance(event, Stepped) and event.previews] == expected
