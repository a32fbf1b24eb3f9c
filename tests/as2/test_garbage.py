"""Whatever comes in, the readers end with a result or with an `As2Error`, and soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from as2certs.as2 import Answer, Headers, Partner, cms, judge, read_mdn, receive, reply
from as2certs.as2.errors import As2Error
from as2certs.as2.mime import read_entity
from as2certs.pki.asn1 import OCTET_STRING, encode, read_element
from tests.as2.stations import DRAFT, NOW, OURS, THEIRS, good_answer, keys_of, message

pytestmark = [
    pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive"),
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
]
ROUNDS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
SENT = message()
KEYS = keys_of(THEIRS)
#: The slowest hostile message takes a fraction of this; a quadratic reader takes minutes.
SECONDS = 5.0


def in_ber(data: bytes) -> bytes:
    """Return a DER structure with indefinite lengths, and with its octet strings in pieces, at each level."""
    element = read_element(data)
    if element.is_constructed:
        inner = b"".join(in_ber(child.raw) for child in element.children())
        return bytes([element.identifier]) + b"\x80" + inner + b"\0\0"
    if element.identifier == OCTET_STRING and len(element.content) > 40:
        pieces = [element.content[start : start + 30] for start in range(0, len(element.content), 30)]
        return b"\x24\x80" + b"".join(encode(OCTET_STRING, piece) for piece in pieces) + b"\0\0"
    return data


@cache
def seeds() -> tuple[bytes, ...]:
    """Return entities with a message or an MDN of each kind: headers, a blank line, a body."""
    made = [message(), message(encryption=None), message(signing=None, is_compressed=True, encryption=None)]
    entities = [(one.headers, one.body) for one in made]
    entities.append((made[0].headers, in_ber(made[0].body)))
    entities.append(good_answer(SENT))
    return tuple(
        b"".join(f"{name}: {value}\r\n".encode() for name, value in headers) + b"\r\n" + body
        for headers, body in entities
    )


@cache
def structures() -> tuple[bytes, ...]:
    """Return structures of CMS of each kind."""
    signature = cms.sign(b"x", *OURS)
    encrypted = cms.encrypt(b"x", THEIRS[0])
    return signature, in_ber(signature), encrypted, in_ber(encrypted), cms.compress(b"x" * 100)


def read_in_every_way(raw: bytes) -> None:
    """Read an entity as a message, as an MDN and as an answer. Raises whatever is no As2Error."""
    try:
        entity = read_entity(raw)
    except As2Error:
        return
    headers = Headers((*entity.headers, ("AS2-From", "A"), ("AS2-To", "B"), ("Message-ID", "<x>")))
    with suppress(As2Error):
        inbound = receive(headers, entity.body, KEYS, [OURS[0]])
        made = reply(inbound, None, now=NOW)
        assert (made is None) == (inbound.receipt is None)
    judge(SENT, Answer(200, "", entity.headers, entity.body), Partner("Northwind", [THEIRS[0]]))
    for attempt in (lambda: read_mdn(entity.headers, entity.body), entity.parts, entity.cms_body):
        ignoring(attempt)


def read_structure(data: bytes) -> None:
    """Read bytes as each structure of CMS. Raises whatever is no As2Error."""
    ignoring(lambda: cms.read_signed_data(data).verify(b"x", [OURS[0]]))
    ignoring(lambda: cms.read_envelope(data).decrypt(lambda _: THEIRS[1]))
    ignoring(lambda: cms.decompress(data))
    ignoring(lambda: cms.content_type(data))


def ignoring(attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except As2Error as error:
        sentence = str(error)
    else:
        return
    assert sentence.endswith(".")


@st.composite
def mutated(draw: st.DrawFn, originals: Callable[[], tuple[bytes, ...]]) -> bytes:
    """Return one of the originals with some bytes changed, removed, repeated or inserted."""
    data = bytearray(draw(st.sampled_from(originals())))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["change", "drop", "double", "insert", "cut"])):
            case "change":
                data[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "drop":
                del data[place : place + draw(st.integers(1, 40))]
            case "double":
                data[place:place] = data[place : place + draw(st.integers(1, 40))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=12))
            case _:
                del data[place:]
    return bytes(data)


@ROUNDS
@given(raw=mutated(seeds))
def test_mutated_messages_and_mdns_are_read_or_refused(raw: bytes) -> None:
    read_in_every_way(raw)


@ROUNDS
@given(data=mutated(structures))
def test_mutated_structures_are_read_or_refused(data: bytes) -> None:
    read_structure(data)


@ROUNDS
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"\x30\x80\x00\x00")
@example(data=b"\x30\x84\xff\xff\xff\xff")
@example(data=encode(0x30, encode(0x06, b"\x2a")))
def test_noise_is_refused(data: bytes) -> None:
    read_structure(data)
    read_in_every_way(b"Content-Type: application/pkcs7-mime\r\n\r\n" + data)
    read_in_every_way(b"Content-Type: multipart/report; boundary=x\r\n\r\n--x\r\n" + data)


def test_the_seeds_themselves_are_read() -> None:
    for raw in seeds()[:4]:
        entity = read_entity(raw)
        assert receive(entity.headers, entity.body, KEYS, [OURS[0]]).explanation == ""
    for data in structures()[:2]:
        assert cms.read_signed_data(data).verify(b"x", [OURS[0]]).is_expected
    assert DRAFT.payload in seeds()[1]


MIB = 1024 * 1024
HOSTILE = {
    "many small elements": encode(0x30, b"\x05\x00" * (MIB // 2)),
    "nested to the bottom": b"\x30\x80" * (MIB // 2),
    "nested and closed": b"\x30\x80" * 39 + b"\x04\x00" * 40_000 + b"\0\0" * 39,
    "pieces of pieces": b"\x24\x80" * 30 + b"\x04\x01x" * 45_000 + b"\0\0" * 30,
    "an oid without end": encode(0x30, encode(0x06, b"\x81" * MIB), encode(0xA0, b"")),
    "recipients": encode(
        0x30,
        bytes.fromhex("06092a864886f70d010703"),
        encode(0xA0, encode(0x30, b"\x02\x01\x00", encode(0x31, encode(0x30, b"\x02\x01\x00") * 100_000))),
    ),
    "signers": encode(
        0x30,
        bytes.fromhex("06092a864886f70d010702"),
        encode(0xA0, encode(0x30, b"\x02\x01\x01\x31\x00", b"\x30\x00", encode(0x31, b"\x30\x00" * 500_000))),
    ),
    "more than is read": encode(0x30, bytes(5 * MIB)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_structures_are_refused_soon(name: str) -> None:
    before = time.process_time()
    for read in (cms.read_signed_data, cms.read_envelope, cms.decompress):
        with pytest.raises(As2Error):
            read(HOSTILE[name])
    assert time.process_time() - before < SECONDS


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/report; boundary=x", b"\r\n--x" * 200_000),
        ("multipart/report; boundary=x", b"\r\n--x" + b" " * MIB),
        ("multipart/report; boundary=x", b"\r\n" * (MIB // 2)),
        ('multipart/report; boundary="' + '\\"' * 4000, b""),
        ("multipart/report" + ';a="' * 2000, b""),
        ("multipart/report" + "; " * 4000, b""),
        ("multipart/report; boundary=x", b"--x\r\n" + b"\r" * MIB + b"\r\n--x--"),
        ("multipart/report; boundary=x", b"--x\r\n" + b"A: b\r\n c\r\n" * 6000 + b"\r\n\r\n--x--"),
        ("application/pkcs7-mime", b"=" * MIB),
        ("application/pkcs7-mime", b"A \n" * (MIB // 3)),
    ],
)
def test_hostile_entities_are_refused_soon(content_type: str, body: bytes) -> None:
    before = time.process_time()
    raw = b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    read_in_every_way(raw)
    assert time.process_time() - before < SECONDS
