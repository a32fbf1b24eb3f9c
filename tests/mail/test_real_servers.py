"""Send to a mail server process: TLS, certificates, logins, and servers that do not reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mail.smtp_server import SmtpServer, make_server_certificates
from tests.stack import Stack

SEND = """
import json
from django.conf import settings
from as2certs.clock import database_now
from as2certs.mail import outbox, smtp
from as2certs.mail.models import Message
smtp.REPLY_TIMEOUT_SECONDS, settings.EMAIL_TIMEOUT = VERDICT, TIMEOUT
now = database_now()
Message.objects.get_or_create(key="k", defaults=dict(
    kind="test", to_address="kim@example.com", subject="s", text="t", message_id="<one@example.com>",
    created_at=now, due_at=now))
said = []
for _ in range(ROUNDS):
    Message.objects.filter(state="queued").update(due_at=now)
    outbox.send_due(now=now)
    said += Message.objects.values_list("state", "attempts", "error")
print(json.dumps(said))
"""
LOGIN = "us@example.com:p/w:d"
IN_URL = "us%40example.com:p%2Fw%3Ad@"


def send(stack: Stack, *, rounds: int = 1, verdict: float = 20, timeout: float = 20) -> list[list[Any]]:
    """Send one mail in a separate process, and return its state, attempts and error after each round."""
    code = SEND.replace("VERDICT,", f"{verdict},").replace("TIMEOUT\n", f"{timeout}\n")
    found: list[list[Any]] = stack.python(code.replace("ROUNDS", str(rounds)))
    return found


@contextmanager
def running(**options: Any) -> Iterator[SmtpServer]:
    office = SmtpServer(**options)
    try:
        office.start()
        yield office
    finally:
        office.close()


@pytest.mark.extended
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_it_sends_over_tls_with_a_login(make_stack: Callable[..., Stack], tmp_path: Path, tls: str) -> None:
    shown = make_server_certificates(tmp_path)
    scheme = {"starttls": "smtp+tls", "implicit": "smtp+ssl"}[tls]
    with running(tls=tls, shown=shown.shown, login=LOGIN) as office:
        stack = make_stack(
            email_url=f"{scheme}://{IN_URL}localhost:{office.port}",
            environment={"SSL_CERT_FILE": str(shown.authority)},
        )
        assert send(stack) == [["sent", 1, ""]]
        (mail,) = office.taken
    assert mail["X-TLS"].startswith("TLSv1.")
    assert mail["X-Login"] == "True"
    assert mail["Message-ID"] == "<one@example.com>"


@pytest.mark.parametrize(
    ("scheme", "name", "said"),
    [
        ("smtp+tls", "localhost", "unable to get local issuer certificate"),
        pytest.param("smtp+ssl", "localhost", "unable to get local issuer certificate", marks=pytest.mark.extended),
        ("smtp+tls", "mail.example.com", "Hostname mismatch"),
    ],
)
def test_a_server_with_another_certificate_gets_no_mail_and_no_password(
    make_stack: Callable[..., Stack], tmp_path: Path, scheme: str, name: str, said: str
) -> None:
    shown = make_server_certificates(tmp_path, name)
    trusted = {} if name == "localhost" else {"SSL_CERT_FILE": str(shown.authority)}
    tls = "starttls" if scheme == "smtp+tls" else "implicit"
    with running(tls=tls, shown=shown.shown, login=LOGIN) as office:
        stack = make_stack(email_url=f"{scheme}://{IN_URL}localhost:{office.port}", environment=trusted)
        ((state, attempts, error),) = send(stack)
        assert office.taken == []
    assert (state, attempts) == ("queued", 0)
    assert f"The mail server localhost:{office.port} can't be used: its certificate was refused ({said}" in error
    assert "SSL_CERT_FILE names a file with others" in error
    assert "p/w" not in error


def test_a_server_that_can_not_starttls_gets_nothing_in_plain(make_stack: Callable[..., Stack]) -> None:
    with running() as office:
        ((state, attempts, error),) = send(make_stack(email_url=f"smtp+tls://{IN_URL}localhost:{office.port}"))
        assert office.taken == []
    assert (state, attempts) == ("queued", 0)
    assert "can't be used: STARTTLS extension not supported by server." in error


def test_the_wrong_tls_mode_is_reported(make_stack: Callable[..., Stack]) -> None:
    with running() as office:
        ((state, attempts, error),) = send(make_stack(email_url=f"smtp+ssl://localhost:{office.port}"))
    assert (state, attempts) == ("queued", 0)
    assert "TLS failed (WRONG_VERSION_NUMBER). EMAIL_URL says how TLS begins" in error


def test_a_wrong_password_loses_nothing_and_is_reported_without_it(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    shown = make_server_certificates(tmp_path)
    with running(tls="starttls", shown=shown.shown, login="us:another") as office:
        stack = make_stack(
            email_url=f"smtp+tls://{IN_URL}localhost:{office.port}",
            environment={"SSL_CERT_FILE": str(shown.authority)},
        )
        ((state, attempts, error),) = send(stack)
        assert office.taken == []
    assert (state, attempts) == ("queued", 0)
    assert "can't be used: 535 " in error
    assert "p/w" not in error


def test_a_server_that_recovers_gets_the_mail_once(
    make_stack: Callable[..., Stack],
) -> None:
    with running() as office:
        stack = make_stack(email_url=f"smtp://localhost:{office.port}")
        office.kill()
        ((state, attempts, error),) = send(stack)
        assert (state, attempts) == ("queued", 0)
        assert "can't be used: Connection refused." in error
        office.start()
        office.pause()
        ((state, attempts, error),) = send(stack, timeout=0.5)
        assert (state, attempts) == ("queued", 0)
        assert "can't be used" in error
        assert "timed out" in error
        office.resume()
        assert send(stack, rounds=2) == [["sent", 1, ""]] * 2
        assert [mail["Message-ID"] for mail in office.taken] == ["<one@example.com>"]


@pytest.mark.extended
def test_a_server_that_looks_long_at_a_mail_gets_it_once(make_stack: Callable[..., Stack]) -> None:
    with running(wait=4) as office:  # longer than the usual time-out, shorter than that for a verdict
        stack = make_stack(email_url=f"smtp://localhost:{office.port}")
        assert send(stack, rounds=2, timeout=3) == [["sent", 1, ""]] * 2
        assert len(office.taken) == 1


@pytest.mark.faults(row=12)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"mute": 9}, id="it hangs up"),
        pytest.param({"wait": 60}, id="it never answers", marks=pytest.mark.extended),
    ],
)
def test_a_mail_without_a_reply_is_sent_twice_at_most(make_stack: Callable[..., Stack], fault: dict[str, Any]) -> None:
    with running(**fault) as office:
        stack = make_stack(email_url=f"smtp://localhost:{office.port}")
        found = send(stack, rounds=3, verdict=1)
        assert [state for state, _, _ in found] == ["queued", "failed", "failed"]
        assert [mail["Message-ID"] for mail in office.taken] == ["<one@example.com>"] * 2
    error = found[-1][2]
    assert "was given the whole mail, and did not say whether it took it" in error
    assert error.endswith("It may have arrived: ask whom it is for before you send it again.")
