"""Forms of authentication and reauthentication, with throttling."""

from __future__ import annotations

from typing import Any

from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.webauthn.forms import (
    AddWebAuthnForm,
    AuthenticateWebAuthnForm,
    ReauthenticateWebAuthnForm,
)
from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction

from as2certs.accounts.forms import form_helper
from as2certs.accounts.models import User
from as2certs.accounts.throttling import (
    CODE_THROTTLED_MESSAGE,
    THROTTLED_MESSAGE,
    is_code_throttled,
    is_password_throttled,
)
from as2certs.audit.recording import Actor, AuditEvent, client_address, record
from as2certs.clock import database_now
from as2certs.forms import OneLineFieldsMixin, SafeForm

INVALID_PASSKEY_MESSAGE = "This is not a passkey that we can check. Try again."


class _LockingCodeForm(SafeForm):
    """Check the codes of a user one at a time, by a row lock, unless too many were wrong."""

    user: User

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = "Code"
        self.fields["code"].widget.attrs = {"autocomplete": "one-time-code", "autofocus": True}
        self.fields["code"].help_text = "Six digits from your authenticator app, or a recovery code."
        self.helper = form_helper("code")

    def clean_code(self) -> str:
        with transaction.atomic():
            User.objects.select_for_update().get(pk=self.user.pk)
            if is_code_throttled(self.user, now=database_now()):
                raise ValidationError(CODE_THROTTLED_MESSAGE, code="resting")
            try:
                return str(super().clean_code())  # type: ignore[misc]
            except ValidationError as error:
                wrong = error
        raise wrong  # outside of the transaction, so that the entry in the trail is kept


class CodeForm(_LockingCodeForm, AuthenticateForm):
    """The code at the login, after the password."""


class ConfirmByCodeForm(_LockingCodeForm, ReauthenticateForm):
    """Reauthentication by a code."""


class ConfirmByPasswordForm(SafeForm):
    """Reauthentication by the password."""

    password = forms.CharField(
        label="Your password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
        help_text="The one you log in with.",
    )

    helper = form_helper("password")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_password(self) -> str:
        """Check the password, unless too many were wrong; record a wrong one."""
        request, now = context.request, database_now()
        if is_password_throttled(self.user, address=client_address(request), now=now):
            raise ValidationError(THROTTLED_MESSAGE, code="resting")
        if not self.user.check_password(self.cleaned_data["password"]):
            with transaction.atomic():
                record(AuditEvent("person.confirmation_refused", self.user), by=Actor.of(request), now=now)
            raise ValidationError("This is not your password.", code="wrong_password")
        return ""


class AddAppForm(OneLineFieldsMixin, ActivateTOTPForm):
    """The first code of an authenticator app, which proves that it has the key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = "The code that the app shows now"
        self.fields["code"].widget.attrs = {"autocomplete": "one-time-code", "inputmode": "numeric"}
        self.helper = form_helper("code")


class CredentialField(forms.JSONField):
    """A passkey's credential from the browser: a JSON object. Anything else is a validation error."""

    def to_python(self, value: Any) -> Any:
        try:
            credential = super().to_python(value)
        except (ValueError, RecursionError):  # huge numbers, deep nesting
            credential = None
        if not isinstance(credential, dict):
            raise ValidationError(INVALID_PASSKEY_MESSAGE, code="invalid")
        return credential

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial  # the next attempt sends a new one


class _PasskeyFormBase(SafeForm):
    """Validate the credential of a passkey, which may be forged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["credential"] = CredentialField(widget=forms.HiddenInput)

    def full_clean(self) -> None:
        try:
            super().full_clean()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # The libraries expect a credential made by a browser, and raise these for anything else.
            self.add_error("credential", ValidationError(INVALID_PASSKEY_MESSAGE, code="invalid"))


class PasskeyForm(_PasskeyFormBase, AuthenticateWebAuthnForm):
    """A passkey at the login, after the password."""


class ConfirmByPasskeyForm(_PasskeyFormBase, ReauthenticateWebAuthnForm):
    """Reauthentication by a passkey."""


class AddPasskeyForm(_PasskeyFormBase, AddWebAuthnForm):
    """The name of a new passkey, and its credential."""

    name = forms.CharField(
        required=False,
        max_length=60,
        label="Name",
        help_text="So that you tell it from others: the device, or the key’s colour.",
    )

    helper = form_helper("name", "credential")
