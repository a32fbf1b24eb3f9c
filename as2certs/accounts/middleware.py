"""Middleware for logged-in users: their time zone, a password of their own, a second factor where it is required."""

from __future__ import annotations

import zoneinfo
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

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


class RedirectMiddleware:
    """Redirect a user before the view runs, except from the pages in ``ALLOWED``."""

    ALLOWED: ClassVar[frozenset[str]]

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: object) -> HttpResponse | None:
        name = request.resolver_match.url_name if request.resolver_match else None
        if name in self.ALLOWED or not isinstance(request.user, User):
            return None
        target = self.target(request, request.user)
        return redirect(target) if target else None

    @abstractmethod
    def target(self, request: HttpRequest, user: User) -> str | None:
        """Return the name of the URL to redirect the user to, if any."""


class PasswordChangeMiddleware(RedirectMiddleware):
    """Redirect users who logged in with a password that was set for them to the page that changes it."""

    ALLOWED = frozenset({"password-change", "logout", "healthz", "readyz"})

    def target(self, request: HttpRequest, user: User) -> str | None:
        return "password-change" if user.must_change_password else None


class SecondFactorMiddleware(RedirectMiddleware):
    """Redirect users who must have a second factor, and have none, to the page that adds one."""

    ALLOWED = PasswordChangeMiddleware.ALLOWED | {
        "mfa_index",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "mfa_view_recovery_codes",
        "account_reauthenticate",
        "confirm-sign-on",
        "sign-on-return",
    }

    def target(self, request: HttpRequest, user: User) -> str | None:
        return "mfa_index" if second_factors.is_missing(request, user) else None
