"""`inpaintrt bench hostile`: every hostile request is refused or was sound, and memory stays flat."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import httpx

from inpaintrt.cli.options import bundle_option
from inpaintrt_bench.load.attacks import KINDS, Attack, Attacker, largest_run
from inpaintrt_bench.load.clients import flood_connections, send_raw
from inpaintrt_bench.load.server import ServedProcess
from inpaintrt_bench.measurements.soak import relative_growth
from inpaintrt_bench.processes import run_alone
from inpaintrt_bench.report.files import output_option, record
from inpaintrt_bench.report.markdown import amount, table, value_of, verdict
from inpaintrt_bench.report.schema import Report, Row, Scalar, make_series

__all__ = [
    "HostileSettings",
    "Verdict",
    "check_answer",
    "hostile",
    "hostile_table",
    "run_hostile",
    "send_attacks",
]

_TIMEOUT = 120.0
_SUCCESS = range(200, 300)
_REFUSAL = range(300, 500)
# Of a file that requests ask for, as it is and in base64.
_TOLD = (b"root:x:0", b"cm9vdDp4")
_BEYOND_RESERVE = 100
_GROWTH = 0.1


@click.command()
@bundle_option
@click.option(
    "--uploads", type=click.IntRange(1), default=10_000, show_default=True, help="Hostile requests to send."
)
@click.option("--clients", type=click.IntRange(1), default=4, show_default=True, help="Requests in flight.")
@click.option(
    "--largest-runs",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Requests of the largest size to run at, all at once.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed sends the same requests.")
@click.option(
    "--server-option",
    "server_options",
    multiple=True,
    metavar="WORD",
    help="A word for the server; may be repeated.",
)
@output_option
def hostile(
    bundle: str,
    uploads: int,
    clients: int,
    largest_runs: int,
    seed: int,
    server_options: tuple[str, ...],
    output: Path | None,
) -> None:
    """What the server does with damaged, enormous and lying requests, on all its interfaces.

    After them comes a flood of connections, with health probes beside it, and requests of the largest size.

    Exits with status 1 unless everything was refused that has to be. Results are written as they come.
    """
    settings = HostileSettings(
        bundle,
        uploads=uploads,
        clients=clients,
        largest_runs=largest_runs,
        seed=seed,
        server_options=server_options,
    )
    described: dict[str, Scalar | list[Scalar]] = {
        "bundle": bundle,
        "uploads": uploads,
        "clients": clients,
        "largest_runs": largest_runs,
        "seed": seed,
    }
    snapshots = run_hostile(settings, lambda text: click.echo(text, err=True))
    report = record("hostile", snapshots, described, hostile_table, output)
    if any(row.status != "ok" for row in report.rows):
        raise click.exceptions.Exit(1)


@dataclass(frozen=True)
class HostileSettings:
    """What is sent.

    Attributes:
        bundle: A name in the engine store, or a path.
        uploads: How many requests.
        batch: Requests between two looks at the server.
        clients: Requests in flight.
        largest_runs: Requests of the largest size to run at, all at once.
        seed: What the requests depend on.
        server_options: Further words of the server's command line.
    """

    bundle: str
    uploads: int = 10_000
    batch: int = 500
    clients: int = 4
    largest_runs: int = 4
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


def check_answer(attack: Attack, status: int, content: bytes = b"", answers: int = 1) -> Verdict:
    """Whether an answer is right: a refusal, or success where the attack may be a sound request.

    Args:
        attack: What was sent.
        status: The HTTP status; 0 where there was no answer.
        content: The answer's body.
        answers: How many answers came.
    """
    if any(told in content for told in _TOLD):
        return Verdict(attack.kind, status, "told what a file holds")
    if answers > 1:
        return Verdict(attack.kind, status, "had an answer to a hidden request")
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
                if attack.raw is not None:
                    came = await asyncio.to_thread(send_raw, url, attack.raw)
                    return check_answer(attack, came.status, came.content, came.answers)
                try:
                    answer = await client.post(attack.path, content=attack.body, headers=dict(attack.headers))
                except httpx.TransportError:
                    return check_answer(attack, 0)
                return check_answer(attack, answer.status_code, answer.content)

        return await asyncio.gather(*map(send, attacks))


def run_hostile(settings: HostileSettings, progress: Callable[[str], None]) -> Iterator[tuple[Row, ...]]:
    """Attack a server; after each batch all rows as they are now.

    Args:
        settings: What is sent.
        progress: Called with how far it is.
    """
    attacker = Attacker(settings.seed)
    verdicts: list[Verdict] = []
    resident: list[float] = []
    with ServedProcess(settings.bundle, settings.server_options) as server:
        while len(verdicts) < settings.uploads and server.alive:
            size = min(settings.batch, settings.uploads - len(verdicts))
            attacks = [attacker.attack() for _ in range(size)]
            verdicts += run_alone(send_attacks, server.url, attacks, settings.clients)
            progress(f"{len(verdicts)} of {settings.uploads} sent")
            if server.alive:
                resident.append(server.resident_bytes())
                yield (*_kind_rows(verdicts), _server_row(server, resident))
        special = _special_rows(server, settings) if server.alive else ()
        progress("floods and largest runs sent")
        if server.alive:
            yield (*_kind_rows(verdicts), *special, _server_row(server, resident))
        else:
            yield (*_kind_rows(verdicts), Row(name="server", status="failed", reason="the server ended"))


def _special_rows(server: ServedProcess, settings: HostileSettings) -> tuple[Row, ...]:
    """What is sent once, after everything else."""
    return _flood_row(server), _largest_row(server, settings.largest_runs)


def _flood_row(server: ServedProcess) -> Row:
    """More connections than there are places, and health probes beside them."""
    limit = int(server.information()["limits"]["max_connections"])
    outcome = run_alone(flood_connections, server.url, limit + _BEYOND_RESERVE)
    reasons = []
    if outcome.failed:
        reasons.append(f"{outcome.failed} health probes failed")
    if not outcome.refused:
        reasons.append("a request beyond the limit was not refused")
    return Row(
        name="connection flood",
        status="failed" if reasons else "ok",
        reason=", ".join(reasons) or None,
        values={
            "connections": outcome.connections,
            "probes": outcome.probes,
            "probes_failed": outcome.failed,
            "resident_bytes": server.resident_bytes(),
        },
    )


def _largest_row(server: ServedProcess, count: int) -> Row:
    """As much as the limits allow, several times at once: served, or refused because of its size."""
    attack = largest_run(int(server.information()["limits"]["max_run_pixels"]))
    verdicts = run_alone(send_attacks, server.url, [attack] * count, count) if count else []
    row = _kind_row(attack.kind, verdicts)
    values = {**row.values, "resident_bytes": server.resident_bytes() if server.alive else None}
    return Row(name=row.name, status=row.status, reason=row.reason, values=values)


def _kind_rows(verdicts: Sequence[Verdict]) -> Iterator[Row]:
    for kind in dict.fromkeys(KINDS):
        yield _kind_row(kind, [verdict for verdict in verdicts if verdict.kind == kind])


def _kind_row(kind: str, verdicts: Sequence[Verdict]) -> Row:
    bad = Counter(verdict.bad for verdict in verdicts if verdict.bad is not None)
    statuses = Counter(f"status_{verdict.status}" for verdict in verdicts)
    values: dict[str, Scalar] = {
        "requests": len(verdicts),
        "refused": sum(verdict.status in _REFUSAL for verdict in verdicts),
        "accepted": sum(verdict.status in _SUCCESS for verdict in verdicts),
        "bad": bad.total(),
        **dict(sorted(statuses.items())),
    }
    reason = ", ".join(f"{count} {what}" for what, count in sorted(bad.items())) or None
    return Row(name=kind, status="failed" if bad else "ok", reason=reason, values=values)


def _server_row(server: ServedProcess, resident: Sequence[float]) -> Row:
    """What is left in the server, its memory after each batch, and whether that grew."""
    taken, growth = int(server.metrics()["inpaintrt_places_taken"]), relative_growth(resident)
    return Row(
        name="server",
        status="failed" if taken else "ok",
        reason=f"{taken} places are still taken" if taken else None,
        values={
            "places_taken": taken,
            "first_resident_bytes": int(resident[0]),
            "last_resident_bytes": int(resident[-1]),
            "largest_resident_bytes": int(max(resident)),
            "memory_growth": growth,
            "memory_grew": growth > _GROWTH,
        },
        series={"resident": make_series(resident, "bytes")},
    )


def hostile_table(report: Report) -> str:
    """Every kind of hostile request: how many were refused, and how many turned out to be sound."""
    rows = [
        (row.name, *_counts(row, ("requests", "refused", "accepted")), verdict(row) or "ok")
        for row in report.rows
        if "requests" in row.values
    ]
    others = [row for row in report.rows if "requests" not in row.values]
    found = "\n\n".join(_flood_line(row) if "probes" in row.values else _server_line(row) for row in others)
    return "\n\n".join([table(("requests", "sent", "refused", "accepted", "verdict"), rows), found])


def _server_line(row: Row) -> str:
    first, last = (amount(value_of(row, f"{name}_resident_bytes")) for name in ("first", "last"))
    line = f"The server's memory: {first} after the first batch, {last} after the last."
    growth = value_of(row, "memory_growth")
    if growth is not None:
        line += f" From the second quarter to the last it changed by {growth:+.1%}."
    return f"{line} {verdict(row)}".strip()


def _flood_line(row: Row) -> str:
    probes, failed = (value_of(row, name) or 0 for name in ("probes", "probes_failed"))
    connections = value_of(row, "connections") or 0
    answered = f"{probes - failed:.0f} of {probes:.0f} health probes were answered"
    line = f"With {connections:.0f} connections open, {answered}."
    return f"{line} {verdict(row)}".strip()


def _counts(row: Row, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{value_of(row, name) or 0:.0f}" for name in names)
