"""Places in the bounded queue."""

import time

import pytest

from inpaintrt.errors import InpaintError, ParameterError
from inpaintrt_server.batching import BatchingService, BatchingSettings, Silent
from inpaintrt_server.batching.admission import Admission, Place
from inpaintrt_server.batching.observing import Refusal
from inpaintrt_server.errors import DrainingError, EngineLostError, QueueFullError
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in


class Refusals(Silent):
    def __init__(self) -> None:
        self.heard: list[Refusal] = []

    def refused(self, reason: Refusal) -> None:
        self.heard.append(reason)


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture
def admission(refusals: Refusals) -> Admission:
    return Admission(2, refusals)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes when the test says so."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def _serve(place: Place) -> None:
    place.use()
    place.end()


def test_places_are_bounded_and_come_back(admission: Admission, refusals: Refusals) -> None:
    places = [admission.admit(), admission.admit()]
    with pytest.raises(QueueFullError) as refusal:
        admission.admit()
    assert refusal.value.received == "2 requests"
    assert refusal.value.retry_after >= 1
    places[0].release()
    places[0].release()
    assert admission.outstanding == 1
    admission.admit()
    assert refusals.heard == ["queue_full"]


def test_a_used_place_is_free_at_the_end_only(admission: Admission) -> None:
    place = admission.admit()
    place.use()
    place.release()
    assert admission.outstanding == 1
    place.end()
    place.end()
    assert admission.outstanding == 0
    with pytest.raises(InpaintError, match="good for one request"):
        place.use()


def test_the_wait_that_is_advised_follows_from_the_throughput(clock: list[float]) -> None:
    admission = Admission(2, Silent())
    places = [admission.admit(), admission.admit()]
    for _ in range(50):  # one request every four seconds
        clock[0] += 4
        _serve(places.pop(0))
        places.append(admission.admit())
    waits = []
    for _ in range(3):
        with pytest.raises(QueueFullError) as refusal:
            admission.admit()
        waits.append(refusal.value.retry_after)
    assert waits == pytest.approx([4, 8, 12])  # each waits for a place of its own
    assert "try again in 12 s" in str(refusal.value)


def test_idleness_does_not_count_as_slowness(clock: list[float]) -> None:
    admission = Admission(1, Silent())
    for _ in range(20):
        place = admission.admit()
        clock[0] += 2
        _serve(place)
        clock[0] += 1000
    admission.admit()
    with pytest.raises(QueueFullError) as refusal:
        admission.admit()
    assert refusal.value.retry_after == pytest.approx(2)


def test_the_wait_that_is_advised_is_bounded(clock: list[float]) -> None:
    admission = Admission(1, Silent())
    place = admission.admit()
    clock[0] += 5000
    _serve(place)
    admission.admit()
    with pytest.raises(QueueFullError) as refusal:
        admission.admit()
    assert refusal.value.retry_after == 120


def test_nobody_is_let_in_while_draining_or_without_engine(admission: Admission, refusals: Refusals) -> None:
    place = admission.admit()
    admission.drain()
    with pytest.raises(DrainingError):
        admission.admit()
    assert not admission.wait_empty(0.01)
    place.release()
    assert admission.wait_empty(0.01)
    lost = EngineLostError("gone")
    admission.lose(lost)
    with pytest.raises(EngineLostError) as refusal:
        admission.admit()
    assert refusal.value is lost
    assert refusals.heard == ["draining", "engine_lost"]


def test_a_service_has_places_for_slots_and_queue(make_service: MakeService) -> None:
    service = make_service(slots=2, queue=1)
    permits = [service.admit() for _ in range(3)]
    assert service.snapshot.outstanding == service.snapshot.capacity == 3
    with pytest.raises(QueueFullError):
        service.admit()
    for permit in permits:
        permit.release()
    ear = Ear()
    hand_in(service, ask(), ear)
    ear.finished()


def test_a_permit_of_another_kind_is_refused(make_service: MakeService) -> None:
    class Forged:
        def release(self) -> None:
            pass

    service: BatchingService = make_service()
    with pytest.raises(InpaintError, match="no permit of the service"):
        service.submit(Forged(), ask(), Ear(), job_id="forged")


@pytest.mark.parametrize(
    "settings",
    [
        {"slots": 0},
        {"queue": -1},
        {"queue": True},
        {"workers": 0},
        {"prompt_cache": -1},
        {"picture_cache": -1},
        {"faults": 0},
        {"row_buckets": ()},
        {"row_buckets": (2, 0)},
        {"mode": "sometimes"},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(settings))):
        BatchingSettings(**settings)  # type: ignore[arg-type]
