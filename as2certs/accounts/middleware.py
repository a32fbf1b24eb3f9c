"""What goes with each request of somebody who is logged in: their time zone, and a password that is theirs."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from as2certs.accounts import second_factors
from as2certs.accounts.models import User

GetResponse = Callable[[HttpRequest], HttpResponse]


class TimeZoneMiddleware:
    """Show times in the zone of the person who reads."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with timezone.override(user_zone(request)):
            return self.get_response(request)


def user_zone(request: HttpRequest) -> zoneinfo.ZoneInfo:
    """Return the reader's zone; UTC for strangers, and where the zone's name is no longer known."""
    name = request.user.time_zone if isinstance(request.user, User) else "UTC"
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return zoneinfo.ZoneInfo("UTC")


class PasswordChangeMiddleware:
    """Lead somebody who logged in with a password made for them to the page where they choose their own."""

    STILL_OPEN = frozenset({"password-change", "logout", "healthz", "readyz"})

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: object) -> HttpResponse | None:
        """Redirect before the view runs; the page of the new password and the log-out stay open."""
        name = request.resolver_match.url_name if request.resolver_match else None
        if getattr(request.user, "must_change_password", False) and name not in self.STILL_OPEN:
            return redirect("password-change")
        return None


class SecondFactorMiddleware:
    """Lead somebody who has to have a second factor, and has none, to the page where they set one up."""

    STILL_OPEN = frozenset(
        {
            "mfa_index",
            "mfa_activate_totp",
            "mfa_add_webauthn",
            "mfa_view_recovery_codes",
            "account_reauthenticate",
            "confirm-sign-on",
            "sign-on-return",
            "password-change",
            "logout",
            "healthz",
            "readyz",
        }
    )

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: object) -> HttpResponse | None:
        """Redirect before the view runs; what is wanted to set one up, and the log-out, stay open."""
        name = request.resolver_match.url_name if request.resolver_match else None
        if name in self.STILL_OPEN or not isinstance(request.user, User):
            return None
        return redirect("mfa_index") if second_factors.is_missing(request, request.user) else None
