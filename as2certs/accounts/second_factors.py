"""Second factors: authenticator apps, passkeys and recovery codes, which django-allauth keeps in one table."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from django.contrib.auth.signals import user_logged_in
from django.db import transaction
from django.dispatch import receiver
from django.http import HttpRequest

from as2certs.accounts.models import Installation, User
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.pki.errors import VaultError
from as2certs.vault import vault

#: Labels of the methods of authentication.
METHOD_NAMES = {
    "totp": "authenticator app",
    "webauthn": "passkey",
    "recovery_codes": "recovery code",
    "password": "password",
    "socialaccount": "single sign-on",
}
#: Recovery codes are none: they only replace a factor that was lost.
FACTOR_TYPES = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
#: Session key: the user still has to add a second factor.
MISSING_SESSION_KEY = "second_factor_missing"
#: Parts of Authenticator.data that are sealed.
SEALED_FIELDS = ("secret", "seed")


def has_second_factor(user: User) -> bool:
    """Return whether the user has a second factor."""
    return Authenticator.objects.filter(user=user, type__in=FACTOR_TYPES).exists()


def methods_used(request: HttpRequest, user: User) -> list[str]:
    """Return the labels of the methods by which the user authenticated in this session, in their order."""
    records = get_authentication_records(request, user)
    return [METHOD_NAMES[str(entry.get("type") or entry["method"])] for entry in records]


@receiver(user_logged_in, dispatch_uid="accounts.factors.missing")
def note_missing_factor(sender: object, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    """Note in the session, at the login, whether the user has to add a second factor."""
    if request is not None and _is_required() and not has_second_factor(user):
        # The provider of single sign-on decides about second factors itself.
        request.session[MISSING_SESSION_KEY] = METHOD_NAMES["socialaccount"] not in methods_used(request, user)


def is_missing(request: HttpRequest, user: User) -> bool:
    """Return whether the user has to add a second factor before anything else."""
    if not request.session.get(MISSING_SESSION_KEY):
        return False
    if _is_required() and not has_second_factor(user):
        return True
    del request.session[MISSING_SESSION_KEY]
    return False


def _is_required() -> bool:
    return Installation.current().second_factor == Installation.SecondFactor.REQUIRED


def remove_all(user: User, *, by: Actor, now: datetime, reason: str = "") -> int:
    """Remove all second factors of a user who lost them, and return their number."""
    with transaction.atomic():
        rows = list(Authenticator.objects.select_for_update().filter(user=user))
        Authenticator.objects.filter(pk__in=[row.pk for row in rows]).delete()
        if rows:
            kinds = sorted({METHOD_NAMES[row.type] for row in rows})
            record(
                AuditEvent("person.second_factor_reset", user, old={"had": kinds}, reason=reason),
                by=by,
                now=now,
            )
    return len(rows)


def reseal_all() -> int:
    """Reseal all secrets of second factors with the first vault key, and return their number. Raises VaultError."""
    return sum(_reseal(pk) for pk in Authenticator.objects.order_by("pk").values_list("pk", flat=True))


def count_unreadable() -> tuple[int, int]:
    """Return how many second factors the vault can't unseal, and how many are sealed."""
    tried = [
        _is_unreadable(row) for row in Authenticator.objects.all() if any(name in row.data for name in SEALED_FIELDS)
    ]
    return sum(tried), len(tried)


def _is_unreadable(row: Authenticator) -> bool:
    try:
        for name in SEALED_FIELDS:
            if name in row.data:
                vault().unseal(row.data[name].encode())
    except VaultError:
        return True
    return False


def _reseal(pk: int) -> bool:
    with transaction.atomic():
        row = Authenticator.objects.select_for_update().filter(pk=pk).first()
        if row is None or not any(name in row.data for name in SEALED_FIELDS):
            return False
        row.data = {name: _resealed(name, value) for name, value in row.data.items()}
        row.save(update_fields=["data"])
    return True


def _resealed(name: str, value: Any) -> Any:
    return vault().reseal(value.encode()).decode() if name in SEALED_FIELDS else value
