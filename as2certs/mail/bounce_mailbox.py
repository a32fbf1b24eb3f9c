"""The mailbox in which mails come back: read over IMAP (RFC 3501) with TLS, and left as it is."""

from __future__ import annotations

import imaplib
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from urllib.parse import unquote, urlsplit

from django.conf import settings

from as2certs.errors import DomainError
from as2certs.mail import delivery_reports
from as2certs.mail.delivery import describe_error
from as2certs.mail.models import Postbox

#: How long the server may take for one answer, in seconds.
TIMEOUT_SECONDS = 20
#: So many mails are looked at in one round; the next goes on.
MAX_PER_ROUND = 100
#: Of a mailbox that is new to us, mails of so long ago are looked at.
LOOK_BACK = timedelta(days=14)

_UID_VALIDITY = re.compile(rb"\d{1,10}")

#: A mailbox that can't be read for so long is a trouble that somebody should look at.
FAILURE_GRACE = timedelta(minutes=15)


class MailboxError(DomainError):
    """The mailbox can't be read; the message says why, without the password."""


def is_set_up() -> bool:
    """Say whether there is a mailbox to read."""
    return bool(settings.AS2CERTS_BOUNCES_MAILBOX)


def find_problem(now: datetime) -> str:
    """Say why mails that come back go unnoticed; empty while all is well, or no mailbox is set up."""
    postbox = Postbox.objects.filter(pk=1).first() if is_set_up() else None
    if postbox is None:
        return ""
    if postbox.failing_since and postbox.failing_since < now - FAILURE_GRACE:
        return postbox.error
    if not postbox.failing_since and postbox.read_at and postbox.read_at < now - FAILURE_GRACE:
        return (
            "Nobody has read the mailbox of AS2CERTS_BOUNCES_MAILBOX lately: is a worker with beat running?"
        )
    return ""


def read_new(take: Callable[[bytes], None], *, now: datetime) -> int:
    """Give each mail that is new to ``take``, the beginning of it, and return how many there were.

    How far it was read is remembered after each mail, in the database: the mailbox is opened read-only, so nobody
    else who reads it notices. What ``take`` does has to bear a second time, for when we die in between. Raises
    PostboxError, and remembers that too.
    """
    postbox = Postbox.objects.get_or_create(pk=1)[0]
    count = 0
    try:
        with _open_folder() as (connection, validity):
            if validity != postbox.uid_validity:
                postbox.uid_validity, postbox.last_uid = validity, 0
            for uid in _find_new(connection, postbox.last_uid, now):
                take(_fetch_beginning(connection, uid))
                postbox.last_uid = uid
                postbox.save(update_fields=["uid_validity", "last_uid"])
                count += 1
    except (OSError, imaplib.IMAP4.error) as error:
        postbox.failing_since = postbox.failing_since or now
        postbox.error = _describe_failure(error)
        postbox.save(update_fields=["failing_since", "error"])
        raise MailboxError(postbox.error) from error
    postbox.read_at, postbox.failing_since, postbox.error = now, None, ""
    postbox.save()
    return count


@contextmanager
def _open_folder() -> Iterator[tuple[imaplib.IMAP4, int]]:
    """Open the folder for reading, and yield it with the number by which its ids are valid. Raises OSError, error."""
    url = urlsplit(settings.AS2CERTS_BOUNCES_MAILBOX)
    context = ssl.create_default_context()  # imaplib's own does not look at the certificate
    connection: imaplib.IMAP4
    host = url.hostname or ""
    if url.scheme == "imaps":
        connection = imaplib.IMAP4_SSL(host, url.port or 993, ssl_context=context, timeout=TIMEOUT_SECONDS)
    else:
        connection = imaplib.IMAP4(host, url.port or 143, timeout=TIMEOUT_SECONDS)
    try:
        if url.scheme != "imaps":
            connection.starttls(context)
        connection.login(unquote(url.username or ""), unquote(url.password or ""))
        folder = unquote(url.path.strip("/")) or "INBOX"
        if connection.select(_quote(folder), readonly=True)[0] != "OK":
            raise imaplib.IMAP4.error(f"the folder {folder} can't be opened")
        validity = _UID_VALIDITY.search((connection.response("UIDVALIDITY")[1] or [b""])[0] or b"")
        yield connection, int(validity[0]) if validity else 0
    finally:
        with suppress(OSError, imaplib.IMAP4.error):
            connection.logout()


def _find_new(connection: imaplib.IMAP4, last: int, now: datetime) -> list[int]:
    """Return the ids of the mails that came after the last one that was read, the oldest first."""
    since = (now - LOOK_BACK).date()
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    wanted = f"UID {last + 1}:*" if last else f"SINCE {since.day:02}-{months[since.month - 1]}-{since.year}"
    _, answer = connection.uid("SEARCH", wanted)
    found = {
        int(word) for line in answer if isinstance(line, bytes) for word in line.split() if word.isdigit()
    }
    # "7:*" names the last mail too, when that is the sixth.
    return sorted(uid for uid in found if uid > last)[:MAX_PER_ROUND]


def _fetch_beginning(connection: imaplib.IMAP4, uid: int) -> bytes:
    """Return as much of a mail as is read; nothing where it was removed in the meantime."""
    _, answer = connection.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{delivery_reports.MAX_BYTES}>)")
    return next((part[1] for part in answer if isinstance(part, tuple)), b"")


def _quote(folder: str) -> str:
    """Write a folder's name as a quoted string, RFC 3501, section 9."""
    return '"' + folder.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _describe_failure(error: OSError | imaplib.IMAP4.error) -> str:
    url = urlsplit(settings.AS2CERTS_BOUNCES_MAILBOX)
    if isinstance(error, OSError):
        said = describe_error(error).replace("EMAIL_URL", "AS2CERTS_BOUNCES_MAILBOX")
    else:
        text = error.args[0] if error.args else type(error).__name__
        said = " ".join((text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).split())
    return f"The mailbox on {url.hostname} can't be read: {said[:300]}"
