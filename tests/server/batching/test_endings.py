"""Every request ends: finished, failed, cancelled or late, and its slot is free."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from inpaintrt.errors import ImageError, InpaintError, LatentsError, ParameterError, PromptError
from inpaintrt.families import SD
from inpaintrt.images import Prepared
from inpaintrt.loading import LoadedBundle
from inpaintrt.request import Request, make_request
from inpaintrt_server.batching import (
    BatchingService,
    BatchingSettings,
    Event,
    Finished,
    Job,
    Started,
    Stepped,
)
from inpaintrt_server.errors import DeadlineError, DrainingError
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in, paint_alone, with_engine
from server.conftest import wait_until


def _at_step(index: int, act: Callable[[], object]) -> Callable[[Event], None]:
    def react(event: Event) -> None:
        if isinstance(event, Stepped) and event.index == index:
            act()

    return react


def _sleep_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)


def test_events_come_in_order_with_where_the_time_went(make_service: MakeService) -> None:
    ear = Ear()
    hand_in(make_service(), ask(num_inference_steps=6), ear)
    finished = ear.finished()
    assert ear.events == [Started(6), *[Stepped(index, 6) for index in range(1, 7)], finished]
    timings = finished.timings
    parts = (timings.queue, timings.prepare, timings.encode, timings.denoise, timings.decode, timings.paste)
    assert all(part > 0 for part in parts[1:])
    assert sum(parts) <= timings.total
    assert timings.steps == 6


def test_warnings_and_seeds_come_along(make_service: MakeService) -> None:
    ear = Ear()
    hand_in(make_service(), ask("a red balloon " * 60, seed=[4, 2], num_images_per_prompt=2), ear)
    finished = ear.finished()
    assert finished.seeds == (4, 2)
    assert "longer than" in finished.warnings[0]


def test_a_cancelled_request_frees_its_slot_before_the_next_step(
    demo: LoadedBundle, make_service: MakeService
) -> None:
    calls: list[int] = []
    service = make_service(
        with_engine(demo, "denoiser", lambda inputs: calls.append(len(inputs["row_slot"])))
    )
    jobs: list[Job] = []
    ear = Ear(_at_step(3, lambda: jobs[0].cancel()))
    jobs.append(hand_in(service, ask(num_inference_steps=50), ear, job_id="one"))
    wait_until(lambda: service.snapshot.outstanding == 0)
    wait_until(lambda: service.snapshot.active == 0)
    assert calls[1:] == [2, 2, 2]
    assert ear.steps == [1, 2, 3]
    assert jobs[0].id == "one"
    jobs[0].cancel()  # once more does nothing


def test_a_waiting_request_can_be_cancelled(demo: LoadedBundle) -> None:
    service = BatchingService(demo, BatchingSettings(slots=1))
    first, second = Ear(), Ear()
    hand_in(service, ask(), first)
    hand_in(service, ask(), second).cancel()
    with service:
        first.finished()
        assert service.wait_drained(30)
    assert second.events == []


def test_a_request_whose_time_is_over_while_it_waits_is_given_up(make_service: MakeService) -> None:
    service = make_service()
    ear = Ear()
    hand_in(service, ask(), ear, deadline=time.monotonic() - 1)
    error = ear.error()
    assert isinstance(error, DeadlineError)
    assert "still waiting" in str(error)


def test_a_request_whose_time_is_over_while_it_runs_frees_its_slot(make_service: MakeService) -> None:
    service = make_service(slots=1, workers=1)
    wait_until(lambda: service.snapshot.ready)
    next_one = Ear()
    deadline = time.monotonic() + 3.0
    late = Ear(_at_step(2, lambda: _sleep_until(deadline)))
    hand_in(service, ask(num_inference_steps=400), late, deadline=deadline)
    hand_in(service, ask(), next_one)
    error = late.error()
    assert isinstance(error, DeadlineError)
    assert "2 of 400 steps done" in str(error)
    next_one.finished()


def test_a_deadline_wakes_a_service_that_has_nothing_else_to_do(
    demo: LoadedBundle, make_service: MakeService
) -> None:
    go_on = threading.Event()
    service = make_service(workers=1)
    slow = Ear(lambda event: isinstance(event, Finished) and go_on.wait(60))  # keeps the only worker
    hand_in(service, ask(), slow)
    wait_until(lambda: any(isinstance(event, Finished) for event in slow.events))
    ear = Ear()
    hand_in(service, ask(), ear, deadline=time.monotonic() + 0.05)
    assert isinstance(ear.error(), DeadlineError)
    go_on.set()


def test_images_of_a_cancelled_request_are_not_prepared(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    service = make_service(workers=1)
    slow = Ear(lambda event: isinstance(event, Finished) and go_on.wait(60))  # keeps the only worker
    hand_in(service, ask(), slow)
    wait_until(lambda: any(isinstance(event, Finished) for event in slow.events))
    prepare, prepared = service.stages.prepare, list[int]()

    def watch(request: Request) -> list[Prepared]:
        prepared.append(request.seeds[0])
        return prepare(request)

    monkeypatch.setattr(service.stages, "prepare", watch)
    for seed in range(1, 20):
        hand_in(service, ask(seed=seed), Ear()).cancel()
    ear = Ear()
    hand_in(service, ask(seed=20), ear)
    go_on.set()
    ear.finished()
    assert prepared == [20]


def test_a_request_in_time_is_not_late(make_service: MakeService) -> None:
    ear = Ear()
    hand_in(make_service(), ask(), ear, deadline=time.monotonic() + 60)
    ear.finished()


def test_what_is_wrong_with_an_image_is_told(make_service: MakeService) -> None:
    ear = Ear()
    request = make_request("a tree", b"no image", Image.new("L", (64, 64), 255), {}, SD)
    hand_in(make_service(), request, ear)
    assert isinstance(ear.error(), ImageError)


def test_what_is_wrong_with_latents_is_told_and_is_no_fault_of_the_engine(make_service: MakeService) -> None:
    service = make_service(faults=1)
    ear, other = Ear(), Ear()
    hand_in(service, ask(latents=np.zeros((1, 4, 9, 9), np.float32)), ear)
    assert isinstance(ear.error(), LatentsError)
    hand_in(service, ask("x" * 30_000), other)
    assert isinstance(other.error(), PromptError)
    assert not service.snapshot.engine_lost


def test_a_request_that_cannot_be_served_leaves_its_permit(make_service: MakeService) -> None:
    service = make_service()
    permit = service.admit()
    for options in ({"num_inference_steps": 0}, {"output_type": "latent"}):
        with pytest.raises(ParameterError):
            service.submit(permit, ask(**options), Ear(), job_id="refused")
    ear = Ear()
    service.submit(permit, ask(), ear, job_id="served")
    ear.finished()
    with pytest.raises(InpaintError, match="good for one request"):
        service.submit(permit, ask(), Ear(), job_id="twice")


def test_a_mask_with_nothing_to_paint_gives_the_image_back(make_service: MakeService) -> None:
    service = make_service()
    image = Image.new("RGB", (64, 64), "green")
    ear = Ear()
    hand_in(service, make_request("a tree", image, Image.new("L", (64, 64), 0), {"seed": 1}, SD), ear)
    finished = ear.finished()
    assert finished.images[0].tobytes() == image.tobytes()
    assert "nothing to repaint" in finished.warnings[0]
    assert ear.events == [finished]


def test_a_listener_that_raises_only_harms_itself(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(slots=2)
    calls: list[Event] = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise ValueError("broken")

    ear = Ear()
    service.submit(service.admit(), ask(num_inference_steps=50), broken, job_id="broken")
    hand_in(service, ask(), ear)
    ear.finished()
    wait_until(lambda: service.snapshot.outstanding == 0)
    assert calls == [Started(50)]
    assert "a listener raised" in caplog.text


def test_draining_finishes_what_is_there_and_takes_nothing_new(make_service: MakeService) -> None:
    service = make_service(slots=1)
    ears = [Ear() for _ in range(3)]
    for ear in ears:
        hand_in(service, ask(), ear)
    permit = service.admit()
    service.drain()
    with pytest.raises(DrainingError):
        service.admit()
    assert service.snapshot.draining
    assert not service.snapshot.ready
    assert not service.wait_drained(0.01)
    permit.release()
    assert service.wait_drained(60)
    for ear in ears:
        ear.finished()


def test_closing_ends_everything_at_once_and_leaves_no_thread(demo: LoadedBundle) -> None:
    before = set(threading.enumerate())
    service = BatchingService(demo, BatchingSettings(slots=1, workers=1))
    begun = threading.Event()
    running = Ear(lambda event: begun.set())
    waiting = Ear()
    service.start()
    hand_in(service, ask(num_inference_steps=900), running)
    hand_in(service, ask(), waiting)
    spare = service.admit()
    assert begun.wait(60)
    service.close()
    assert isinstance(running.error(), DrainingError)
    assert isinstance(waiting.error(), DrainingError)
    assert set(threading.enumerate()) == before
    too_late = Ear()
    service.submit(spare, ask(), too_late, job_id="late")
    assert isinstance(too_late.error(), DrainingError)
    service.close()
    assert paint_alone(demo, ask())  # the engines stay open


def test_a_service_that_never_ran_can_be_closed(demo: LoadedBundle) -> None:
    service = BatchingService(demo, BatchingSettings())
    ear = Ear()
    hand_in(service, ask(), ear)
    service.close()
    assert isinstance(ear.error(), DrainingError)
