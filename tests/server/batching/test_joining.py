"""Who shares a step with whom, and when requests join."""

from collections.abc import Mapping
from itertools import pairwise

import pytest

from inpaintrt.backends import Array
from inpaintrt.errors import ParameterError
from inpaintrt.loading import LoadedBundle
from inpaintrt_server.batching import BatchingService, BatchingSettings, Event, Stepped
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in, with_engine


class Steps:
    """The steps of an engine: rows, and height and width of the latents."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.sizes: list[tuple[int, ...]] = []

    def __call__(self, inputs: Mapping[str, Array]) -> None:
        self.rows.append(len(inputs["row_slot"]))
        self.sizes.append(inputs["state"].shape[-2:])


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def watched(demo: LoadedBundle, steps: Steps) -> LoadedBundle:
    return with_engine(demo, "denoiser", steps)


def _serve(loaded: LoadedBundle, counts: list[int], **settings: object) -> list[Ear]:
    """Hand in requests of so many steps before the service starts, which one worker prepares in order."""
    service = BatchingService(loaded, BatchingSettings(workers=1, **settings))  # type: ignore[arg-type]
    ears = [Ear() for _ in counts]
    for seed, (count, ear) in enumerate(zip(counts, ears, strict=True)):
        hand_in(service, ask(num_inference_steps=count, seed=seed), ear)
    with service:
        for ear in ears:
            ear.finished()
    return ears


def test_a_request_joins_between_two_steps_of_another(
    watched: LoadedBundle, steps: Steps, make_service: MakeService
) -> None:
    service = make_service(watched, slots=2)
    late = Ear()

    def bring_another(event: Event) -> None:
        if isinstance(event, Stepped) and event.index == 3:
            hand_in(service, ask(num_inference_steps=4, seed=1), late)

    early = Ear(bring_another)
    hand_in(service, ask(num_inference_steps=40), early)
    late.finished()
    assert not early.over
    early.finished()
    assert early.steps == list(range(1, 41))
    assert steps.rows.count(4) == 4
    assert steps.rows.count(2) == 36
    assert service.snapshot.rows == 4 * 4 + 36 * 2


def test_all_wait_for_a_whole_batch(watched: LoadedBundle, steps: Steps) -> None:
    _serve(watched, [4, 9, 5, 5], slots=2, mode="whole-batches")
    assert steps.rows[1:] == [4] * 4 + [2] * 5 + [4] * 5


def test_continuous_batching_leaves_no_slot_empty(watched: LoadedBundle, steps: Steps) -> None:
    _serve(watched, [40, 4, 5, 6], slots=2)
    assert len(steps.rows) == 1 + 40
    assert steps.rows.count(4) == 4 + 5 + 6


def test_one_at_a_time(watched: LoadedBundle, steps: Steps) -> None:
    _serve(watched, [4, 9, 5], slots=2, mode="one-at-a-time")
    assert steps.rows[1:] == [2] * 18


def test_more_results_than_slots_take_places_as_they_come_free(
    watched: LoadedBundle, steps: Steps, make_service: MakeService
) -> None:
    for mode in ("continuous", "whole-batches", "one-at-a-time"):
        steps.rows.clear()
        ear = Ear()
        service = make_service(watched, slots=2, mode=mode)
        hand_in(service, ask(num_images_per_prompt=5, num_inference_steps=3), ear)
        assert len(ear.finished().images) == 5
        assert sorted(steps.rows[1:]) == [2] * 3 + [4] * 6
        assert ear.steps == [1, 2, 3]


def test_a_request_of_many_results_does_not_keep_others_out(demo: LoadedBundle) -> None:
    service = BatchingService(demo, BatchingSettings(slots=3))
    order: list[str] = []
    many, one, two = (Ear(lambda event, name=name: order.append(name)) for name in ("many", "one", "two"))  # type: ignore[misc]
    hand_in(service, ask(num_images_per_prompt=12, num_inference_steps=5), many)
    hand_in(service, ask(num_inference_steps=5), one)
    hand_in(service, ask(num_inference_steps=5), two)
    with service:
        for ear in (many, one, two):
            ear.finished()
    assert order[-1] == "many"


def test_sizes_share_the_engine_in_proportion_to_what_they_cost(watched: LoadedBundle, steps: Steps) -> None:
    service = BatchingService(watched, BatchingSettings(slots=4, workers=1))
    ears = [Ear() for _ in range(3)]
    hand_in(service, ask(num_inference_steps=40, seed=1), ears[0])
    hand_in(service, ask(num_inference_steps=10, size=(128, 128)), ears[1])
    hand_in(service, ask(num_inference_steps=40, seed=2), ears[2])
    with service:
        for ear in ears:
            ear.finished()
    large = [index for index, size in enumerate(steps.sizes[1:]) if size == (16, 16)]
    gaps = [after - before for before, after in pairwise(large)]
    assert gaps[:5] == [5] * 5  # one large step, then four steps at a quarter of the size


def test_prompts_of_several_windows_form_a_group_of_their_own(
    watched: LoadedBundle, steps: Steps, make_service: MakeService
) -> None:
    service = make_service(watched, slots=2)
    ears = Ear(), Ear()
    hand_in(service, ask(num_inference_steps=6), ears[0])
    hand_in(service, ask("a tree " * 60, num_inference_steps=6, long_prompts="windows"), ears[1])
    for ear in ears:
        ear.finished()
    assert steps.rows[1:] == [2] * 12


def test_rows_are_padded_to_buckets(watched: LoadedBundle, steps: Steps) -> None:
    _serve(watched, [4, 6, 6], slots=3, row_buckets=(2, 5, 8))
    assert set(steps.rows) == {2, 5, 8}


def test_a_request_waits_while_the_largest_bucket_is_full(watched: LoadedBundle, steps: Steps) -> None:
    for mode in ("continuous", "whole-batches"):
        steps.rows.clear()
        _serve(watched, [4, 6, 5], slots=3, row_buckets=(2, 4), mode=mode)
        assert max(steps.rows) == 4


def test_a_request_that_no_step_can_hold_is_refused(make_service: MakeService) -> None:
    service = make_service(slots=2, row_buckets=(1, 2))
    refused, served = Ear(), Ear()
    hand_in(service, ask(negative_prompt="red", negative_mode="symmetric"), refused)
    hand_in(service, ask(), served)
    error = refused.error()
    assert isinstance(error, ParameterError)
    assert "at most 2" in str(error)
    served.finished()
