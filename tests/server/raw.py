"""Bytes as a client without manners sends them."""

import socket
from urllib.parse import urlsplit

__all__ = ["all_of", "ask", "connected"]


def connected(address: str) -> socket.socket:
    """A new connection to a server."""
    parts = urlsplit(address)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=30)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def ask(address: str, request: str | bytes) -> bytes:
    """All that is answered to some bytes, until the server closes the connection."""
    with connected(address) as connection:
        connection.sendall(request.encode("latin-1") if isinstance(request, str) else request)
        return all_of(connection)
