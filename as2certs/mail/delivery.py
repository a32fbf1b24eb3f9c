"""Transmit one mail to the mail server, and classify its response."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import format_datetime, formataddr
from enum import Enum
from types import TracebackType
from typing import Self

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection

from as2certs.mail.models import Message
from as2certs.mail.sealed_values import fill_in, unseal_values
from as2certs.mail.smtp import ReplyMissing
from as2certs.mail.unsubscribe import unsubscribe_headers
from as2certs.pki import VaultError

#: Replaces the unsubscribe token in a header that is displayed.
REDACTED = "left-out-here"


class DeliveryVerdict(Enum):
    """The result of a delivery attempt."""

    SENT = "sent"
    LATER = "later"
    NEVER = "never"
    UNSURE = "unsure"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class DeliveryResult:
    """The verdict on an attempt, and the reason as a sentence that a person can act on."""

    verdict: DeliveryVerdict
    reason: str = ""


def build_email(message: Message) -> EmailMultiAlternatives:
    """Build the mail from its row, always with the same Message-ID and date.

    Raises VaultError if its private parts can't be decrypted.
    """
    return _build_email(message, unseal_values(message))


def _build_email(message: Message, private: Mapping[str, str], *, cover: str = "") -> EmailMultiAlternatives:
    email = EmailMultiAlternatives(
        subject=message.subject,
        body=fill_in(message.text, private),
        to=[formataddr((message.to_name, message.to_address))],
        reply_to=[message.reply_to] if message.reply_to else None,
        headers={
            "Message-ID": message.message_id,
            "Date": format_datetime(message.created_at),
            "Auto-Submitted": "auto-generated",
            **unsubscribe_headers(message, cover=cover),
        },
    )
    if message.html:
        email.attach_alternative(fill_in(message.html, private), "text/html")
    # A preview is built from an unsaved row, which has no attachments.
    for attachment in message.attachments.all() if message.pk else ():
        content = bytes(attachment.content)
        if attachment.content_type.startswith("text/calendar"):
            # As an alternative part, mail programs offer to add the entry; as an attachment, people can keep it.
            email.attach_alternative(content.decode(), attachment.content_type)
        email.attach(attachment.name, content, attachment.content_type)
    return email


def format_header(message: Message) -> str:
    """Return the header of the mail as it is transmitted; "" if none can be built.

    The unsubscribe token is redacted.
    """
    try:
        raw = _build_email(message, {}, cover=REDACTED).message().as_bytes()
    except ValueError:
        return ""
    return raw.partition(b"\n\n")[0].decode("utf-8", "replace")


class MailConnection:
    """One connection to the mail server for several mails, reopened after an error."""

    def __init__(self) -> None:
        self._connection = get_connection()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; errors are ignored, since the server may have closed it first."""
        with suppress(OSError):
            self._connection.close()

    def connect(self) -> DeliveryResult | None:
        """Open the connection unless it is open; return the result for all mails if that fails."""
        try:
            self._connection.open()
        except OSError as error:  # smtplib's errors are OSErrors
            self.close()
            return DeliveryResult(
                DeliveryVerdict.UNREACHABLE, f"{destination()} can't be used: {describe_error(error)}"
            )
        return None

    def deliver(self, message: Message) -> DeliveryResult:
        """Attempt to transmit a mail once."""
        if (failure := self.connect()) is not None:
            return failure
        try:
            self._connection.send_messages([build_email(message)])
        except VaultError as error:
            return DeliveryResult(DeliveryVerdict.NEVER, f"The link in this mail can't be opened any more. {error}")
        except (OSError, ValueError) as error:
            self.close()
            return classify_error(error, message.to_address)
        return DeliveryResult(DeliveryVerdict.SENT)


def destination() -> str:
    """Return the name of the mail server or folder, as the beginning of a sentence."""
    if uses_mail_folder():
        return f"The mail folder {settings.AS2CERTS_MAIL_FOLDER}"
    return f"The mail server {settings.EMAIL_HOST}:{settings.EMAIL_PORT}"


def uses_mail_folder() -> bool:
    """Return whether mail is stored in the local folder because no mail server is configured."""
    return bool(settings.EMAIL_BACKEND == "as2certs.mail.backends.FolderBackend")


def classify_error(error: OSError | ValueError, address: str) -> DeliveryResult:
    """Return whether retrying can help: 5xx replies are permanent, RFC 5321, section 4.2.1."""
    match error:
        case ReplyMissing():
            return DeliveryResult(
                DeliveryVerdict.UNSURE,
                f"{destination()} was given the whole mail, and did not say whether it took it: "
                f"{describe_error(error)}",
            )
        case smtplib.SMTPRecipientsRefused():
            code, answer = next(iter(error.recipients.values()))
            reply = _format_reply(code, answer)
            return _classify_code(code, f"The mail server refused the address {address}: {reply}")
        case smtplib.SMTPSenderRefused():
            # Our own address is a matter of configuration: once it is corrected, the mail can be sent.
            reply = _format_reply(error.smtp_code, error.smtp_error)
            return DeliveryResult(
                DeliveryVerdict.LATER,
                f"The mail server refused our address {error.sender} as sender: {reply}",
            )
        case smtplib.SMTPResponseException():
            reply = _format_reply(error.smtp_code, error.smtp_error)
            return _classify_code(error.smtp_code, f"The mail server refused the mail: {reply}")
        case smtplib.SMTPNotSupportedError() | ValueError():
            return DeliveryResult(
                DeliveryVerdict.NEVER,
                f"A mail to “{address}” can't be written: {describe_error(error)} Correct the address.",
            )
        case _:
            return DeliveryResult(
                DeliveryVerdict.LATER, f"{destination()} did not take the mail: {describe_error(error)}"
            )


def _classify_code(code: int, reason: str) -> DeliveryResult:
    return DeliveryResult(DeliveryVerdict.NEVER if code >= 500 else DeliveryVerdict.LATER, reason)


def _format_reply(code: int, reply: bytes | str) -> str:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return f"{code} {' '.join(text.split())}".strip()


def describe_error(error: OSError | ValueError) -> str:
    """Return an error of the operating system, of smtplib or of Django's mail as a phrase that ends a sentence."""
    if isinstance(error, smtplib.SMTPResponseException):
        return _format_reply(error.smtp_code, error.smtp_error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate was refused ({error.verify_message.rstrip('.')}). It has to be valid for the name in "
            "EMAIL_URL, and come from an authority that this machine trusts; SSL_CERT_FILE names a file with others."
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"TLS failed ({error.reason or error}). EMAIL_URL says how TLS begins: smtp+ssl:// at once, "
            "smtp+tls:// after STARTTLS."
        )
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.rstrip(".") + "."
