"""Events come in order, and none comes after the end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from inpaintrt.errors import EngineRunError
from inpaintrt_server.batching.events import (
    Event,
    EventQueue,
    Failed,
    Finished,
    Outcome,
    Started,
    Stepped,
)

END = Finished((), ())


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


class Reader:
    """A queue and what came out of it."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.events: list[Event] = []
        self.outcomes: list[Outcome] = []
        self.over = threading.Event()
        self.queue = EventQueue("test", self.events.append, pool, self._end)

    def _end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.over.set()


@pytest.fixture
def reader(pool: ThreadPoolExecutor) -> Reader:
    return Reader(pool)


def test_events_without_delay_are_delivered_at_once(reader: Reader) -> None:
    for event in (Started(2), Stepped(1, 2)):
        reader.queue.put(event)
        assert reader.events[-1] is event


def test_later_events_wait_for_one_that_is_still_made(reader: Reader) -> None:
    ready = threading.Event()
    pending = reader.queue.reserve()
    reader.queue.put(Stepped(2, 4))
    second = reader.queue.reserve()

    def make() -> Event:
        ready.wait(30)
        return Stepped(1, 4)

    reader.queue.fill(second, lambda: Stepped(3, 4))
    assert reader.events == []
    reader.queue.fill(pending, make)
    reader.queue.put(Stepped(4, 4))
    reader.queue.put(END)
    assert reader.events == []
    ready.set()
    assert reader.over.wait(30)
    assert reader.events == [Stepped(index, 4) for index in (1, 2, 3, 4)] + [END]
    assert reader.outcomes == ["finished"]


def test_an_event_that_cannot_be_made_is_a_failure(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    error = EngineRunError("no image")

    def make() -> Event:
        raise error

    reader.queue.fill(reader.queue.reserve(), make)
    assert reader.over.wait(30)
    assert reader.events == [Failed(error)]
    assert reader.outcomes == ["failed"]
    assert "could not be made" in caplog.text


def test_a_failure_does_not_wait(reader: Reader) -> None:
    reader.queue.reserve()
    reader.queue.put(Stepped(1, 2))
    error = EngineRunError("gone")
    reader.queue.fail(error)
    assert reader.events == [Failed(error)]
    reader.queue.fail(error)
    assert reader.outcomes == ["failed"]


def test_no_event_is_delivered_after_the_end(reader: Reader, pool: ThreadPoolExecutor) -> None:
    pending = reader.queue.reserve()
    reader.queue.close()
    reader.queue.close()
    reader.queue.fill(pending, lambda: END)
    reader.queue.fill(reader.queue.reserve(), lambda: END)
    reader.queue.put(END)
    pool.shutdown()
    assert reader.events == []
    assert reader.outcomes == ["cancelled"]


def test_what_is_made_while_the_request_is_cancelled_is_dropped(reader: Reader) -> None:
    making, cancelled = threading.Event(), threading.Event()

    def make() -> Event:
        making.set()
        cancelled.wait(30)
        return Stepped(1, 2)

    reader.queue.fill(reader.queue.reserve(), make)
    assert making.wait(30)
    reader.queue.close()
    cancelled.set()
    assert reader.events == []


def test_a_listener_may_cancel_its_own_request(pool: ThreadPoolExecutor) -> None:
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        queue.close()

    queue = EventQueue("test", listen, pool, lambda outcome: None)
    queue.put(Started(3))
    queue.put(Stepped(1, 3))
    assert heard == [Started(3)]


def test_events_of_many_threads_lose_nothing(reader: Reader, pool: ThreadPoolExecutor) -> None:
    poutcomes = [reader.queue.reserve() for _ in range(500)]
    futures = [
        pool.submit(reader.queue.fill, pending, partial(Stepped, index, 500))
        for index, pending in enumerate(poutcomes)
    ]
    for future in futures:
        future.result()
    reader.queue.put(END)
    assert reader.over.wait(30)
    assert reader.events == [*[Stepped(index, 500) for index in range(500)], END]
