"""Adapters of django-allauth: our messages, the encryption of secrets, and when to reauthenticate."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import segno
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from django.contrib import messages
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from as2certs.accounts import reauthentication, sign_on
from as2certs.vault import vault

#: Messages in place of allauth's own templates; others are not shown.
MESSAGES = {
    "mfa/messages/totp_activated.txt": "Your authenticator app is added: from now on, logging in asks for its code.",
    "mfa/messages/totp_deactivated.txt": "Your authenticator app is removed.",
    "mfa/messages/webauthn_added.txt": "Your passkey is added: from now on, logging in asks for it.",
    "mfa/messages/webauthn_removed.txt": "The passkey is removed.",
}

METHOD_DESCRIPTIONS = {
    "reauthenticate": "with your password",
    "mfa_reauthenticate": "with a code of your second factor",
    "mfa_reauthenticate:webauthn": "with your passkey",
}

WRONG_CODE_MESSAGE = "This code is not right. It changes every thirty seconds, and each one works once."


class AccountAdapter(DefaultAccountAdapter):
    """Refuse sign-ups, and replace allauth's messages."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        message_context: dict[str, Any] | None = None,
        extra_tags: str = "",
        message: str | None = None,
    ) -> None:
        text = message or MESSAGES.get(message_template or "")
        if text:
            messages.add_message(request, level, text, extra_tags=extra_tags)

    def respond_user_inactive(self, request: HttpRequest, user: AbstractBaseUser) -> HttpResponse:
        messages.error(request, "This account is closed. Ask an administrator to open it again.")
        return redirect("login")

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Return whether the user has to reauthenticate, which holds for some minutes."""
        return not reauthentication.is_sufficient(context.request, app=app)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """Return the methods of reauthentication with our descriptions, the usual one first."""
        methods = super().get_reauthentication_methods(user)
        methods = [
            {**method, "description": METHOD_DESCRIPTIONS.get(method["id"], method["description"])}
            for method in methods
        ]
        if sign_on.is_linked(user):
            methods.append(
                {
                    "id": "sign-on",
                    "description": f"with {sign_on.provider_name()}",
                    "url": reverse("confirm-sign-on"),
                }
            )
        return methods


class SecondFactorAdapter(DefaultMFAAdapter):
    """Seal the secrets of second factors, and draw the QR code."""

    error_messages = {**DefaultMFAAdapter.error_messages, "incorrect_code": WRONG_CODE_MESSAGE}

    def get_totp_label(self, user: Any) -> str:
        return user.username

    def build_totp_svg(self, url: str) -> str:
        svg = BytesIO()
        segno.make(url, error="m", micro=False).save(svg, kind="svg", scale=5, border=4, light="#fff")
        return svg.getvalue().decode()

    def encrypt(self, text: str) -> str:
        return vault().seal(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return vault().unseal(encrypted_text.encode()).decode()

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        return "Passkey"
