"""A real SMTP server that accepts, refuses or disconnects, as scripted for each address."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope, Session

from tests.servers import free_port

LATER = "450 mailbox busy, try again later"
NEVER = "550 no such user here"


class ScriptedSmtpServer:
    """Stores accepted mails in ``accepted``, and counts connections and senders.

    ``rcpt`` and ``data`` map an address to the reply that it gets there; ``drops`` are addresses whose mail is accepted
    and kept, but the connection is closed before the reply.
    """

    def __init__(self) -> None:
        self.accepted: list[tuple[str, EmailMessage]] = []
        self.connections = 0
        self.rcpt: dict[str, str] = {}
        self.data: dict[str, str] = {}
        self.drops: set[str] = set()
        self.senders: dict[str, str] = {}
        self.on_data: Callable[[], None] = lambda: None
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    def __enter__(self) -> Self:
        self._controller.start()
        # The controller connects once to see whether the server is running.
        self.connections = 0
        return self

    def __exit__(self, *args: object) -> None:
        self._controller.stop(no_assert=True)

    def ids_for(self, address: str) -> list[str]:
        """Return the Message-IDs of the mails accepted for an address."""
        return [message["Message-ID"] for to, message in self.accepted if to == address]

    async def handle_EHLO(
        self, server: Any, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.senders:
            return self.senders[address]
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.rcpt:
            return self.rcpt[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        (address,) = envelope.rcpt_tos
        if address in self.data:
            return self.data[address]
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.accepted.append((address, message))
        self.on_data()
        if address in self.drops:
            self.drops.discard(address)
            server.transport.abort()
        return "250 taken"
