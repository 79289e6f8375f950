"""API keys: the file, the comparison, and where requests bring them."""

import base64
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from inpaintrt.errors import ParameterError
from inpaintrt_server.http.keys import KeyRing, given_keys

FIRST, SECOND = "first-key-0123456789", "second-key-0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# the team\n{FIRST}\n\n  {SECOND}  \n")
    return path


def test_every_key_of_the_file_opens(path: Path) -> None:
    ring = KeyRing(path)
    assert ring.required
    assert len(ring) == 2
    assert ring.admitted([FIRST])
    assert ring.admitted([SECOND])
    for wrong in ("", "# the team", FIRST[:-1], f"{FIRST} ", FIRST.upper(), "schlüssel", "\udc80"):
        assert not ring.admitted([wrong])
        assert ring.admitted([wrong, SECOND]) == SECOND
    assert ring.admitted([]) is None


def test_without_a_file_there_are_no_keys() -> None:
    assert not KeyRing().required
    assert not KeyRing().admitted([FIRST])


def test_keys_are_read_again(path: Path) -> None:
    ring = KeyRing(path)
    path.write_text("third-key-0123456789\n")
    ring.reload()
    assert ring.admitted(["third-key-0123456789"])
    assert not ring.admitted([FIRST])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no key"),
        (b"# nothing but words\n", "holds no key"),
        (b"short\n", "too short"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_refused_and_keeps_the_old_keys(path: Path, content: bytes | None, words: str) -> None:
    ring = KeyRing(path)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(ParameterError, match=words):
        KeyRing(path)
    with pytest.raises(ParameterError, match=words):
        ring.reload()
    assert ring.admitted([FIRST])


def _basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ()),
        ({"Authorization": "Bearer abc"}, ("abc",)),
        ({"Authorization": "bearer  abc "}, ("abc",)),
        ({"Authorization": "Bearer"}, ()),
        ({"X-API-Key": "abc"}, ("abc",)),
        ({"Authorization": _basic("anybody:abc")}, ("abc",)),
        ({"Authorization": _basic("anybody:a:c")}, ("a:c",)),
        ({"Authorization": _basic("anybody")}, ()),
        ({"Authorization": "Basic ???"}, ()),
        ({"Authorization": "Basic ÿ"}, ()),
        ({"Authorization": "Digest abc"}, ()),
        ({"Authorization": "Digest abc", "X-API-Key": "xyz"}, ("xyz",)),
        ({"Authorization": "Bearer abc", "X-API-Key": "xyz"}, ("abc", "xyz")),
    ],
)
def test_where_a_request_brings_its_keys(headers: dict[str, str], expected: tuple[str, ...]) -> None:
    assert given_keys(Headers(headers)) == expected


def test_a_header_may_come_twice() -> None:
    raw = [(b"authorization", b"Bearer abc"), (b"authorization", b"Bearer xyz"), (b"x-api-key", b"k")]
    assert given_keys(Headers(raw=raw)) == ("abc", "xyz", "k")
