"""Property tests: reading any bytes ends with a certificate or with one of our errors."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from as2certs import pki
from tests.pki.every_way import SEEDS, read_every_way
from tests.pki.sentences import assert_one_sentence

pytestmark = [
    pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive"),
    pytest.mark.filterwarnings("ignore:Attribute's length must be"),
    pytest.mark.filterwarnings("ignore:PKCS#12 bundle could not be parsed as DER"),
]
ROUNDS = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
#: For what reads each file in every way, which `make fuzz` does far longer.
FEWER = settings(ROUNDS, max_examples=150)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return one of the seeds with some bytes changed, removed, repeated or inserted."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        if not data:
            break
        place = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["change", "drop", "double", "insert", "cut"])):
            case "change":
                data[place] = draw(st.integers(0, 255))
            case "drop":
                del data[place : place + draw(st.integers(1, 40))]
            case "double":
                data[place:place] = data[place : place + draw(st.integers(1, 40))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=12))
            case _:
                del data[place:]
    return bytes(data)


@FEWER
@given(data=mutated())
def test_mutated_files_are_read_or_refused(data: bytes) -> None:
    read_every_way(data)


@ROUNDS
@given(data=st.binary(max_size=300))
@example(data=b"\x30")
@example(data=b"\x30\x80\x00\x00")
@example(data=b"\x30\x84\xff\xff\xff\xff")
@example(data=b"\xff\xfe")
def test_noise_is_refused(data: bytes) -> None:
    read_every_way(data)
    read_every_way(b"\x30" + data)
    read_every_way(b"-----BEGIN CERTIFICATE-----\n" + data + b"\n-----END CERTIFICATE-----\n")


@ROUNDS
@given(data=mutated(), password=st.text(max_size=30))
def test_any_password_is_accepted_or_refused(data: bytes, password: str) -> None:
    try:
        pki.read_with_key(data, password=password)
    except pki.PkiError as error:
        assert_one_sentence(str(error))


@ROUNDS
@given(text=st.text(max_size=100))
def test_any_text_is_a_fingerprint_or_refused(text: str) -> None:
    try:
        found = pki.normalise_fingerprint(text)
    except pki.PkiError as error:
        assert_one_sentence(str(error))
    else:
        assert len(found) == 64
