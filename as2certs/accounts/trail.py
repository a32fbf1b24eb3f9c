"""Note in the trail who logs in and out, and who tries to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth import signals
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from as2certs.accounts.models import Installation, User
from as2certs.accounts.patience import NOT_LOOKED_AT, is_resting
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, address_of, record
from as2certs.clock import database_now


def _somebody(request: HttpRequest | None, user: User | None) -> Actor:
    return Actor(
        name=str(user) if user else "somebody not logged in",
        source=Entry.Source.WEB if request else Entry.Source.COMMAND,
        user=user,
        address=address_of(request) if request else None,
    )


@receiver(signals.user_logged_in, dispatch_uid="accounts.trail.in")
def logged_in(sender: object, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    """Record a login."""
    with transaction.atomic():
        record("person.logged_in", on=user, by=_somebody(request, user), now=database_now())


@receiver(signals.user_logged_out, dispatch_uid="accounts.trail.out")
def logged_out(sender: object, request: HttpRequest | None, user: User | None, **kwargs: Any) -> None:
    """Record a log-out; there is nobody to name when the session was over already."""
    if user is None:
        return
    with transaction.atomic():
        record("person.logged_out", on=user, by=_somebody(request, user), now=database_now())


@receiver(signals.user_login_failed, dispatch_uid="accounts.trail.failed")
def login_failed(
    sender: object, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    """Record a login that failed.

    A name that nobody has is not written down: people type their password into the wrong field.
    """
    user = User.objects.filter(username=str(credentials.get("username", ""))[:150]).first()
    with transaction.atomic():
        now = database_now()
        record(
            "person.login_failed",
            on=user or Installation.current(),
            by=_somebody(request, None),
            now=now,
            reason=_why(user, request, now),
        )


def _why(user: User | None, request: HttpRequest | None, now: datetime) -> str:
    if user is None:
        return "Nobody has the name that was given."
    address = address_of(request) if request else None
    return NOT_LOOKED_AT if is_resting(user, address=address, now=now) else ""
