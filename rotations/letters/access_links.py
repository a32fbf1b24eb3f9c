"""Links to a partner's page: created, found by their token, revoked.

A token has 256 random bits, and only its SHA-256 is stored: it can't be guessed, read from the database, or found by
timing, since an attacker can't choose the hashes that the database compares.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_moment
from partners.models import Contact, Partner
from rotations.errors import LinkExpired
from rotations.models import Link, Participant

#: How long a link works after its rotation has ended.
VISIBLE_AFTER_END = timedelta(days=30)
#: How long a link for submitting a certificate works, unless a date is given.
SUBMISSION_LIFETIME = timedelta(days=120)


@dataclass(frozen=True)
class NewLink:
    """A new link and its URL, which holds the only copy of the token."""

    link: Link
    url: str

    def __repr__(self) -> str:
        return f"<Fresh {self.link.uid}>"


def hash_token(token: str) -> str:
    """Return the SHA-256 of a token in hex, which is stored in its place."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def create_link(
    partner: Partner,
    *,
    participant: Participant | None,
    contact: Contact | None,
    by: Actor,
    now: datetime,
    expires_at: datetime | None = None,
) -> NewLink:
    """Create a link to a partner's page, in the caller's transaction.

    With a participant it expires some time after the rotation, or at ``expires_at`` if that is earlier. Without one it
    is for submitting the partner's own certificate.
    """
    token = secrets.token_urlsafe(32)
    if participant is None and expires_at is None:
        expires_at = now + SUBMISSION_LIFETIME
    link = Link.objects.create(
        partner=partner,
        participant=participant,
        contact=contact,
        whose=contact.name if contact else "",
        confirmed=contact is not None and contact.confirmed_at is not None,
        token_hash=hash_token(token),
        created_at=now,
        created_by=by.name,
        expires_at=expires_at,
    )
    record(
        AuditEvent(
            "link.made",
            link,
            also=[partner, *([participant.rotation] if participant else [])],
            new={
                "for": link.whose or str(partner),
                **({"expires": expires_at.isoformat()} if expires_at else {}),
            },
        ),
        by=by,
        now=now,
    )
    return NewLink(link, settings.AS2CERTS_BASE_URL + reverse("portal", args=[token]))


def find_link(token: str) -> Link | None:
    """Return the link with this token, even if it was revoked or has expired; None if there is none."""
    return (
        Link.objects.select_related("partner", "contact", "participant__partner", "participant__rotation")
        .filter(token_hash=hash_token(token))
        .first()
    )


def require_active_link(link: Link, *, now: datetime) -> None:
    """Raise LinkExpired if the link was revoked or has expired."""
    if link.revoked_at is not None:
        raise LinkExpired("This link was withdrawn, because it may have come into other hands. Ask us for a new one.")
    if link.expires_at is not None and link.expires_at <= now:
        raise LinkExpired(
            f"This link ended on {format_moment(link.expires_at, 'UTC', 'long_day')}. Ask us for a new one."
        )
    if link.participant is None:
        return
    ended = link.participant.rotation.ended_at
    if ended is not None and ended + VISIBLE_AFTER_END <= now:
        raise LinkExpired(
            f"The change that this link was for ended on {format_moment(ended, 'UTC', 'long_day')}. "
            "There is nothing left to do."
        )
    if link.participant.is_removed:
        raise LinkExpired("This change no longer concerns you: you have nothing to do, and nothing changes for you.")


@transaction.atomic
def revoke_link(link: Link, *, reason: str, by: Actor, now: datetime) -> bool:
    """Revoke a link; return False if it was revoked before."""
    if not Link.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=now, revoked_by=by.name):
        return False
    also = [link.partner, *([link.participant.rotation] if link.participant else [])]
    record(AuditEvent("link.revoked", link, also=also, new={"for": str(link)}, reason=reason), by=by, now=now)
    return True


def record_fetched(link: Link, *, by: Actor, now: datetime) -> None:
    """Record the address that used a link and, the first time, that it was fetched.

    A GET shows nothing about a person: mail scanners fetch every link of a mail. See ``record_opened``.
    """
    if link.last_address != by.address:
        Link.objects.filter(pk=link.pk).update(last_address=by.address)
    if link.fetched_at is not None:
        return
    with transaction.atomic():
        if not Link.objects.filter(pk=link.pk, fetched_at=None).update(fetched_at=now):
            return
        link.fetched_at = now
        _record_first(link, "fetched_at", "participant.fetched", by=_unknown(link, by), now=now)


def record_opened(link: Link, *, by: Actor, now: datetime) -> None:
    """Record the address that used a link and, the first time, that a person opened its page.

    Call this only for what a mail scanner does not do, such as posting a form. An opened page is not an answer.
    """
    if link.last_address != by.address:
        Link.objects.filter(pk=link.pk).update(last_address=by.address)
    if link.opened_at is not None:
        return
    with transaction.atomic():
        if not Link.objects.filter(pk=link.pk, opened_at=None).update(opened_at=now):
            return
        link.opened_at = now
        _record_first(link, "opened_at", "participant.opened", by=by, now=now)


def record_file_fetched(link: Link, form: str, *, by: Actor, now: datetime) -> None:
    """Record the first GET of the certificate's file, by a person's curl or by a mail scanner: nobody can tell."""
    with transaction.atomic():
        _record_first(link, "file_fetched_at", "participant.file_fetched", by=_unknown(link, by), now=now, form=form)


def record_download(link: Link, form: str, *, by: Actor, now: datetime) -> None:
    """Record the first download of the certificate by a person, who pressed a button of the page."""
    with transaction.atomic():
        _record_first(link, "downloaded_at", "participant.downloaded", by=by, now=now, form=form)


def _unknown(link: Link, by: Actor) -> Actor:
    """Return the actor of a GET: unless somebody is logged in, the trail must not name the owner of the link."""
    if by.user is not None:
        return by
    owner = f"{link.whose} ({link.partner})" if link.whose else str(link.partner)
    return replace(by, name=f"a person or a mail scanner, by the link of {owner}"[:200])


def _record_first(link: Link, column: str, verb: str, *, by: Actor, now: datetime, **new: str) -> None:
    participant = link.participant
    if participant is None:
        return
    first = Participant.objects.filter(pk=participant.pk, **{f"{column}__isnull": True})
    if first.update(**{column: now}):
        rotation = participant.rotation
        record(AuditEvent(verb, rotation, also=[rotation.holder, link.partner], new=dict(new)), by=by, now=now)
