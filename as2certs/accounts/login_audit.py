"""Record logins, attempts and changes of second factors in the trail."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from allauth.account import signals as account_signals
from allauth.mfa import signals as factor_signals
from allauth.mfa.models import Authenticator
from django.contrib.auth import signals
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from as2certs.accounts import second_factors
from as2certs.accounts.models import Installation, User
from as2certs.accounts.throttling import THROTTLED_REASON, is_login_throttled
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, AuditEvent, client_address, record
from as2certs.clock import database_now


def _actor(request: HttpRequest | None, user: User | None) -> Actor:
    return Actor(
        name=str(user) if user else "somebody not logged in",
        source=Entry.Source.WEB if request else Entry.Source.COMMAND,
        user=user,
        address=client_address(request) if request else None,
    )


@receiver(signals.user_logged_in, dispatch_uid="accounts.trail.in")
def record_login(sender: object, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    """Record a login, with its methods of authentication unless it was the password alone."""
    methods = second_factors.methods_used(request, user) if request else []
    new = {"with": methods} if methods and methods != ["password"] else None
    with transaction.atomic():
        record(AuditEvent("person.logged_in", user, new=new), by=_actor(request, user), now=database_now())


@receiver(signals.user_logged_out, dispatch_uid="accounts.trail.out")
def record_logout(sender: object, request: HttpRequest | None, user: User | None, **kwargs: Any) -> None:
    """Record a logout, unless the session had expired already."""
    if user is None:
        return
    with transaction.atomic():
        record(AuditEvent("person.logged_out", user), by=_actor(request, user), now=database_now())


@receiver(signals.user_login_failed, dispatch_uid="accounts.trail.failed")
def record_failed_login(
    sender: object, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    """Record a failed login.

    An unknown user name is not recorded, since it may be a password typed into the wrong field.
    """
    user = User.objects.filter(username=str(credentials.get("username", ""))[:150]).first()
    with transaction.atomic():
        now = database_now()
        record(
            AuditEvent(
                "person.login_failed",
                user or Installation.current(),
                reason=_failure_reason(user, request, now),
            ),
            by=_actor(request, None),
            now=now,
        )


def _failure_reason(user: User | None, request: HttpRequest | None, now: datetime) -> str:
    address = client_address(request) if request else None
    if is_login_throttled(user, address=address, now=now):
        return THROTTLED_REASON
    return "" if user else "Nobody has the name that was given."


@receiver(account_signals.authentication_step_completed, dispatch_uid="accounts.trail.confirmed")
def record_reauthentication(
    sender: object, request: HttpRequest, user: User, method: str, reauthenticated: bool = False, **extra: Any
) -> None:
    """Record a reauthentication."""
    if reauthenticated:
        method_name = second_factors.METHOD_NAMES[str(extra.get("type") or method)]
        _record("person.confirmed", request, user, new={"with": method_name})


@receiver(factor_signals.authentication_failed, dispatch_uid="accounts.trail.code")
def record_refused_code(sender: object, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Record a wrong code, entered after the right password."""
    _record("person.code_refused", request, user)


@receiver(factor_signals.authenticator_used, dispatch_uid="accounts.trail.recovery")
def record_used_recovery_code(
    sender: object, request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any
) -> None:
    """Record the use of a recovery code, and how many are left."""
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        authenticator.refresh_from_db()
        left = len(authenticator.wrap().get_unused_codes())
        _record("person.recovery_code_used", request, user, new={"left": left})


@receiver(factor_signals.authenticator_added, dispatch_uid="accounts.trail.added")
def record_added_factor(sender: object, request: HttpRequest, user: User, authenticator: Any, **kwargs: Any) -> None:
    """Record a new second factor."""
    _record("person.second_factor_added", request, user, new=_factor_values(authenticator))


@receiver(factor_signals.authenticator_removed, dispatch_uid="accounts.trail.removed")
def record_removed_factor(sender: object, request: HttpRequest, user: User, authenticator: Any, **kwargs: Any) -> None:
    """Record the removal of a second factor by its owner."""
    _record("person.second_factor_removed", request, user, new=_factor_values(authenticator))


@receiver(factor_signals.authenticator_reset, dispatch_uid="accounts.trail.codes")
def record_new_recovery_codes(sender: object, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Record new recovery codes, which invalidate the old ones."""
    _record("person.recovery_codes_made", request, user)


def _record(verb: str, request: HttpRequest, user: User, *, new: dict[str, Any] | None = None) -> None:
    by = _actor(request, user if request.user.is_authenticated else None)
    with transaction.atomic():
        record(AuditEvent(verb, user, new=new), by=by, now=database_now())


def _factor_values(authenticator: Authenticator) -> dict[str, str]:
    kind = second_factors.METHOD_NAMES[authenticator.type] + "s" * (
        authenticator.type == Authenticator.Type.RECOVERY_CODES
    )
    name = str(authenticator.data.get("name", ""))
    return {"kind": kind, **({"name": name} if name else {})}
