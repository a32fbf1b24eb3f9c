"""The splitter of MIME: parts stay as they were sent, whatever is around them."""

from __future__ import annotations

import pytest

from as2certs.as2.errors import MalformedMessage
from as2certs.as2.mime import ContentType, Entity, Headers, read_entity, read_headers, split_parts, write_parts


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b\r\none\r\n--b\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
        (b"--b\none\n--b\ntwo\n--b--", [b"one", b"two"]),
        (b"before\r\n--b \t\r\none\r\n\r\n--b--\t\r\nafter\r\n--b\r\n", [b"one\r\n"]),
        (b"--b\r\n--b\r\n\r\n--b--", [b"", b""]),
        (b"--b\r\n--bc\r\nx--b\r\n --b\r\n--b--", [b"--bc\r\nx--b\r\n --b"]),
        (b"--b\r\none\r\r\n--b--", [b"one\r"]),
        (b"--b\r\none\n\r\n--b--", [b"one\n"]),
        (b"--b--", []),
    ],
)
def test_parts_are_split_at_boundaries_that_are_lines(body: bytes, parts: list[bytes]) -> None:
    assert split_parts(body, b"b") == parts


@pytest.mark.parametrize("body", [b"", b"--b\r\none", b"--b\r\none\r\n--b", b"--b\r\none--b--", b"--c--"])
def test_a_body_without_its_end_is_cut_off(body: bytes) -> None:
    with pytest.raises(MalformedMessage, match="cut off"):
        split_parts(body, b"b")


def test_parts_that_are_written_are_read() -> None:
    parts = [b"a", b"", b"\r\n", b"--", bytes(range(256))]
    assert split_parts(write_parts(parts, "a+b/c"), b"a+b/c") == parts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Multipart/Signed; BOUNDARY=abc; micalg=sha1", ("multipart/signed", {"boundary": "abc", "micalg": "sha1"})),
        ('a/b;x="1;2"; y = "q\\"r" ;z=3', ("a/b", {"x": "1;2", "y": 'q"r', "z": "3"})),
        ("a/b;;x=1;; y=2;", ("a/b", {"x": "1", "y": "2"})),
        ("a/b; x=1; x=2", ("a/b", {"x": "1"})),
        ("a/b; x=", ("a/b", {"x": ""})),
        ("nonsense; x=1", ("text/plain", {})),
        ("", ("text/plain", {})),
    ],
)
def test_content_types_are_read_as_stations_write_them(value: str, expected: tuple[str, dict[str, str]]) -> None:
    assert Headers((("content-type", value),)).content_type == ContentType(*expected)


def test_folded_headers_are_one_line() -> None:
    headers = read_headers(b"A: one\r\n two\r\n\tthree\nB : four\r\n")
    assert headers.fields == (("A", "one two three"), ("B", "four"))
    assert headers.get("a") == "one two three"


def test_an_entity_may_have_no_headers() -> None:
    assert read_entity(b"\r\nbody\r\n\r\n") == Entity(Headers(), b"body\r\n\r\n", b"\r\nbody\r\n\r\n")


@pytest.mark.parametrize("raw", [b"", b"A: b", b"A: b\r\n", b"no colon\r\n\r\n", b"a b: c\r\n\r\n", b": c\r\n\r\n"])
def test_what_has_no_headers_and_no_blank_line_is_no_entity(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        read_entity(raw)


@pytest.mark.parametrize(
    ("encoding", "body", "decoded"),
    [
        ("BASE64", b"aGFs\r\nbG8=\r\n", b"hallo"),
        ("quoted-printable", b"a=3Db=\r\nc", b"a=bc"),
        ("binary", b"\x00\xff", b"\x00\xff"),
        ("", b"x", b"x"),
    ],
)
def test_transfer_encodings_are_taken_off(encoding: str, body: bytes, decoded: bytes) -> None:
    assert Entity(Headers((("Content-Transfer-Encoding", encoding),)), body).decoded_body() == decoded


@pytest.mark.parametrize(("encoding", "body"), [("base64", b"abc"), ("x-uuencode", b"")])
def test_encodings_that_do_not_fit_are_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Entity(Headers((("Content-Transfer-Encoding", encoding),)), body).decoded_body()
