"""Permits of the bounded queue."""

import time

import pytest

from inpaintrt.errors import InpaintError, ParameterError
from inpaintrt_server.batching import BatchingSettings, NullObserver
from inpaintrt_server.batching.admission import Admission, Permit
from inpaintrt_server.batching.events import Refusal
from inpaintrt_server.errors import DrainingError, EngineLostError, QueueFullError
from server.batching.conftest import MakeService
from server.batching.tools import Ear, ask, hand_in


class Refusals(NullObserver):
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


def _serve(admission: Admission, permit: Permit) -> None:
    permit.use(admission)
    permit.end()


def test_permits_are_bounded_and_come_back(admission: Admission, refusals: Refusals) -> None:
    permits = [admission.admit(), admission.admit()]
    with pytest.raises(QueueFullError) as refusal:
        admission.admit()
    assert refusal.value.received == "2 requests"
    assert refusal.value.retry_after >= 1
    permits[0].release()
    permits[0].release()
    assert admission.outstanding == 1
    admission.admit()
    assert refusals.heard == ["queue_full"]


def test_a_used_permit_is_free_at_the_end_only(admission: Admission) -> None:
    permit = admission.admit()
    permit.use(admission)
    permit.release()
    assert admission.outstanding == 1
    permit.end()
    permit.end()
    assert admission.outstanding == 0
    with pytest.raises(InpaintError, match="good for one request"):
        permit.use(admission)


def test_the_wait_that_is_advised_follows_from_the_throughput(clock: list[float]) -> None:
    admission = Admission(2, NullObserver())
    permits = [admission.admit(), admission.admit()]
    for _ in range(50):  # one request every four seconds
        clock[0] += 4
        _serve(admission, permits.pop(0))
        permits.append(admission.admit())
    waits = []
    for _ in range(3):
        with pytest.raises(QueueFullError) as refusal:
            admission.admit()
        waits.append(refusal.value.retry_after)
    assert waits == pytest.approx([4, 8, 12])  # each waits for a permit of its own
    assert "try again in 12 s" in str(refusal.value)


def test_idleness_does_not_count_as_slowness(clock: list[float]) -> None:
    admission = Admission(1, NullObserver())
    for _ in range(20):
        permit = admission.admit()
        clock[0] += 2
        _serve(admission, permit)
        clock[0] += 1000
    admission.admit()
    with pytest.raises(QueueFullError) as refusal:
        admission.admit()
    assert refusal.value.retry_after == pytest.approx(2)


def test_the_wait_that_is_advised_is_bounded(clock: list[float]) -> None:
    admission = Admission(1, NullObserver())
    permit = admission.admit()
    clock[0] += 5000
    _serve(admission, permit)
    admission.admit()
    with pytest.raises(QueueFullError) as refusal:
        admission.admit()
    assert refusal.value.retry_after == 120


def test_nobody_is_let_in_while_draining_or_without_engine(admission: Admission, refusals: Refusals) -> None:
    permit = admission.admit()
    admission.drain()
    with pytest.raises(DrainingError):
        admission.admit()
    assert not admission.wait_empty(0.01)
    permit.release()
    assert admission.wait_empty(0.01)
    lost = EngineLostError("gone")
    admission.lose(lost)
    with pytest.raises(EngineLostError) as refusal:
        admission.admit()
    assert refusal.value is lost
    assert refusals.heard == ["draining", "engine_lost"]


def test_a_service_has_permits_for_slots_and_queue(make_service: MakeService) -> None:
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


def test_a_permit_of_another_service_is_refused(make_service: MakeService) -> None:
    service, other = make_service(), make_service()
    permit = other.admit()
    with pytest.raises(InpaintError, match="another service's"):
        service.submit(permit, ask(), Ear(), job_id="foreign")
    ear = Ear()
    other.submit(permit, ask(), ear, job_id="own")
    ear.finished()


@pytest.mark.parametrize(
    "settings",
    [
        {"slots": 0},
        {"queue": -1},
        {"queue": True},
        {"workers": 0},
        {"prompt_cache": -1},
        {"image_cache": -1},
        {"faults": 0},
        {"row_buckets": ()},
        {"row_buckets": (2, 0)},
        {"mode": "sometimes"},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(settings))):
        BatchingSettings(**settings)  # type: ignore[arg-type]
