"""Throttle wrong passwords and codes per account: after too many, none is checked for a while."""

from __future__ import annotations

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

#: Verbs of wrong passwords, on any page.
FAILED_PASSWORD_VERBS = ("person.login_failed", "person.password_refused", "person.confirmation_refused")
#: The recorded reason if a password was not checked; such attempts don't prolong the throttling.
THROTTLED_REASON = "Not looked at: too many wrong passwords before."
THROTTLED_MESSAGE = "Too many wrong passwords: for ten minutes none is looked at. Wait, and try again."


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


class ThrottledBackend(ModelBackend):
    """Authenticate by password, unless the account is throttled; and read permissions at once."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the user or None. Raises PermissionDenied, which ends the login, while the account is throttled."""
        user = User.objects.filter(username=str(username or "")[:150]).first()
        address = client_address(request) if request else None
        if user is not None and is_password_throttled(user, address=address, now=database_now()):
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
