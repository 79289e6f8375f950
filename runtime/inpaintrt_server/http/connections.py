"""How many connections there may be, and which of them have a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from inpaintrt_server.http.record import find_record
from inpaintrt_server.http.refusals import TooManyConnectionsError

__all__ = ["Connection", "ConnectionLayer", "Connections", "attach", "connection_of", "too_many"]

_KEY = "inpaintrt_connection"
_RESERVE = 64


@dataclass(eq=False)
class Connection:
    """What the application knows of the connection that a request came by.

    Attributes:
        malformed: What is wrong with the bytes that came; None while nothing is.
    """

    malformed: str | None = None


class Connections:
    """The open connections: those with a place, and a few beyond for monitoring.

    A connection beyond the limit may ask for the server's health; anything else it asks for is refused. Where
    even the reserve is full, the one of it that has waited longest without a request makes room. So an idle
    flood never keeps a health probe out, and sockets and memory stay bounded.

    Args:
        limit: Connections with a place.
        reserve: Connections beyond the limit.
    """

    def __init__(self, limit: int, reserve: int = _RESERVE) -> None:
        self.limit = limit
        self._reserve = reserve
        self._placed: set[Connection] = set()
        self._beyond: dict[Connection, Callable[[], bool]] = {}

    def __len__(self) -> int:
        return len(self._placed) + len(self._beyond)

    def enter(self, connection: Connection, turn_away: Callable[[], bool]) -> bool:
        """Take in a new connection.

        Args:
            connection: The new one.
            turn_away: Ends it and has it leave, unless it serves a request; whether it did.

        Returns:
            Whether it may stay.
        """
        if len(self._placed) < self.limit:
            self._placed.add(connection)
            return True
        if len(self._beyond) >= self._reserve and not self._make_room():
            return False
        self._beyond[connection] = turn_away
        return True

    def _make_room(self) -> bool:
        return any(turn_away() for turn_away in tuple(self._beyond.values()))

    def has_place(self, connection: Connection) -> bool:
        """Whether a connection may ask for anything; one beyond the limit gets a place that became free."""
        if connection in self._beyond and len(self._placed) < self.limit:
            del self._beyond[connection]
            self._placed.add(connection)
        return connection in self._placed

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        self._placed.discard(connection)
        self._beyond.pop(connection, None)


def attach(state: dict[str, object], connection: Connection) -> dict[str, object]:
    """The state of a server's requests, with the connection that they come by."""
    return {**state, _KEY: connection}


def connection_of(scope: Scope) -> Connection | None:
    """The connection that a request came by; None without a server."""
    found: Connection | None = scope.get("state", {}).get(_KEY)
    return found


def too_many(connections: Connections) -> TooManyConnectionsError:
    """The refusal of a connection that has no place."""
    return TooManyConnectionsError(
        "there are too many connections",
        expected=f"at most {connections.limit} at a time",
        hint="try again in a second, and close connections that are not needed",
    )


class ConnectionLayer:
    """Refuses what comes by a connection beyond the limit, unless it asks for the server's health.

    Args:
        app: The application inside.
        connections: The open ones.
    """

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request.

        Raises:
            TooManyConnectionsError: There are too many connections.
        """
        connection, record = connection_of(scope), find_record(scope)
        monitors = record is None or record.api.monitoring
        if connection is not None and not monitors and not self._connections.has_place(connection):
            raise too_many(self._connections)
        await self._app(scope, receive, send)
