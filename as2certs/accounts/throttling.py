"""Nobody tries passwords fast: after some wrong ones an account rests, and none is looked at for a while."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from as2certs.accounts.models import User
from as2certs.audit.models import Entry
from as2certs.audit.recording import client_address
from as2certs.clock import database_now

PASSWORD_PERIOD = timedelta(minutes=10)
#: Wrong passwords within that time from one address, and from all: a stranger elsewhere does not lock people out soon.
MAX_FAILURES_PER_ADDRESS = 10
MAX_FAILURES = 50

#: What the trail says of a password that was wrong, at whatever page it was asked for.
FAILED_PASSWORD_VERBS = ("person.login_failed", "person.password_refused", "person.confirmation_refused")
#: The reason in the trail where a password was not even looked at; such attempts don't prolong the rest.
THROTTLED_REASON = "Not looked at: too many wrong passwords before."
#: What somebody is told whose own password is not looked at.
THROTTLED_MESSAGE = "Too many wrong passwords: for ten minutes none is looked at. Wait, and try again."


#: Codes of a second factor are only asked of people whose password is right: so few wrong ones, from anywhere, are
#: enough to stop, and no stranger can lock anybody out. A guess is right three times in a million.
CODE_PERIOD = timedelta(hours=1)
MAX_CODE_FAILURES = 10
#: What somebody is told whose code is not looked at.
CODE_THROTTLED_MESSAGE = "Too many wrong codes: for an hour none is looked at. Wait, or ask an administrator."


def is_code_throttled(user: User, *, now: datetime) -> bool:
    """Say whether so many wrong codes of a second factor were given for this person that no other is looked at."""
    wrong = Entry.objects.about(user).filter(verb="person.code_refused", at__gt=now - CODE_PERIOD)
    return wrong[:MAX_CODE_FAILURES].count() >= MAX_CODE_FAILURES


def is_password_throttled(user: User, *, address: str | None, now: datetime) -> bool:
    """Say whether so many wrong passwords were given for this person lately that no other is looked at."""
    wrong = (
        Entry.objects.about(user)
        .filter(verb__in=FAILED_PASSWORD_VERBS, at__gt=now - PASSWORD_PERIOD)
        .exclude(reason=THROTTLED_REASON)
    )
    addresses = list(wrong.values_list("address", flat=True)[:MAX_FAILURES])
    return len(addresses) >= MAX_FAILURES or addresses.count(address) >= MAX_FAILURES_PER_ADDRESS


class ThrottledBackend(ModelBackend):
    """Log people in by their password, unless their account rests."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the person, or None; raise PermissionDenied, which ends the login, while the account rests."""
        user = User.objects.filter(username=str(username or "")[:150]).first()
        address = client_address(request) if request else None
        if user is not None and is_password_throttled(user, address=address, now=database_now()):
            User().set_password(password)  # as slow as looking at it: the time tells nothing
            raise PermissionDenied
        return super().authenticate(request, username=username, password=password, **kwargs)
