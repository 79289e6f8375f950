"""Uploads that mean harm get a reason, never a failure. `inpaintrt bench hostile` sends thousands of them."""

from collections import Counter

import psutil  # type: ignore[import-untyped]

from inpaintrt_bench.load.attacks import KINDS, Attack, Attacker
from inpaintrt_bench.measurements.hostile import check_answer, send_attacks
from inpaintrt_server.batching.service import BatchingService
from server.conftest import wait_until

UPLOADS = 250
MEBIBYTE = 2**20


def test_every_hostile_upload_is_refused_or_was_sound_after_all(
    server: str, service: BatchingService
) -> None:
    attacker = Attacker(seed=2)
    # What is loaded once, such as decoders, is there after the first ones.
    send_attacks(server, [attacker.attack() for _ in range(UPLOADS // 5)], clients=4)
    before = psutil.Process().memory_info().rss
    verdicts = send_attacks(server, [attacker.attack() for _ in range(UPLOADS)], clients=4)
    assert Counter(verdict.bad for verdict in verdicts) == {None: UPLOADS}
    assert {verdict.kind for verdict in verdicts} == set(KINDS)
    assert sum(400 <= verdict.status < 500 for verdict in verdicts) > UPLOADS / 2
    wait_until(lambda: service.snapshot.outstanding == 0)
    assert psutil.Process().memory_info().rss - before < 200 * MEBIBYTE


def test_the_same_seed_makes_the_same_uploads() -> None:
    one, same, other = (Attacker(seed) for seed in (5, 5, 6))
    kept = [(attack.kind, attack.path, len(attack.body)) for attack in (one.attack() for _ in range(20))]
    assert kept == [
        (attack.kind, attack.path, len(attack.body)) for attack in (same.attack() for _ in range(20))
    ]
    assert kept != [
        (attack.kind, attack.path, len(attack.body)) for attack in (other.attack() for _ in range(20))
    ]


def test_anything_but_a_refusal_or_a_sound_request_is_bad() -> None:
    must, may = (Attack("any", "/", {}, b"", refused) for refused in (True, False))
    assert [check_answer(must, status).bad for status in (400, 200, 500, 0)] == [
        None,
        "was accepted",
        "was answered with 500",
        "had no answer",
    ]
    assert [check_answer(may, status).bad for status in (422, 200, 503)] == [
        None,
        None,
        "was answered with 503",
    ]


def test_a_file_that_is_told_and_a_hidden_request_that_is_answered_are_bad() -> None:
    must = Attack("any", "/", {}, b"", refused=True)
    for content in (b"root:x:0:0:root", b'"cm9vdDp4OjA6"'):
        assert check_answer(must, 404, content).bad == "told what a file holds"
    assert check_answer(must, 400, answers=2).bad == "had an answer to a hidden request"
