"""Parse delivery status notifications: permanent failures are found, everything else is ignored."""

from __future__ import annotations

from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from as2certs.mail import delivery_reports
from tests.mail.bounce_reports import build_report

ID = "<1b4e28ba-2fa1-11d2-883f-0016d3cca427@certs.example.com>"
NORA = "nora@northwind.example"


@pytest.mark.parametrize("quoted_as", ["text/rfc822-headers", "message/rfc822"])
def test_it_returns_mail_recipient_and_reason_of_a_failure(quoted_as: str) -> None:
    (found,) = delivery_reports.read_report(build_report(ID, "Nora@Northwind.example", quoted_as=quoted_as))
    assert found.addresses == {NORA}
    assert found.message_ids == {ID}
    assert (found.status, found.reason, found.is_permanent) == ("5.1.1", "550 5.1.1 no such user", True)


def test_the_address_that_we_wrote_counts_beside_the_one_it_was_passed_on_to() -> None:
    (found,) = delivery_reports.read_report(build_report(ID, "n.north@elsewhere.example", original=NORA))
    assert found.addresses == {NORA, "n.north@elsewhere.example"}


def test_a_mail_that_the_report_answers_counts_as_named() -> None:
    raw = build_report("", NORA).replace(b"Return-Path: <>", f"In-Reply-To: {ID}".encode())
    (found,) = delivery_reports.read_report(raw)
    assert found.message_ids == {ID}


@pytest.mark.parametrize(
    "raw",
    [
        build_report(ID, NORA, action="delayed", status="4.4.1"),
        build_report(ID, NORA, action="failed", status="4.2.2"),
        build_report(ID, NORA, action="delivered", status="2.0.0"),
        build_report(ID, NORA, status="500"),
        build_report(ID, "no address"),
        build_report("no id", NORA),
        build_report("<\x00@certs.example.com>", NORA),
        build_report(ID, NORA).replace(b"multipart/report", b"multipart/mixed"),
        build_report(ID, NORA).replace(b"message/delivery-status", b"text/plain"),
        b"Subject: Out of office\r\nIn-Reply-To: " + ID.encode() + b"\r\n\r\nI am away.",
        b"",
        b"\x00\xff" * 1000,
    ],
    ids=lambda raw: str(len(raw)),
)
def test_temporary_failures_are_ignored(raw: bytes) -> None:
    assert delivery_reports.read_report(raw) == []


def test_the_diagnostic_is_one_printable_line() -> None:
    said = "550\x1b[31m \u202eno\r\n such" + " user" * 200
    (found,) = delivery_reports.read_report(build_report(ID, NORA, said=said))
    assert len(found.reason) <= 300
    assert found.reason.isprintable()


HOSTILE = {
    "boundaries in boundaries": b"Content-Type: multipart/report; boundary=a\n\n"
    + b"".join(b"--a\nContent-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000)),
    "mails in mails": b"Content-Type: multipart/report; boundary=a\n\n--a\n"
    + b"Content-Type: message/rfc822\n\n" * 4000,
    "blocks": b"Content-Type: multipart/report; boundary=a\n\n--a\nContent-Type: message/delivery-status\n\n"
    + b"Action: failed\n\n" * 8000,
    "one long header": b"Content-Type: multipart/report; " + b"a=b; " * 25000,
    "folded": b"Content-Type: multipart/report;\n" + b" boundary*1*=%20\n" * 7000,
    "lines": build_report(ID, NORA) + b"\n" * 200_000,
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_was_made_to_keep_us_busy_does_not(raw: bytes) -> None:
    began = monotonic()
    delivery_reports.read_report(raw)
    assert monotonic() - began < 5


@given(st.data())
def test_a_report_with_anything_anywhere_never_raises(data: st.DataObject) -> None:
    raw = build_report(ID, NORA)
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(raw))] * 2)))
    for found in delivery_reports.read_report(raw[:start] + data.draw(st.binary(max_size=40)) + raw[end:]):
        assert found.is_permanent
        assert found.reason.isprintable()
