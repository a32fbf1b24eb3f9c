"""Fixtures of the mail tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.mail.scripted_smtp import ScriptedSmtpServer


@pytest.fixture
def smtp(settings: Any) -> Iterator[ScriptedSmtpServer]:
    """Return a running mail server that Django sends to."""
    with ScriptedSmtpServer() as server:
        settings.EMAIL_BACKEND = "as2certs.mail.smtp.PatientEmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        settings.EMAIL_TIMEOUT = 5
        yield server
