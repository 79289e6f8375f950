"""API keys: read from a file, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers

from inpaintrt.errors import ParameterError

__all__ = ["KeyRing", "given_keys"]

_SHORTEST_KEY = 16


class KeyRing:
    """The keys that open the server; without a file there are none, and everybody may enter.

    Args:
        path: A file with one key a line; empty lines and lines that begin with # do not count.

    Raises:
        ParameterError: The file cannot be read, holds no key, or one that is too short.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._digests: tuple[bytes, ...] = ()
        self.reload()

    @property
    def required(self) -> bool:
        """Whether a key is needed at all."""
        return bool(self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    def reload(self) -> None:
        """Read the file again; on an error the keys stay as they were.

        Raises:
            ParameterError: The file cannot be read, holds no key, or one that is too short.
        """
        if self._path is not None:
            self._digests = tuple(_digest(key) for key in _read_keys(self._path))

    def admitted(self, given: Sequence[str]) -> str | None:
        """The first right one of the keys that a request brings; None if none is.

        The time that takes does not depend on how much of a key is right.
        """
        right = [key for key in given if self._is_right(key)]
        return right[0] if right else None

    def _is_right(self, key: str) -> bool:
        given = _digest(key)
        # A list, not a generator: every key is compared, whichever fits.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(matches)


def given_keys(headers: Headers) -> tuple[str, ...]:
    """The keys that a request brings: bearer tokens, passwords of basic authentication, and `X-API-Key`.

    Browsers ask people for passwords; the user's name does not matter. Every one counts: programs add a
    header of their own beside the one that a person gave them.
    """
    keys = [_credentials(value) for value in headers.getlist("authorization")]
    return tuple(key for key in (*keys, *headers.getlist("x-api-key")) if key)


def _credentials(authorization: str) -> str | None:
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            return _password(credentials.strip())
        case _:
            return None


def _password(credentials: str) -> str | None:
    try:
        return base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read_keys(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(
            "the file of API keys cannot be read", received=f"{path}: {error}", expected="a text file"
        ) from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ParameterError(
            "the file of API keys holds no key", received=str(path), expected="one key a line"
        )
    shortest = min(map(len, keys))
    if shortest < _SHORTEST_KEY:
        raise ParameterError(
            "an API key is too short",
            received=f"{shortest} characters in {path}",
            expected=f"at least {_SHORTEST_KEY}",
            hint="python3 -c 'import secrets; print(secrets.token_urlsafe(32))' makes one",
        )
    return keys
