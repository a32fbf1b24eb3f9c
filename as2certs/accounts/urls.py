"""URLs of accounts and settings; those with underscores have the names that django-allauth expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.views import LogoutView
from django.http import HttpRequest, HttpResponseBase
from django.urls import path
from django.utils.module_loading import import_string

from as2certs.accounts import views


def lazy_view(name: str) -> Callable[..., HttpResponseBase]:
    """Return a view, given as "module.name", whose module is imported with its first request.

    Every process loads the URLs, but few need what these modules import: WebAuthn, OpenID Connect, HTTP.
    """

    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        target: Callable[..., HttpResponseBase] = import_string(f"as2certs.accounts.{name}")
        return target(request, *args, **kwargs)

    return view


urlpatterns = [
    path("login/", views.Login.as_view(), name="login"),
    path("login/", views.Login.as_view(), name="account_login"),  # the name that allauth expects
    path("login/second-factor/", lazy_view("second_factor_views.authenticate"), name="mfa_authenticate"),
    path("login/sign-on/", lazy_view("sign_on_views.begin"), name="sign-on"),
    path("login/sign-on/return/", lazy_view("sign_on_views.callback"), name="sign-on-return"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("account/", views.account, name="account"),
    path("account/password/", views.PasswordChange.as_view(), name="password-change"),
    path(
        "account/confirm/",
        lazy_view("second_factor_views.confirm_by_password"),
        name="account_reauthenticate",
    ),
    path("account/confirm/code/", lazy_view("second_factor_views.confirm_by_code"), name="mfa_reauthenticate"),
    path(
        "account/confirm/passkey/",
        lazy_view("second_factor_views.confirm_by_passkey"),
        name="mfa_reauthenticate_webauthn",
    ),
    path("account/confirm/sign-on/", lazy_view("sign_on_views.confirm"), name="confirm-sign-on"),
    path("account/second-factor/", lazy_view("second_factor_views.index"), name="mfa_index"),
    path(
        "account/second-factor/", lazy_view("second_factor_views.index"), name="mfa_list_webauthn"
    ),  # one page for both
    path("account/second-factor/app/", lazy_view("second_factor_views.add_app"), name="mfa_activate_totp"),
    path(
        "account/second-factor/app/remove/",
        lazy_view("second_factor_views.remove_app"),
        name="mfa_deactivate_totp",
    ),
    path(
        "account/second-factor/passkeys/",
        lazy_view("second_factor_views.add_passkey"),
        name="mfa_add_webauthn",
    ),
    path(
        "account/second-factor/passkeys/<int:pk>/remove/",
        lazy_view("second_factor_views.remove_passkey"),
        name="mfa_remove_webauthn",
    ),
    path(
        "account/second-factor/codes/",
        lazy_view("second_factor_views.show_codes"),
        name="mfa_view_recovery_codes",
    ),
    path(
        "account/second-factor/codes/new/",
        lazy_view("second_factor_views.make_codes"),
        name="mfa_generate_recovery_codes",
    ),
    path("settings/", views.settings, name="settings"),
    path("settings/four-eyes/agree/", views.agree_to_four_eyes_off, name="four-eyes-agree"),
    path("settings/four-eyes/keep/", views.keep_four_eyes, name="four-eyes-keep"),
]
