"""The way to a mail server: Django's own, patient while the server decides, and plain about what nobody can know."""

from __future__ import annotations

import smtplib
from typing import Any

from django.core.mail.backends.smtp import EmailBackend

#: How long a server may look at a whole mail before it answers, in seconds. RFC 5321, section 4.5.3.2.6, asks for ten
#: minutes; a sender's lease ends earlier, and with it the wait.
REPLY_TIMEOUT_SECONDS = 120.0


class ReplyMissing(smtplib.SMTPServerDisconnected):
    """The whole mail was handed over and no answer came: the server may have taken it, or not."""


class _PatientSMTP(smtplib.SMTP):
    """Waits longer for the answer to a whole mail than for any other, and tells when none came."""

    _is_decided = True

    def send(self, s: Any) -> None:
        """Send, and remember whether that was a mail's content: commands are text, contents are bytes."""
        super().send(s)
        self._is_decided = isinstance(s, str)

    def getreply(self) -> tuple[int, bytes]:
        """Return the server's reply. Raises Unanswered where it was about a whole mail and did not come."""
        if self._is_decided or self.sock is None:
            return super().getreply()
        before = self.sock.gettimeout()
        self.sock.settimeout(REPLY_TIMEOUT_SECONDS)
        try:
            answer = super().getreply()
        except smtplib.SMTPServerDisconnected as error:
            raise ReplyMissing(str(error)) from error
        finally:
            self._is_decided = True
        if self.sock is not None:
            self.sock.settimeout(before)
        return answer


class _PatientSMTPOverTLS(_PatientSMTP, smtplib.SMTP_SSL):
    """The same, with TLS from the first byte."""


class PatientEmailBackend(EmailBackend):
    """Send over SMTP, with the certificate of a server that speaks TLS checked against its name."""

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _PatientSMTPOverTLS if self.use_ssl else _PatientSMTP
