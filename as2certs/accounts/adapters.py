"""What django-allauth asks of this application: its words, where it stores secrets, and when to ask again."""

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

#: What is said in place of allauth's own templates; what is not here goes without saying.
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
    """Nobody signs up by themselves, and people are told what we say."""

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
        """Ask again unless it was asked a moment ago."""
        return not reauthentication.is_sufficient(context.request, app=app)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        """Return the ways to show again who one is, the usual one first, in our words."""
        ways = super().get_reauthentication_methods(user)
        ways = [
            {**way, "description": METHOD_DESCRIPTIONS.get(way["id"], way["description"])} for way in ways
        ]
        if sign_on.is_linked(user):
            ways.append(
                {
                    "id": "sign-on",
                    "description": f"with {sign_on.provider_name()}",
                    "url": reverse("confirm-sign-on"),
                }
            )
        return ways


class SecondFactorAdapter(DefaultMFAAdapter):
    """Seal what second factors are checked against, and draw the QR code with what we have."""

    error_messages = {**DefaultMFAAdapter.error_messages, "incorrect_code": WRONG_CODE_MESSAGE}

    def get_totp_label(self, user: Any) -> str:
        return user.username

    def build_totp_svg(self, url: str) -> str:
        drawn = BytesIO()
        segno.make(url, error="m", micro=False).save(drawn, kind="svg", scale=5, border=4, light="#fff")
        return drawn.getvalue().decode()

    def encrypt(self, text: str) -> str:
        return vault().seal(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return vault().unseal(encrypted_text.encode()).decode()

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        return "Passkey"
