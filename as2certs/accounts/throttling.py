"""Throttle wrong passwords and codes: per account none is checked for a while, per address one now and then."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.audit.recording import client_address
from as2certs.clock import database_now

PASSWORD_PERIOD = timedelta(minutes=10)
#: Wrong passwords in that period, per address and in total. The total is higher, so that an attacker at another address
#: does not lock people out soon.
MAX_FAILURES_PER_ADDRESS = 10
MAX_FAILURES = 50

#: Wrong passwords in that period from one address, on any accounts, after which it is slowed: then only one password in
#: ADDRESS_PAUSE is checked from there. It is not locked out, because a whole office may have one address.
MAX_FAILURES_BEFORE_SLOW = 30
ADDRESS_PAUSE = timedelta(seconds=10)
#: More wrong passwords than can be checked in PASSWORD_PERIOD on a large machine.
MAX_LOOKED_AT = 5000
#: Whoever logged in from a slowed address within this time is not kept waiting there, up to so many wrong passwords.
KNOWN_PERIOD = timedelta(days=30)
MAX_KNOWN_FAILURES = 3

#: Verbs of wrong passwords, on any page.
FAILED_PASSWORD_VERBS = ("person.login_failed", "person.password_refused", "person.confirmation_refused")
#: The recorded reason if a password was not checked; such attempts don't prolong the throttling.
THROTTLED_REASON = "Not looked at: too many wrong passwords before."
THROTTLED_MESSAGE = "Too many wrong passwords: for ten minutes none is looked at. Wait, and try again."
ADDRESS_SLOWED_MESSAGE = (
    "Many wrong passwords came from your network’s address, so only one password is looked at in ten seconds. "
    "Wait for ten seconds, and try again."
)

#: A code is only checked after the right password, so that nobody without it can lock the account, and the limit can be
#: low. A guess succeeds three times in a million.
CODE_PERIOD = timedelta(hours=1)
MAX_CODE_FAILURES = 10
CODE_THROTTLED_MESSAGE = "Too many wrong codes: for an hour none is looked at. Wait, or ask an administrator."


def is_code_throttled(user: User, *, now: datetime) -> bool:
    """Return whether too many wrong codes were entered for this user to check another one."""
    wrong = Entry.objects.about(user).filter(verb="person.code_refused", at__gt=now - CODE_PERIOD)
    return wrong[:MAX_CODE_FAILURES].count() >= MAX_CODE_FAILURES


def is_password_throttled(user: User, *, address: str | None, now: datetime) -> bool:
    """Return whether too many wrong passwords were entered for this user to check another one."""
    wrong = (
        Entry.objects.about(user)
        .filter(verb__in=FAILED_PASSWORD_VERBS, at__gt=now - PASSWORD_PERIOD)
        .exclude(reason=THROTTLED_REASON)
    )
    addresses = list(wrong.values_list("address", flat=True)[:MAX_FAILURES])
    return len(addresses) >= MAX_FAILURES or addresses.count(address) >= MAX_FAILURES_PER_ADDRESS


def is_address_slowed(user: User | None, *, address: str | None, now: datetime) -> bool:
    """Return whether a login from this address has to wait, because of wrong passwords on any accounts.

    ``user`` is whose password it would be; None if nobody has the name. Without an address (a Unix socket), all
    requests count as from one.
    """
    wrong = (
        Entry.objects.filter(verb__in=FAILED_PASSWORD_VERBS, at__gt=now - PASSWORD_PERIOD)
        .exclude(reason=THROTTLED_REASON)
        .order_by("-id")
        .values_list("address", "at")
    )
    network = _network(address)
    moments = [at for other, at in wrong[:MAX_LOOKED_AT] if _network(other) == network]
    if len(moments) < MAX_FAILURES_BEFORE_SLOW or now - max(moments) >= ADDRESS_PAUSE:
        return False
    return user is None or not _is_known(user, network=network, now=now)


def _network(address: str | None) -> str | None:
    """Return what counts as one address: of IPv6 the first 64 bits, in which a subscriber has all (RFC 6177)."""
    if address is None or ":" not in address:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False))


def _is_known(user: User, *, network: str | None, now: datetime) -> bool:
    """Return whether this user logged in from there before, and gave few wrong passwords there lately."""
    mine = Entry.objects.about(user)
    wrong = mine.filter(verb__in=FAILED_PASSWORD_VERBS, at__gt=now - PASSWORD_PERIOD).exclude(reason=THROTTLED_REASON)
    logins = mine.filter(verb="person.logged_in", at__gt=now - KNOWN_PERIOD)
    failures = [_network(address) for address in wrong.values_list("address", flat=True)[:MAX_FAILURES]]
    return failures.count(network) < MAX_KNOWN_FAILURES and any(
        _network(address) == network
        for address in logins.order_by("address").values_list("address", flat=True).distinct()
    )


def is_login_throttled(user: User | None, *, address: str | None, now: datetime) -> bool:
    """Return whether a password is not checked at the login, for its account or for its address."""
    if user is not None and is_password_throttled(user, address=address, now=now):
        return True
    return is_address_slowed(user, address=address, now=now)


class ThrottledBackend(ModelBackend):
    """Authenticate by password, unless the account or the address is throttled; and read permissions at once."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the user or None. Raises PermissionDenied, which ends the login, while it is throttled."""
        user = User.objects.filter(username=str(username or "")[:150]).first()
        address = client_address(request) if request else None
        if is_login_throttled(user, address=address, now=database_now()):
            User().set_password(password)  # as slow as checking it, so that the timing reveals nothing
            raise PermissionDenied
        return super().authenticate(request, username=username, password=password, **kwargs)

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """Return the user's own permissions and those of its groups, as Django does, but by one query on each page."""
        if not user_obj.is_active or user_obj.is_anonymous or user_obj.is_superuser or obj is not None:
            return super().get_all_permissions(user_obj, obj)
        if not hasattr(user_obj, "_perm_cache"):
            names = ("content_type__app_label", "codename")
            own = Permission.objects.filter(user=user_obj).order_by().values_list(*names)
            groups = Permission.objects.filter(group__user=user_obj).order_by().values_list(*names)
            user_obj._perm_cache = {f"{app}.{codename}" for app, codename in own.union(groups)}
        return set(user_obj._perm_cache)
