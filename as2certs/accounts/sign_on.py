"""Single sign-on by OpenID Connect: whom we know by it, and with which roles. openid.py speaks with the provider.

People are known by issuer and subject. An equal user name or e-mail address makes nobody somebody else: only an
administrator links an account that is here already (``manage.py link_sign_on``).
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
    """Say whether people can log in at a provider."""
    return settings.AS2CERTS_OIDC is not None


def provider_settings() -> dict[str, Any]:
    """Return what the settings say of the provider, where it is on."""
    given: dict[str, Any] | None = settings.AS2CERTS_OIDC
    assert given is not None  # asked only where it is on
    return given


def provider_name() -> str:
    """Return what people call the provider."""
    return str(provider_settings()["name"])


def provider_id() -> str:
    """Return under which name accounts of this issuer are stored: another issuer's subjects are other people."""
    return f"oidc-{hashlib.sha256(provider_settings()['issuer'].encode()).hexdigest()[:24]}"


def is_linked(user: Any) -> bool:
    """Say whether somebody can log in at the provider."""
    return is_enabled() and SocialAccount.objects.filter(user_id=user.pk, provider=provider_id()).exists()


def roles_from_claims(claims: Mapping[str, Any]) -> list[str]:
    """Return the roles that the groups of somebody stand for, the mightiest last."""
    groups = claims.get(provider_settings()["groups_claim"])
    groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    mapped = provider_settings()["groups"]
    found = {role for group in groups if isinstance(group, str) for role in mapped.get(group, ())}
    return [role for role in ROLE_PERMISSIONS if role in found]


def set_roles(user: User, roles: list[str], request: HttpRequest) -> None:
    """Give somebody exactly these roles. Only the Administrator's opens Django admin; nobody is made a superuser."""
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
    """Return the user name of somebody new: the provider's, in letters that we take."""
    wished = str(claims.get("preferred_username") or claims.get("email") or "")
    return re.sub(r"[^\w.@+-]+", "-", wished)[:150] or f"sign-on-{secrets.token_hex(4)}"


def link(user: User, subject: str, *, by: Actor) -> None:
    """Let somebody who has an account here log in at the provider. Raises ValidationError if another one does."""
    with transaction.atomic():
        other = SocialAccount.objects.filter(provider=provider_id(), uid=subject).first()
        if other is not None:
            raise ValidationError(f"“{subject}” is linked to {other.user.username} already.")
        SocialAccount.objects.create(user=user, provider=provider_id(), uid=subject)
        record(AuditEvent("person.sign_on_linked", user, new={"subject": subject}), by=by, now=database_now())


def unlink(user: User, *, by: Actor) -> int:
    """Take the provider's way in from somebody, and return how many there were."""
    with transaction.atomic():
        count, _ = SocialAccount.objects.filter(user=user, provider=provider_id()).delete()
        if count:
            record(AuditEvent("person.sign_on_unlinked", user), by=by, now=database_now())
    return int(count)


def provider_actor(request: HttpRequest) -> Actor:
    """Return who it was that made somebody, or gave them roles."""
    return Actor(name=provider_name(), source="web", address=client_address(request))
