"""Single sign-on by OpenID Connect: accounts and their roles. openid.py implements the protocol.

People are identified by issuer and subject, never by user name or e-mail address: only an administrator can link an
existing account (``manage.py link_sign_on``).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Any

from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from as2certs.accounts.models import User
from as2certs.accounts.permissions import ROLE_PERMISSIONS
from as2certs.audit.recording import Actor, AuditEvent, client_address, record
from as2certs.clock import database_now


def is_enabled() -> bool:
    """Return whether single sign-on is configured."""
    return settings.AS2CERTS_OIDC is not None


def provider_settings() -> dict[str, Any]:
    """Return the settings of the provider; single sign-on must be configured."""
    config: dict[str, Any] | None = settings.AS2CERTS_OIDC
    assert config is not None
    return config


def provider_name() -> str:
    """Return the display name of the provider."""
    return str(provider_settings()["name"])


def provider_id() -> str:
    """Return the provider id of stored accounts, derived from the issuer: subjects are unique per issuer only."""
    return f"oidc-{hashlib.sha256(provider_settings()['issuer'].encode()).hexdigest()[:24]}"


def is_linked(user: Any) -> bool:
    """Return whether the user can log in by single sign-on."""
    return is_enabled() and SocialAccount.objects.filter(user_id=user.pk, provider=provider_id()).exists()


def roles_from_claims(claims: Mapping[str, Any]) -> list[str]:
    """Return the roles that the groups in the claims map to, the most powerful last."""
    groups = claims.get(provider_settings()["groups_claim"])
    groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    mapped = provider_settings()["groups"]
    found = {role for group in groups if isinstance(group, str) for role in mapped.get(group, ())}
    return [role for role in ROLE_PERMISSIONS if role in found]


def set_roles(user: User, roles: list[str], request: HttpRequest) -> None:
    """Give a user exactly these roles. Only administrators may use Django admin; nobody becomes a superuser."""
    with transaction.atomic():
        old = sorted(user.groups.values_list("name", flat=True))
        is_staff = user.is_superuser or "administrator" in roles
        if old == sorted(roles) and user.is_staff == is_staff:
            return
        user.groups.set(Group.objects.filter(name__in=roles))
        user.is_staff = is_staff
        user.save(update_fields=["is_staff"])
        by = provider_actor(request)
        now = database_now()
        record(
            AuditEvent("person.roles_set", user, old={"roles": old}, new={"roles": sorted(roles)}),
            by=by,
            now=now,
        )


def username_from_claims(claims: Mapping[str, Any]) -> str:
    """Return the user name for a new account: the provider's, with the characters that Django permits."""
    username = str(claims.get("preferred_username") or claims.get("email") or "")
    return re.sub(r"[^\w.@+-]+", "-", username)[:150] or f"sign-on-{secrets.token_hex(4)}"


def link(user: User, subject: str, *, by: Actor) -> None:
    """Link an account to a subject of the provider. Raises ValidationError if another account is linked to it."""
    with transaction.atomic():
        other = SocialAccount.objects.filter(provider=provider_id(), uid=subject).first()
        if other is not None:
            raise ValidationError(f"“{subject}” is linked to {other.user.username} already.")
        SocialAccount.objects.create(user=user, provider=provider_id(), uid=subject)
        record(AuditEvent("person.sign_on_linked", user, new={"subject": subject}), by=by, now=database_now())


def unlink(user: User, *, by: Actor) -> int:
    """Unlink an account from single sign-on, and return the number of links removed."""
    with transaction.atomic():
        count, _ = SocialAccount.objects.filter(user=user, provider=provider_id()).delete()
        if count:
            record(AuditEvent("person.sign_on_unlinked", user), by=by, now=database_now())
    return int(count)


def provider_actor(request: HttpRequest) -> Actor:
    """Return the provider as the actor that creates accounts and assigns roles."""
    return Actor(name=provider_name(), source="web", address=client_address(request))
