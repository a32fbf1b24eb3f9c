"""An SMTP backend that waits longer for the reply to a whole mail, and reports when that reply is missing."""

from __future__ import annotations

import smtplib
from typing import Any

from django.core.mail.backends.smtp import EmailBackend

#: How long to wait for the reply to a whole mail. RFC 5321, section 4.5.3.2.6, recommends ten minutes; a sender's lease
#: ends before that.
REPLY_TIMEOUT_SECONDS = 120.0


class ReplyMissing(smtplib.SMTPServerDisconnected):
    """The whole mail was transmitted without a reply: the server may or may not have accepted it."""


class _PatientSMTP(smtplib.SMTP):
    """Waits longer for the reply to a whole mail than for others, and reports when it is missing."""

    _replied = True

    def send(self, s: Any) -> None:
        """Send, and note whether it was a mail's content: commands are str, contents are bytes."""
        super().send(s)
        self._replied = isinstance(s, str)

    def getreply(self) -> tuple[int, bytes]:
        """Return the server's reply. Raises ReplyMissing if the reply to a whole mail did not arrive."""
        if self._replied or self.sock is None:
            return super().getreply()
        before = self.sock.gettimeout()
        self.sock.settimeout(REPLY_TIMEOUT_SECONDS)
        try:
            answer = super().getreply()
        except smtplib.SMTPServerDisconnected as error:
            raise ReplyMissing(str(error)) from error
        finally:
            self._replied = True
        if self.sock is not None:
            self.sock.settimeout(before)
        return answer


class _PatientSMTPOverTLS(_PatientSMTP, smtplib.SMTP_SSL):
    """The same over implicit TLS."""


class PatientEmailBackend(EmailBackend):
    """Send over SMTP, verifying the server's certificate when TLS is used."""

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _PatientSMTPOverTLS if self.use_ssl else _PatientSMTP
