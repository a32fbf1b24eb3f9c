"""Read the bounce mailbox over IMAP (RFC 3501) with TLS, without changing it."""

from __future__ import annotations

import imaplib
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from urllib.parse import unquote, urlsplit

from django.conf import settings

from as2certs.mail import delivery_reports
from as2certs.mail.delivery import describe_error
from as2certs.mail.errors import MailboxError
from as2certs.mail.models import Postbox

#: How long the server may take for one response.
TIMEOUT_SECONDS = 20
#: How many mails are read in one run; the next run continues.
MAX_PER_ROUND = 100
#: How far back the first run on a mailbox goes.
LOOK_BACK = timedelta(days=14)

_UID_VALIDITY = re.compile(rb"\d{1,10}")

#: A mailbox that could not be read for this long is reported.
FAILURE_GRACE = timedelta(minutes=15)


def is_set_up() -> bool:
    """Return whether a bounce mailbox is configured."""
    return bool(settings.AS2CERTS_BOUNCES_MAILBOX)


def find_problem(now: datetime) -> str:
    """Return why bounces go unnoticed; empty if the mailbox is being read, or none is configured."""
    postbox = Postbox.objects.filter(pk=1).first() if is_set_up() else None
    if postbox is None:
        return ""
    if postbox.failing_since and postbox.failing_since < now - FAILURE_GRACE:
        return postbox.error
    if not postbox.failing_since and postbox.read_at and postbox.read_at < now - FAILURE_GRACE:
        return "Nobody has read the mailbox of AS2CERTS_BOUNCES_MAILBOX lately: is a worker with beat running?"
    return ""


def read_new(handle: Callable[[bytes], None], *, now: datetime) -> int:
    """Pass the beginning of each new mail to ``handle``, and return how many there were.

    The mailbox is opened read-only; the position is stored in the database after each mail. ``handle`` must be
    idempotent: after a crash it may receive the same mail again. Raises MailboxError, after storing the error.
    """
    postbox = Postbox.objects.get_or_create(pk=1)[0]
    count = 0
    try:
        with _open_folder() as (connection, validity):
            if validity != postbox.uid_validity:
                postbox.uid_validity, postbox.last_uid = validity, 0
            for uid in _find_new(connection, postbox.last_uid, now):
                handle(_fetch_beginning(connection, uid))
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
    """Open the folder read-only, and yield the connection and its UIDVALIDITY. Raises OSError, IMAP4.error."""
    url = urlsplit(settings.AS2CERTS_BOUNCES_MAILBOX)
    context = ssl.create_default_context()  # imaplib's own does not verify the certificate
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
    """Return the UIDs of the mails after the last one that was read, oldest first."""
    since = (now - LOOK_BACK).date()
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    wanted = f"UID {last + 1}:*" if last else f"SINCE {since.day:02}-{months[since.month - 1]}-{since.year}"
    _, answer = connection.uid("SEARCH", wanted)
    found = {int(word) for line in answer if isinstance(line, bytes) for word in line.split() if word.isdigit()}
    # "7:*" also matches the last mail if its UID is 6.
    return sorted(uid for uid in found if uid > last)[:MAX_PER_ROUND]


def _fetch_beginning(connection: imaplib.IMAP4, uid: int) -> bytes:
    """Return the first bytes of a mail; nothing if it was deleted in the meantime."""
    _, answer = connection.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{delivery_reports.MAX_BYTES}>)")
    return next((part[1] for part in answer if isinstance(part, tuple)), b"")


def _quote(folder: str) -> str:
    """Return a folder's name as a quoted string, RFC 3501, section 9."""
    return '"' + folder.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _describe_failure(error: OSError | imaplib.IMAP4.error) -> str:
    url = urlsplit(settings.AS2CERTS_BOUNCES_MAILBOX)
    if isinstance(error, OSError):
        reason = describe_error(error).replace("EMAIL_URL", "AS2CERTS_BOUNCES_MAILBOX")
    else:
        text = error.args[0] if error.args else type(error).__name__
        reason = " ".join((text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).split())
    return f"The mailbox on {url.hostname} can't be read: {reason[:300]}"
