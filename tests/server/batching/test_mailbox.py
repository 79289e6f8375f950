"""Events come in order, and nothing comes after the end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from inpaintrt.errors import EngineRunError
from inpaintrt_server.batching.jobs import Event, Failed, Finished, Started, Stepped
from inpaintrt_server.batching.mailbox import Mailbox
from inpaintrt_server.batching.observing import Ending

END = Finished((), ())


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


class Reader:
    """A mailbox and what came out of it."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.events: list[Event] = []
        self.endings: list[Ending] = []
        self.over = threading.Event()
        self.mailbox = Mailbox("test", self.events.append, pool, self._end)

    def _end(self, how: Ending) -> None:
        self.endings.append(how)
        self.over.set()


@pytest.fixture
def reader(pool: ThreadPoolExecutor) -> Reader:
    return Reader(pool)


def test_events_without_delay_are_heard_at_once(reader: Reader) -> None:
    for event in (Started(2), Stepped(1, 2)):
        reader.mailbox.put(event)
        assert reader.events[-1] is event


def test_later_events_wait_for_one_that_is_still_made(reader: Reader) -> None:
    ready = threading.Event()
    letter = reader.mailbox.reserve()
    reader.mailbox.put(Stepped(2, 4))
    second = reader.mailbox.reserve()

    def make() -> Event:
        ready.wait(30)
        return Stepped(1, 4)

    reader.mailbox.fill(second, lambda: Stepped(3, 4))
    assert reader.events == []
    reader.mailbox.fill(letter, make)
    reader.mailbox.put(Stepped(4, 4))
    reader.mailbox.put(END)
    assert reader.events == []
    ready.set()
    assert reader.over.wait(30)
    assert reader.events == [Stepped(index, 4) for index in (1, 2, 3, 4)] + [END]
    assert reader.endings == ["finished"]


def test_an_event_that_cannot_be_made_is_a_failure(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    error = EngineRunError("no picture")

    def make() -> Event:
        raise error

    reader.mailbox.fill(reader.mailbox.reserve(), make)
    assert reader.over.wait(30)
    assert reader.events == [Failed(error)]
    assert reader.endings == ["failed"]
    assert "could not be made" in caplog.text


def test_a_failure_does_not_wait(reader: Reader) -> None:
    reader.mailbox.reserve()
    reader.mailbox.put(Stepped(1, 2))
    error = EngineRunError("gone")
    reader.mailbox.fail(error)
    assert reader.events == [Failed(error)]
    reader.mailbox.fail(error)
    assert reader.endings == ["failed"]


def test_nothing_is_heard_after_the_end(reader: Reader, pool: ThreadPoolExecutor) -> None:
    letter = reader.mailbox.reserve()
    reader.mailbox.close()
    reader.mailbox.close()
    reader.mailbox.fill(letter, lambda: END)
    reader.mailbox.fill(reader.mailbox.reserve(), lambda: END)
    reader.mailbox.put(END)
    pool.shutdown()
    assert reader.events == []
    assert reader.endings == ["cancelled"]


def test_what_is_made_while_the_request_is_given_up_is_dropped(reader: Reader) -> None:
    making, given_up = threading.Event(), threading.Event()

    def make() -> Event:
        making.set()
        given_up.wait(30)
        return Stepped(1, 2)

    reader.mailbox.fill(reader.mailbox.reserve(), make)
    assert making.wait(30)
    reader.mailbox.close()
    given_up.set()
    assert reader.events == []


def test_a_listener_may_give_its_own_request_up(pool: ThreadPoolExecutor) -> None:
    heard: list[Event] = []

    def listen(event: Event) -> None:
        heard.append(event)
        mailbox.close()

    mailbox = Mailbox("test", listen, pool, lambda how: None)
    mailbox.put(Started(3))
    mailbox.put(Stepped(1, 3))
    assert heard == [Started(3)]


def test_events_of_many_threads_lose_nothing(reader: Reader, pool: ThreadPoolExecutor) -> None:
    letters = [reader.mailbox.reserve() for _ in range(500)]
    futures = [
        pool.submit(reader.mailbox.fill, letter, partial(Stepped, index, 500))
        for index, letter in enumerate(letters)
    ]
    for future in futures:
        future.result()
    reader.mailbox.put(END)
    assert reader.over.wait(30)
    assert reader.events == [*[Stepped(index, 500) for index in range(500)], END]
