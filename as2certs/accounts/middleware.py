"""Middleware for logged-in users: their time zone, a password of their own, a second factor where it is required."""

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
    """Activate the user's time zone."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with timezone.override(user_zone(request)):
            return self.get_response(request)


def user_zone(request: HttpRequest) -> zoneinfo.ZoneInfo:
    """Return the user's time zone; UTC for anonymous users and for names that no longer exist."""
    name = request.user.time_zone if isinstance(request.user, User) else "UTC"
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return zoneinfo.ZoneInfo("UTC")


class PasswordChangeMiddleware:
    """Redirect users who logged in with a password that was set for them to the page that changes it."""

    ALLOWED = frozenset({"password-change", "logout", "healthz", "readyz"})

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: object) -> HttpResponse | None:
        """Redirect before the view runs, except from the pages in ``ALLOWED``."""
        name = request.resolver_match.url_name if request.resolver_match else None
        if getattr(request.user, "must_change_password", False) and name not in self.ALLOWED:
            return redirect("password-change")
        return None


class SecondFactorMiddleware:
    """Redirect users who must have a second factor, and have none, to the page that adds one."""

    ALLOWED = frozenset(
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
        """Redirect before the view runs, except from the pages in ``ALLOWED``."""
        name = request.resolver_match.url_name if request.resolver_match else None
        if name in self.ALLOWED or not isinstance(request.user, User):
            return None
        return redirect("mfa_index") if second_factors.is_missing(request, request.user) else None
