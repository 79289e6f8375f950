"""Hostile uploads: every one gets a 4xx, or a picture where it was one after all; memory stays flat."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import httpx

from inpaintrt_bench.isolation import run_alone
from inpaintrt_bench.schema import Row, Scalar
from inpaintrt_bench.serve.attacks import KINDS, Attack, Attacker
from inpaintrt_bench.serve.server import ServedProcess
from inpaintrt_bench.statistics import make_series

__all__ = ["HostileSettings", "Verdict", "judge", "run_hostile", "send_attacks"]

_TIMEOUT = 120.0
_SUCCESS = range(200, 300)
_REFUSAL = range(400, 500)


@dataclass(frozen=True)
class HostileSettings:
    """What is sent.

    Attributes:
        bundle: A name in the engine store, or a path.
        uploads: How many requests.
        batch: Requests between two looks at the server.
        clients: Requests in flight.
        seed: What the requests depend on.
        server_options: Further words of the server's command line.
    """

    bundle: str
    uploads: int = 10_000
    batch: int = 500
    clients: int = 4
    seed: int = 0
    server_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What became of one attack.

    Attributes:
        kind: What was wrong with it.
        status: The HTTP status; 0 where there was no answer.
        bad: Why the server did not do well; None where it did.
    """

    kind: str
    status: int
    bad: str | None = None


def judge(attack: Attack, status: int) -> Verdict:
    """Whether an answer is right: a refusal, or success where the attack may be a sound request."""
    if status in _REFUSAL:
        return Verdict(attack.kind, status)
    if status in _SUCCESS:
        return Verdict(attack.kind, status, "was accepted" if attack.refused else None)
    return Verdict(attack.kind, status, "had no answer" if status == 0 else f"was answered with {status}")


def send_attacks(url: str, attacks: Sequence[Attack], clients: int) -> list[Verdict]:
    """Send attacks, some at a time."""
    return asyncio.run(_send_all(url, attacks, clients))


async def _send_all(url: str, attacks: Sequence[Attack], clients: int) -> list[Verdict]:
    free = asyncio.Semaphore(clients)
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False) as client:

        async def send(attack: Attack) -> Verdict:
            async with free:
                try:
                    answer = await client.post(attack.path, content=attack.body, headers=dict(attack.headers))
                except httpx.TransportError:
                    return judge(attack, 0)
                return judge(attack, answer.status_code)

        return await asyncio.gather(*map(send, attacks))


def run_hostile(settings: HostileSettings, tell: Callable[[str], None]) -> Iterator[tuple[Row, ...]]:
    """Attack a server; after each batch all rows as they are now.

    Args:
        settings: What is sent.
        tell: Hears how far it is.
    """
    attacker = Attacker(settings.seed)
    verdicts: list[Verdict] = []
    resident: list[float] = []
    with ServedProcess(settings.bundle, settings.server_options) as server:
        while len(verdicts) < settings.uploads and server.alive:
            size = min(settings.batch, settings.uploads - len(verdicts))
            attacks = [attacker.attack() for _ in range(size)]
            verdicts += run_alone(send_attacks, server.url, attacks, settings.clients)
            tell(f"{len(verdicts)} of {settings.uploads} sent")
            if server.alive:
                resident.append(server.resident_bytes())
                yield (*_kind_rows(verdicts), _server_row(server, resident))
        if not server.alive:
            yield (*_kind_rows(verdicts), Row(name="server", status="failed", reason="the server ended"))


def _kind_rows(verdicts: Sequence[Verdict]) -> Iterator[Row]:
    for kind in dict.fromkeys(KINDS):
        own = [verdict for verdict in verdicts if verdict.kind == kind]
        bad = Counter(verdict.bad for verdict in own if verdict.bad is not None)
        statuses = Counter(f"status_{verdict.status}" for verdict in own)
        values: dict[str, Scalar] = {
            "requests": len(own),
            "refused": sum(verdict.status in _REFUSAL for verdict in own),
            "accepted": sum(verdict.status in _SUCCESS for verdict in own),
            "bad": bad.total(),
            **dict(sorted(statuses.items())),
        }
        reason = ", ".join(f"{count} {what}" for what, count in sorted(bad.items())) or None
        yield Row(name=kind, status="failed" if bad else "ok", reason=reason, values=values)


def _server_row(server: ServedProcess, resident: Sequence[float]) -> Row:
    """What is left in the server, and its memory after each batch."""
    taken = int(server.metrics()["inpaintrt_places_taken"])
    return Row(
        name="server",
        status="failed" if taken else "ok",
        reason=f"{taken} places are still taken" if taken else None,
        values={
            "places_taken": taken,
            "first_resident_bytes": int(resident[0]),
            "last_resident_bytes": int(resident[-1]),
        },
        series={"resident": make_series(resident, "bytes")},
    )
