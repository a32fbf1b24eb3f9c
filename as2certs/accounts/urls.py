"""Addresses of people and the installation; those with an underscore have the names that django-allauth looks for."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from as2certs.accounts import factor_views, sign_on_views, views

urlpatterns = [
    path("login/", views.Login.as_view(), name="login"),
    path(
        "login/", views.Login.as_view(), name="account_login"
    ),  # the same, by the name that allauth looks for
    path("login/second-factor/", factor_views.authenticate, name="mfa_authenticate"),
    path("login/sign-on/", sign_on_views.begin, name="sign-on"),
    path("login/sign-on/return/", sign_on_views.come_back, name="sign-on-return"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("account/", views.account, name="account"),
    path("account/password/", views.PasswordChange.as_view(), name="password-change"),
    path("account/confirm/", factor_views.confirm_by_password, name="account_reauthenticate"),
    path("account/confirm/code/", factor_views.confirm_by_code, name="mfa_reauthenticate"),
    path("account/confirm/passkey/", factor_views.confirm_by_passkey, name="mfa_reauthenticate_webauthn"),
    path("account/confirm/sign-on/", sign_on_views.confirm, name="confirm-sign-on"),
    path("account/second-factor/", factor_views.Factors.as_view(), name="mfa_index"),
    path(
        "account/second-factor/", factor_views.Factors.as_view(), name="mfa_list_webauthn"
    ),  # all on one page
    path("account/second-factor/app/", factor_views.add_app, name="mfa_activate_totp"),
    path("account/second-factor/app/remove/", factor_views.remove_app, name="mfa_deactivate_totp"),
    path("account/second-factor/passkeys/", factor_views.add_passkey, name="mfa_add_webauthn"),
    path(
        "account/second-factor/passkeys/<int:pk>/remove/",
        factor_views.remove_passkey,
        name="mfa_remove_webauthn",
    ),
    path("account/second-factor/codes/", factor_views.show_codes, name="mfa_view_recovery_codes"),
    path("account/second-factor/codes/new/", factor_views.make_codes, name="mfa_generate_recovery_codes"),
    path("settings/", views.settings, name="settings"),
]
